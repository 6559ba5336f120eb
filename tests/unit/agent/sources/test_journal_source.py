"""The journal as a source, on a journal in memory: dropped records, look backs, and when it is opened anew."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.sources.journal_entry import JournalEntry
from agent.sources.journal_source import JournalSource

NOW = 1_790_000_000.0
SUPPRESSED = {
    # as systemd 252 stored it
    "SYSLOG_IDENTIFIER": "systemd-journald",
    "MESSAGE": "Suppressed 1812 messages from ssh.service",
    "MESSAGE_ID": "a596d6fe7bfa4994828e72309e95d61e",
    "_TRANSPORT": "driver",
}


class Journal:
    """A journal in memory, whose readers can be counted; a cursor is an entry's number."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.opened = 0
        self.removed = 0

    def add(self, fields: dict[str, str], at: float = NOW) -> None:
        self.entries.append(JournalEntry(fields, at, str(len(self.entries))))

    def fail(self, count: int, at: float = NOW) -> None:
        for port in range(count):
            message = f"Failed password for root from 203.0.113.7 port {port} ssh2"
            self.add({"SYSLOG_IDENTIFIER": "sshd", "MESSAGE": message}, at + port / 1000)

    def open(self, _directory: Path | None) -> "Reader":
        self.opened += 1
        return Reader(self)


