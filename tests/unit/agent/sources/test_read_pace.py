"""The pace at which logs are read: half the interval for five minutes after a record, then the interval again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sources.file_source import FileSource
from agent.sources.journal_entry import JournalEntry
from agent.sources.journal_source import JournalSource
from agent.sources.source import Source

NOW = 1_790_000_000.0


class _Reader:
    """A `JournalReader` of the entries in a list."""

    def __init__(self, entries: list[JournalEntry]) -> None:
        self._entries = entries

    def seek(self, _cursor: str) -> bool:
        return True

    def seek_time(self, _at: float) -> None:
        return

    def seek_back(self, _entries: int, _since: float) -> None:
        return

    def read(self, budget: int) -> list[JournalEntry]:
        found, self._entries[:budget] = self._entries[:budget], []
        return found

    def has_changed(self) -> bool:
        return False

    def oldest(self) -> float | None:
        return None

    def close(self) -> None:
        return


def _journal(folder: Path) -> tuple[Source, Callable[[], None]]:
    entries: list[JournalEntry] = []
    (folder / "system.journal").touch()
    source = JournalSource(
        None, interval=1.0, now=0.0, wall=lambda: NOW, directory=folder, open_journal=lambda _path: _Reader(entries)
    )
    return source, lambda: entries.append(JournalEntry({"SYSLOG_IDENTIFIER": "sshd", "MESSAGE": "text"}, NOW, "1"))


def _file(folder: Path) -> tuple[Source, Callable[[], None]]:
    log = folder / "auth.log"
    log.touch()

    def write() -> None:
        with log.open("a") as file:
            file.write("text\n")

    return FileSource(log, None, interval=1.0, now=0.0, wall=lambda: NOW), write


@pytest.mark.parametrize("build", [_journal, _file])
def test_a_busy_log_is_read_twice_as_often(
    tmp_path: Path, build: Callable[[Path], tuple[Source, Callable[[], None]]]
) -> None:
    """For five minutes after each record; then the interval is that of a log at rest again."""
    source, write = build(tmp_path)
    waits = []
    for now, record in [(0.0, False), (1.0, True), (300.0, False), (301.0, False), (400.0, True), (699.9, False)]:
        if record:
            write()
        assert bool(source.read(10, now).records) == record
        waits.append(source.due - now)
    source.close()
    assert waits == pytest.approx([1.0, 0.5, 0.5, 1.0, 0.5, 0.5])
