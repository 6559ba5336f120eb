"""The journal as a source, beside a real journald: rotation, vacuum, restarts, truncation, readers."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.events import Record
from agent.sources.file_source import FileSource
from agent.sources.journal_entry import JournalReader
from agent.sources.journal_reader import open_reader
from agent.sources.journal_source import JournalSource, has_logins
from agent.sources.journalctl_reader import JournalctlReader
from agent.sources.source import SourceError
from tests.support.journald import Journald, require_journald
from tests.support.waiting import eventually

MIB = 1024 * 1024
Open = Callable[[Path | None], JournalReader]


@pytest.fixture
def journald() -> Iterator[Journald]:
    require_journald()
    with Journald() as running:
        yield running


@pytest.fixture(params=[open_reader, JournalctlReader], ids=["libsystemd", "journalctl"])
def open_journal(request: pytest.FixtureRequest) -> Open:
    return request.param  # type: ignore[no-any-return]


class Reading:
    """A source on a journal, read again and again."""

    def __init__(
        self,
        journald: Journald,
        open_journal: Open = open_reader,
        cursor: str | None = None,
        look_back: float | None = None,
    ) -> None:
        self.source = JournalSource(
            cursor,
            interval=0.1,
            now=0.0,
            wall=time.time,
            look_back=look_back,
            directory=journald.directory,
            journald=journald.socket,
            open_journal=open_journal,
        )
        self.records: list[Record] = []
        self.lost: list[str] = []
        self.read()

    def read(self, budget: int = 100) -> None:
        batch = self.source.read(budget, time.monotonic())
        self.records += batch.records
        self.lost += batch.lost

    def texts(self, count: int) -> list[str]:
        """Return the texts of all records once there are so many."""

        def there() -> bool:
            self.read()
            return len(self.records) >= count

        eventually(there, what=f"{count} records, there are {[record.text for record in self.records]}")
        return [record.text for record in self.records]


def test_records_are_read_once_and_in_order(journald: Journald, open_journal: Open) -> None:
    """Entries of sshd come with their writer and journald's own time; those of other programs do not come."""
    reading = Reading(journald, open_journal)
    before = time.time()
    journald.log("sshd", "one", "two")
    journald.log("cron", "nothing of interest", priority=30)
    failed = "Failed password for root from 203.0.113.7 port 1 ssh2"
    journald.log("sshd", failed)
    assert reading.texts(3) == ["one", "two", failed]
    record = reading.records[-1]
    assert (record.origin.identifier, record.origin.uid, record.origin.pid) == ("sshd", 0, os.getpid())
    assert record.at is not None
    assert before - 1 <= record.at <= time.time() + 1
    assert not record.vouched
    reading.source.close()


def test_a_restart_goes_on_behind_the_last_entry(journald: Journald, open_journal: Open) -> None:
    """Nothing is read twice and nothing is left out, whether the journal was rotated meanwhile or not."""
    reading = Reading(journald, open_journal)
    journald.log("sshd", "one")
    reading.texts(1)
    cursor = reading.source.cursor
    reading.source.close()
    journald.log("sshd", "two")
    journald.rotate()
    journald.log("sshd", "three")
    again = Reading(journald, open_journal, cursor)
    assert again.texts(2) == ["two", "three"]
    assert again.lost == []
    again.source.close()


def test_a_rotation_while_it_is_read_is_followed(journald: Journald, open_journal: Open) -> None:
    """Entries of the old and of the new file come in order."""
    reading = Reading(journald, open_journal)
    journald.log("sshd", "one")
    journald.rotate()
    journald.log("sshd", "two")
    assert reading.texts(2) == ["one", "two"]
    journald.vacuum()
    journald.log("sshd", "three")
    assert reading.texts(3) == ["one", "two", "three"]
    assert reading.lost == []
    reading.source.close()


