"""The guard's database on a disk that is really full: kept reports make room for new ones."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent.report.kept_reports import KeptReports
from agent.report.outbox import Outbox
from agent.storage.database import Database
from agent.storage.disk_reserve import RESERVE, DiskReserve
from schemas.limits import MIB
from schemas.threats import Receipt, Severity

BODY = b'{"id":"x","pad":"%b"}' % (b"x" * 600)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Provide a file system of 24 MiB; only root can mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)  # noqa: S603, S607 -- the test's own
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607 -- the test's own


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while file.write(b"\0" * 512):
            pass


@pytest.mark.parametrize("kept_reports", [1_000, 3_000, 8_000])
def test_new_reports_go_before_kept_ones(small_disk: Path, kept_reports: int) -> None:
    """Whether the WAL was ever checkpointed or not: 1,000 new reports fit on a full disk in place of the kept ones."""
    reserve = DiskReserve(small_disk / RESERVE)
    reserve.fill()
    with closing(Database.open(small_disk / "guard.db").connection) as connection:
        database = Database(connection)
        kept = KeptReports(database, 100_000, 64 * MIB, address="", time=lambda: 0.0, reserve=reserve)
        outbox = Outbox(database, 1_000, MIB)
        for first in range(0, kept_reports, 50):
            with database.transaction():
                kept.keep(connection, [(f"k{first + each}", BODY) for each in range(50)], Receipt())
        _fill(small_disk)
        dropped = 0
        for number in range(1_000):
            for _ in range(2):
                try:
                    with database.transaction():
                        assert outbox.add(connection, f"o{number}", BODY, 0.0, Severity.HIGH)
                    break
                except sqlite3.Error as error:
                    outbox.recount()
                    dropped += kept.make_room(error)
        assert (len(outbox), dropped, len(kept)) == (1_000, 1, 0)


def test_a_small_disk_has_no_reserve(small_disk: Path) -> None:
    """The reserve leaves at least its own size free, and is private."""
    DiskReserve(small_disk / "a", 8 * MIB).fill()
    assert (small_disk / "a").stat().st_mode & 0o777 == 0o600
    assert (small_disk / "a").stat().st_blocks * 512 >= 8 * MIB
    DiskReserve(small_disk / "b", 10 * MIB).fill()
    assert not (small_disk / "b").exists()
