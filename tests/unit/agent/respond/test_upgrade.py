"""What becomes of blocks that a guard without a fence recorded: they end at the upgrade, and still count."""

import sqlite3
import time
from pathlib import Path

from agent.respond.own_blocks import OwnBlocks
from agent.respond.recording_responder import RecordingResponder
from agent.storage.database import MIGRATIONS, Database

BEFORE_THE_FENCE = 5
ATTACKER = "203.0.113.7"


def test_recorded_blocks_are_dropped_and_count_as_repetitions(tmp_path: Path) -> None:
    """None of them was ever in force: none is set by the new guard, whatever time is left of it."""
    path, now = tmp_path / "guard.db", time.time()
    with sqlite3.connect(path) as older:
        for script in MIGRATIONS[:BEFORE_THE_FENCE]:
            older.executescript(script)
        older.execute(f"PRAGMA user_version = {BEFORE_THE_FENCE}")
        older.execute("INSERT INTO own_blocks VALUES (?, 'x', ?, 2)", (ATTACKER, now + 3600))
        older.execute("INSERT INTO measures VALUES ('ip', ?, 'x', ?, NULL)", (ATTACKER, now + 3600))
    older.close()
    database = Database.open(path)
    own = OwnBlocks(database)
    assert own.measures(now + 2) == []
    assert list(RecordingResponder(database).in_force()) == []
    assert own.times(ATTACKER) == 2
    own.add(ATTACKER, "again", now + 2, now + 60)
    assert own.times(ATTACKER) == 3
    database.close()