def test_a_vacuum_of_what_was_read_is_no_gap(journald: Journald) -> None:
    """The entry of the cursor is gone; everything up to the last read was read, so nothing is lost."""
    reading = Reading(journald)
    journald.log("sshd", "one")
    reading.texts(1)
    reading.read()
    cursor = reading.source.cursor
    reading.source.close()
    journald.rotate()
    journald.vacuum()
    journald.log("sshd", "two")
    journald.settle()
    again = Reading(journald, cursor=json.dumps(json.loads(cursor) | {"readTo": time.time()}))
    journald.log("sshd", "three")
    assert again.texts(1)[-1] == "three"
    assert again.lost == []
    again.source.close()


def test_a_vacuum_of_what_was_not_read_is_a_gap_that_is_said(journald: Journald, open_journal: Open) -> None:
    """Entries that went before they were read are a gap with its times, and reading goes on behind it."""
    reading = Reading(journald, open_journal)
    journald.log("sshd", "one")
    reading.texts(1)
    cursor = reading.source.cursor
    reading.source.close()
    journald.log("sshd", "lost")
    journald.rotate()
    journald.vacuum()
    journald.log("sshd", "two")
    journald.settle()
    again = Reading(journald, open_journal, json.dumps(json.loads(cursor) | {"readTo": time.time() - 3600}))
    assert again.texts(1)[-1] == "two"
    assert len(again.lost) == 1
    assert "the journal no longer has its entries from" in again.lost[0]
    again.source.close()


def test_a_vacuum_while_the_reader_is_behind_is_a_gap_that_is_said(journald: Journald) -> None:
    """Entries that are removed while the guard has them still to read are a gap; what is left is read."""
    reading = Reading(journald)
    journald.log("sshd", *(str(number) for number in range(250)))
    journald.settle()

    def is_behind() -> bool:
        before = len(reading.records)
        reading.read(10)
        return len(reading.records) - before == 10

    eventually(is_behind, what="ten of them")
    seen = len(reading.records)
    assert seen < 250
    journald.rotate()
    journald.vacuum()
    journald.log("sshd", "after")
    journald.settle()
    eventually(lambda: reading.read() or reading.lost, what="the gap")
    (gap,) = reading.lost
    assert "the journal no longer has its entries from" in gap
    assert reading.texts(seen + 1)[seen:] == ["after"]
    reading.source.close()


def test_looking_back_begins_before_the_first_start(journald: Journald, open_journal: Open) -> None:
    """A first start reads what is there already, as a look back that ends with the journal."""
    journald.log("sshd", "one", "two")
    journald.settle()
    reading = Reading(journald, open_journal, look_back=time.time() - 86_400)
    assert reading.texts(2) == ["one", "two"]
    eventually(lambda: reading.read() or not reading.source.looking_back, what="the end of the look back")
    assert all(not record.live for record in reading.records)
    reading.source.close()


def test_a_journal_that_stops_is_silent_until_it_runs_again(journald: Journald) -> None:
    """With no journald behind the socket nothing can reach the guard; it says so, and is well again by itself."""
    reading = Reading(journald)
    assert reading.source.check(0.0) is None
    journald.stop()
    state = reading.source.check(0.0)
    assert state is not None
    assert state[0] == "silent"
    journald.start()
    assert reading.source.check(0.0) is None
    journald.log("sshd", "back")
    assert reading.texts(1) == ["back"]
    reading.source.close()


