from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "guard.db")
    yield opened
    opened.close()
