from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An engine on a real store and a virtual clock."""
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()