def test_a_truncated_journal_ends_nothing(journald: Journald) -> None:
    """A damaged file is an error that is said; once journald has begun a new file reading goes on."""
    reading = Reading(journald)
    journald.log("sshd", "one")
    reading.texts(1)
    journald.stop()
    for file in journald.directory.glob("system*.journal"):
        os.truncate(file, file.stat().st_size // 3)
    journald.start()

    def reads_on() -> bool:
        journald.log("sshd", "two")
        try:
            reading.read()
        except SourceError:
            return False
        return reading.records[-1].text == "two"

    eventually(reads_on, what="an entry after the damage", pause=0.2)
    reading.source.close()


_READ_WHILE_CUT_OFF = """
import os, sys, time
from pathlib import Path
from agent.sources.journal_source import JournalSource
from agent.sources.source import SourceError

directory = Path(sys.argv[1])
source = JournalSource(None, interval=0.1, now=0.0, wall=time.time, look_back=0.001, directory=directory)
while not source.read(1, 0.0).records:  # the first entries are journald's own
    pass
for file in directory.glob("system*.journal"):
    os.truncate(file, 4096)
for _ in range(3):
    try:
        source.read(100, 1.0)
    except SourceError as error:
        print(error)
"""


def test_a_journal_that_is_cut_off_while_it_is_read_does_not_end_the_guard(journald: Journald) -> None:
    """The pages behind the new end are gone: to touch them would be a bus error of the whole process."""
    journald.log("sshd", *(str(number) for number in range(50)))
    journald.settle()
    journald.stop()
    words = [sys.executable, "-c", _READ_WHILE_CUT_OFF, str(journald.directory)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])  # noqa: S603 -- the source itself
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_calls_itself_journald_proves_no_gap(journald: Journald) -> None:
    """Only journald's own messages count as its word: others may give themselves its name."""
    reading = Reading(journald)
    journald.log("systemd-journald", "Suppressed 5000 messages from ssh.service")
    journald.log("sshd", "one")
    assert reading.texts(1) == ["one"]
    assert reading.lost == []
    assert reading.source.check(time.monotonic()) is None
    reading.source.close()


def test_removed_files_are_let_go(journald: Journald) -> None:
    """Files that a vacuum removed are closed at the next read, so that their space is free."""
    reading = Reading(journald)
    journald.log("sshd", "one")
    reading.texts(1)
    journald.rotate()
    reading.read()
    journald.vacuum()

    def held() -> list[str]:
        reading.read()
        maps = Path("/proc/self/maps").read_text().splitlines()
        files = [str(entry.resolve()) for entry in Path("/proc/self/fd").iterdir()]
        return [path for path in maps + files if str(journald.directory) in path and "(deleted)" in path]

    eventually(lambda: not held(), what=f"no removed file held, there are {held()}")
    journald.log("sshd", "two")
    assert reading.texts(2) == ["one", "two"]
    reading.source.close()


def test_a_journal_of_four_gigabytes_is_not_scanned(journald: Journald, open_journal: Open) -> None:
    """The start at the end of a large journal, and a look back, touch what they read and not the rest."""
    journald.log("sshd", "one")
    for _ in range(200):
        journald.log("backup", secrets.token_hex(60_000), priority=30)
    journald.log("sshd", "two")
    journald.settle()
    journald.stop()
    (file,) = journald.directory.glob("system*.journal")
    written = file.stat().st_size
    assert written > 12 * MIB
    os.truncate(file, 4 * 1024 * MIB)
    before = _mapped()
    reading = Reading(journald, open_journal, look_back=time.time() - 86_400)
    assert reading.texts(2) == ["one", "two"]
    at_end = Reading(journald, open_journal)
    assert at_end.records == []
    assert _mapped() - before < written / 4
    reading.source.close()
    at_end.source.close()


def _mapped() -> int:
    """Return the bytes of files that this process has in memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssFile"].split()[0]) * 1024


def test_what_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    """A directory without a journal is `missing`."""
    source = JournalSource(None, interval=0.1, now=0.0, wall=time.time, directory=tmp_path)
    with pytest.raises(SourceError, match="there is no journal in") as refused:
        source.read(10, 0.0)
    assert refused.value.state == "missing"


def test_a_file_that_misses_what_the_journal_has_is_silent(journald: Journald, tmp_path: Path) -> None:
    """A syslog daemon that ended leaves a readable file: sshd has written, and nothing reached the guard."""
    path = tmp_path / "auth.log"
    path.write_text("")
    offset = [0.0]
    source = FileSource(
        path,
        None,
        interval=0.1,
        now=0.0,
        wall=lambda: time.time() + offset[0],
        elsewhere=lambda begin, end: has_logins(begin, end, journald.directory),
    )
    assert source.check(20.0) is None
    journald.log("sshd", "Failed password for root from 203.0.113.7 port 1 ssh2")
    journald.settle()
    offset[0] = 60.0
    state = source.check(40.0)
    assert state is not None
    assert state[0] == "silent"
    path.write_text("Failed password for root from 203.0.113.7 port 1 ssh2\n")
    assert len(source.read(10, 41.0).records) == 1
    assert source.check(60.0) is None
    source.close()
