"""The marker of a store that was moved to PostgreSQL."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from playhouse.migrations import Runner

from manager.errors import SetupError
from manager.key_rotation import rotate_key_file
from manager.storage.connection import close_store, open_reader, open_store
from manager.storage.migrate import MIGRATIONS
from manager.storage.moved_store import Move, mark_moved, move_of
from tests.support.migrated_store import open_migrated

MOVE = Move("postgresql://panguard@db.example/panguard", "copy", 1_800_000_000.0)


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """Provide the path of a store with the marker."""
    path = tmp_path / "panguard.db"
    close_store(open_migrated(path))
    with closing(sqlite3.connect(path)) as database, database:
        mark_moved(database, MOVE)
    return path


@pytest.mark.parametrize("opening", [open_store, open_reader])
def test_a_moved_store_is_not_opened(moved: Path, opening: Callable[[Path], object]) -> None:
    """Neither a writer nor a reader opens it, and the error says where its content is."""
    with pytest.raises(SetupError, match=r"was moved to postgresql://panguard@db\.example/panguard on 2027-01-15"):
        opening(moved)


def test_a_command_on_a_moved_store_says_where_it_is(moved: Path) -> None:
    """The rotation of the key file opens the store like a start does."""
    (moved.parent / "manager.key").write_text("00" * 32)
    (moved.parent / "manager.key").chmod(0o600)
    with pytest.raises(
        SetupError, match=r"commands that open its store, with --database postgresql://panguard@db\.example"
    ):
        rotate_key_file(moved.parent, None)


def test_the_marker_can_be_read(moved: Path) -> None:
    """The marker is what was written; a store without one has none, and neither has a file that is no store."""
    assert move_of(moved) == MOVE
    close_store(open_migrated(moved.parent / "other.db"))
    assert move_of(moved.parent / "other.db") is None
    (moved.parent / "text").write_text("text" * 1000)
    assert move_of(moved.parent / "text") is None
    assert move_of(moved.parent / "none") is None


@pytest.mark.parametrize(
    "marker", ["", "[]", "5", '{"database": 1}', '{"database": "x", "copy": "y", "at": 1e400}', "[" * 100_000]
)
def test_a_damaged_marker_is_a_marker(moved: Path, marker: str) -> None:
    """Whoever changed it, the store is not opened."""
    with closing(sqlite3.connect(moved)) as database, database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'moved_to'", (marker,))
    with pytest.raises(SetupError, match="was moved to another database"):
        open_store(moved)


def test_a_release_without_the_marker_refuses_the_store(moved: Path) -> None:
    """An earlier release finds a migration that it does not have, which it takes for a newer release's."""
    database = open_migrated(moved.parent / "other.db")
    with closing(sqlite3.connect(moved.parent / "other.db")) as writing, writing:
        mark_moved(writing, MOVE)
    unknown = [each.name for each in Runner(database, str(MIGRATIONS)).status() if each.path is None]
    close_store(database)
    assert unknown == ["9999_moved_to_postgresql"]
