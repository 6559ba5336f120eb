from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.engine import Bench


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """Log tracebacks as plain text: the default with all local variables takes a second for each."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An engine on a real store and a virtual clock."""
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()