class Reader:
    """A `JournalReader` on it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._place = 0

    def seek(self, cursor: str) -> bool:
        self._place = int(cursor) + 1
        return int(cursor) >= self._journal.removed

    def seek_time(self, at: float) -> None:
        entries = self._journal.entries
        first = next((place for place, entry in enumerate(entries) if entry.at >= at), len(entries))
        self._place = max(first, self._journal.removed)

    def seek_back(self, entries: int, since: float) -> None:
        self.seek_time(since)
        self._place = max(self._place, len(self._journal.entries) - entries)

    def read(self, budget: int) -> Sequence[JournalEntry]:
        found = self._journal.entries[self._place : self._place + budget]
        self._place += len(found)
        return [dataclasses.replace(entry) for entry in found]

    def has_changed(self) -> bool:
        return False

    def oldest(self) -> float | None:
        left = self._journal.entries[self._journal.removed :]
        return left[0].at if left else None

    def close(self) -> None:
        pass


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def watch(journal: Journal, tmp_path: Path) -> Callable[..., JournalSource]:
    (tmp_path / "system.journal").touch()

    def build(cursor: str | None = None, look_back: float | None = None) -> JournalSource:
        return JournalSource(
            cursor,
            interval=1.0,
            now=0.0,
            wall=lambda: NOW,
            look_back=look_back,
            directory=tmp_path,
            open_journal=journal.open,
        )

    return build


def test_dropped_messages_of_sshd_are_told_and_are_over_after_five_minutes(
    journal: Journal, watch: Callable[..., JournalSource]
) -> None:
    """Journald's own word that it suppressed sshd's messages is a gap and a state, which ends by itself."""
    source = watch()
    source.read(10, 0.0)
    journal.add(SUPPRESSED)
    batch = source.read(10, 1.0)
    assert batch.records == []
    (gap,) = batch.lost
    assert "sshd's records are being dropped" in gap
    assert "Suppressed 1812 messages from ssh.service" in gap
    assert source.check(2.0) == ("dropping", gap)
    assert source.check(300.0) == ("dropping", gap)
    assert source.check(301.5) is None


@pytest.mark.parametrize(
    "change",
    [
        {"MESSAGE": "Suppressed 1812 messages from nginx.service"},
        {"_TRANSPORT": "syslog"},
        {"MESSAGE_ID": "e9bf28e6e834481bb6f48f548ad13606", "MESSAGE": "Missed 1035 kernel messages"},
    ],
)
def test_other_words_of_journald_are_no_gap(
    journal: Journal, watch: Callable[..., JournalSource], change: dict[str, str]
) -> None:
    """Another unit, another program with journald's name, and the kernel's messages do not concern this source."""
    source = watch()
    source.read(10, 0.0)
    journal.add(SUPPRESSED | change)
    assert source.read(10, 1.0).lost == []
    assert source.check(2.0) is None


def test_a_newer_gap_is_not_hidden_by_an_older_suppression(
    journal: Journal, watch: Callable[..., JournalSource]
) -> None:
    """After entries were removed unread, the source no longer names the rate limit, which the gap is newer than."""
    source = watch()
    source.read(10, 0.0)
    journal.add(SUPPRESSED)
    source.read(10, 1.0)
    assert source.check(2.0) is not None
    source.close()
    journal.fail(1, NOW + 60)
    journal.removed = 1
    journal.fail(1, NOW + 120)
    (gap,) = source.read(10, 3.0).lost
    assert "the journal no longer has its entries" in gap
    assert source.check(4.0) is None


def test_a_journald_that_does_not_run_is_not_hidden_by_an_older_suppression(journal: Journal, tmp_path: Path) -> None:
    """Silence lasts now, and the suppression is over: `silent` is told."""
    (tmp_path / "system.journal").touch()
    source = JournalSource(
        None,
        interval=1.0,
        now=0.0,
        wall=lambda: NOW,
        directory=tmp_path,
        journald=tmp_path / "socket",
        open_journal=journal.open,
    )
    source.read(10, 0.0)
    journal.add(SUPPRESSED)
    source.read(10, 1.0)
    state = source.check(2.0)
    assert state is not None
    assert state[0] == "silent"


def test_messages_that_were_dropped_an_hour_ago_are_a_gap_and_no_state(
    journal: Journal, watch: Callable[..., JournalSource]
) -> None:
    """What a look back finds is told as a gap; nothing is being dropped now."""
    journal.add(SUPPRESSED, NOW - 3600)
    source = watch(look_back=NOW - 86_400)
    assert len(source.read(10, 0.0).lost) == 1
    assert source.check(1.0) is None


@pytest.mark.parametrize("look_back", [None, NOW - 86_400])
def test_a_journal_that_is_opened_anew_is_read_once(
    journal: Journal, watch: Callable[..., JournalSource], look_back: float | None
) -> None:
    """The reader is replaced while a backlog is read, so that memory is given back, and no entry is read twice."""
    journal.fail(9_000)
    source = watch(look_back=look_back)
    texts, now, more = [], 0.0, True
    while more:
        batch = source.read(1_000, now)
        texts += [record.text for record in batch.records]
        now, more = now + 1, batch.more
    assert texts == [entry.fields["MESSAGE"] for entry in journal.entries]
    assert journal.opened >= 4


def test_a_cursor_that_vacuum_removed_is_one_gap(journal: Journal, watch: Callable[..., JournalSource]) -> None:
    """Entries that went unread are one gap with its times; reading goes on with the oldest that is left."""
    journal.fail(1, NOW - 7200)
    source = watch(look_back=NOW - 86_400)
    cursor = json.loads(source.read(10, 0.0).cursor) | {"readTo": NOW - 7000}
    journal.fail(1, NOW - 3600)
    journal.fail(1, NOW - 1800)
    journal.removed = 2
    again = watch(json.dumps(cursor))
    batch = again.read(10, 0.0)
    assert len(batch.records) == 1
    assert len(batch.lost) == 1
    assert "the journal no longer has its entries from" in batch.lost[0]
    assert again.read(10, 1.0).lost == []


def test_a_journal_that_was_emptied_is_a_gap_once_it_has_an_entry(
    journal: Journal, watch: Callable[..., JournalSource]
) -> None:
    """A vacuum that leaves nothing is told with the first entry that comes after it."""
    journal.fail(1, NOW - 7200)
    source = watch(look_back=NOW - 86_400)
    cursor = json.loads(source.read(10, 0.0).cursor) | {"readTo": NOW - 7000}
    journal.fail(1, NOW - 3600)
    journal.removed = 2
    again = watch(json.dumps(cursor))
    assert again.read(10, 0.0).lost == []
    journal.fail(1, NOW - 10)
    assert len(again.read(10, 1.0).lost) == 1
    assert again.read(10, 2.0).lost == []


def test_order_is_the_journals_whatever_the_clock_says(journal: Journal, watch: Callable[..., JournalSource]) -> None:
    """Entries that were stored after the clock was set back, with earlier times, are read in their order, once."""
    journal.fail(2, NOW)
    source = watch()
    assert len(source.read(10, 0.0).records) == 2
    journal.fail(2, NOW - 86_400)
    assert [record.at for record in source.read(10, 1.0).records] == [NOW - 86_400, NOW - 86_400 + 0.001]
    assert json.loads(source.cursor)["cursor"] == "3"


def test_a_clock_that_was_ahead_hides_no_later_entries(journal: Journal, watch: Callable[..., JournalSource]) -> None:
    """The stored time is the clock's of the last read, so entries after it are found again without their cursor."""
    journal.fail(1, NOW + 2 * 86_400)  # stored while the clock was two days ahead
    source = watch(look_back=NOW - 86_400)
    source.read(10, 0.0)
    assert json.loads(source.cursor)["readTo"] == NOW
