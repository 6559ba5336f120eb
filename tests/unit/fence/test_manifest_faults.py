"""A manifest that cannot be written or read ends no fence, and never stands between root and `panic`."""

import sqlite3
from pathlib import Path

import pytest

from fence.manifest import Manifest, ManifestError
from tests.unit.fence.conftest import Bench

ADDRESS, OTHER = "198.51.100.7", "198.51.100.8"


class _FullDisk:
    """A database whose disk is full: SQLite rolls back by itself before it reports that."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def execute(self, statement: str, *given: object) -> object:
        if statement == "COMMIT":
            self._database.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return self._database.execute(statement, *given)  # type: ignore[arg-type]


def _fill(bench: Bench) -> sqlite3.Connection:
    database = bench.manifest._database
    bench.manifest._database = _FullDisk(database)  # type: ignore[assignment]
    return database


def test_a_block_on_a_full_disk_is_answered_as_failed(bench: Bench) -> None:
    """Nothing is set that the manifest does not hold, and the fence goes on."""
    _fill(bench)
    answer = bench.ask("block", value=ADDRESS, seconds=600)
    assert (answer["outcome"], "disk is full" in answer["reason"]) == ("failed", True)
    assert bench.blocked == set()
    assert bench.ask("status")["ok"]
    assert "disk is full" in bench.ask("check")["reasons"][0]["reason"]


def test_lift_works_on_a_full_disk_and_is_written_once_there_is_room(bench: Bench) -> None:
    """What was lifted does not come back, though its removal could not be written at once."""
    bench.ask("block", value=ADDRESS, seconds=600)
    bench.ask("block", value=OTHER, seconds=600)
    database = _fill(bench)
    answer = bench.ask("lift", value=ADDRESS)
    assert (answer["outcome"], "restart" in answer["unwritten"]) == ("lifted", True)
    assert bench.blocked == {OTHER}
    bench.manifest._database = database
    bench.fence.mark_time()
    bench.restart()
    assert bench.blocked == {OTHER}


def test_panic_works_on_a_full_disk_and_holds(bench: Bench) -> None:
    """The table is emptied, checks do not fill it again, and nothing new is taken."""
    bench.ask("block", value=ADDRESS, seconds=600)
    _fill(bench)
    answer = bench.ask("panic")
    assert (answer["outcome"], answer["count"]) == ("lifted", 1)
    bench.ask("check")
    assert bench.blocked == set()
    assert "panic" in bench.ask("block", value=ADDRESS, seconds=600)["reason"]
    assert bench.ask("status")["panic"] is True


def test_a_start_on_a_full_disk_keeps_the_measures(bench: Bench) -> None:
    """Loading writes; that it cannot must not end the fence again and again."""
    bench.ask("block", value=ADDRESS, seconds=600)
    manifest = Manifest(bench.home / "state", bench.boot)
    database = manifest._database
    manifest._database = _FullDisk(database)  # type: ignore[assignment]
    manifest.load(bench.now, bench.wall)
    assert [str(entry.network) for entry in manifest.entries.values()] == [f"{ADDRESS}/32"]
    with pytest.raises(ManifestError, match="disk is full"):
        manifest.mark_time(bench.now, bench.wall)
    database.close()


@pytest.mark.parametrize("damage", [b"no database at all" * 500, None])
def test_a_damaged_manifest_is_set_aside(bench: Bench, damage: bytes | None) -> None:
    """The fence starts with an empty manifest and keeps the damaged file; the guard then sends everything again."""
    bench.ask("block", value=ADDRESS, seconds=600)
    bench.take(5, OTHER)
    bench.manifest.close()
    path = bench.home / "state" / "fence.db"
    content = path.read_bytes()
    path.write_bytes(damage or content[:4096] + bytes(len(content) - 4096))
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    bench.restart()
    assert bench.manifest.set_aside is not None
    assert (bench.home / "state" / "fence.db.damaged").exists()
    assert (bench.blocked, bench.ask("check")["blocklistSequence"]) == (set(), 0)
    assert bench.ask("block", value=ADDRESS, seconds=600)["outcome"] == "taken"


def test_the_guard_cannot_push_out_what_root_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of requests by the guard leaves root's lines."""
    monkeypatch.setattr("fence.manifest.AUDIT_KEPT", 10)
    bench.ask("block", value=ADDRESS, seconds=600)
    for _ in range(30):
        bench.as_guard("nonsense")
    lines = [line for (line,) in bench.manifest._database.execute("SELECT line FROM audit_root")]
    assert [ADDRESS in line for line in lines] == [True]
    assert bench.manifest._database.execute("SELECT count(*) FROM audit").fetchone() == (10,)
    assert bench.manifest.audit_is_whole()


def test_a_changed_a_removed_and_an_inserted_line_of_the_audit_are_found(bench: Bench) -> None:
    """Each line's hash covers the one before it."""
    for number in range(3):
        bench.ask("block", value=f"198.51.100.{number}", seconds=600)
    assert bench.ask("status")["auditIntact"] is True
    database = bench.manifest._database
    for statement in (
        "UPDATE audit_root SET line = '{}' WHERE number = 2",
        "DELETE FROM audit_root WHERE number = 2",
        "INSERT INTO audit_root SELECT 9, at, line, hash FROM audit_root WHERE number = 1",
    ):
        database.execute("BEGIN")
        database.execute(statement)
        assert bench.ask("status")["auditIntact"] is False, statement
        database.execute("ROLLBACK")
    assert bench.ask("status")["auditIntact"] is True


@pytest.mark.parametrize(("step", "left"), [(-86_400.0, 540.0), (0.0, 540.0), (200.0, 340.0), (1000.0, None)])
def test_a_reboot_keeps_the_time_left_whatever_the_clock_says(bench: Bench, step: float, left: float | None) -> None:
    """A clock that is earlier than the manifest's is not believed, a later one shortens."""
    bench.ask("block", value=ADDRESS, seconds=600)
    bench.now += 60
    bench.wall += 60
    bench.fence.mark_time()
    bench.boot, bench.now, bench.wall = "boot-2", 5.0, bench.wall + step
    bench.restart()
    entries = bench.ask("list")["entries"]
    assert [entry["secondsLeft"] for entry in entries] == ([] if left is None else [left])
