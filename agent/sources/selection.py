"""Builds the configured sources: named files, and with ``--watch auto`` the best log of the host."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.clock import Clock
from agent.options import Options
from agent.sources import cursors, host_logs, journal_source
from agent.sources.file_source import FileSource
from agent.sources.journal_source import JournalSource
from agent.sources.source import Batch, Source, SourceState
from agent.storage.database import Database

LOOK_BACK = 86_400.0
"""The length of the look back at the first start, in seconds."""

_SEARCH_EVERY = 2.0
_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class SourceBuilder:
    """Builds sources with the cursors of earlier runs.

    Attributes:
        database: The guard's database.
        clock: The host's clocks.
        interval: Seconds between two reads of one source.
        journal: The journal's directory; None for the host's own.
    """

    database: Database
    clock: Clock
    interval: float
    journal: Path | None = None

    def file(self, path: Path, *, vouched: bool = False) -> FileSource:
        """Build the source of a log file.

        Raises:
            SourceError: see `FileSource`.
        """
        cursor = self._cursor(f"file:{path}")
        return FileSource(
            path,
            cursor,
            interval=self.interval,
            now=self.clock.monotonic(),
            wall=self.clock.wall,
            look_back=self.clock.wall() - LOOK_BACK,
            vouched=vouched,
            elsewhere=self._in_journal if path in host_logs.AUTH_LOGS else None,
        )

    def log(self, log: host_logs.HostLog) -> Source:
        """Build the source of one of the host's logs.

        Raises:
            SourceError: see `FileSource`.
        """
        if log.path is not None:
            return self.file(log.path)
        return JournalSource(
            self._cursor(host_logs.JOURNAL),
            interval=self.interval,
            now=self.clock.monotonic(),
            wall=self.clock.wall,
            look_back=self.clock.wall() - LOOK_BACK,
            directory=self.journal,
        )

    def chosen(self) -> Source:
        """Build the source of the best log of this host.

        Raises:
            SourceError: no log can be read.
        """
        return self.log(host_logs.choose(host_logs.survey(self.journal)))

    def _in_journal(self, begin: float, end: float) -> bool:
        return journal_source.has_logins(begin, end, self.journal)

    def _cursor(self, name: str) -> str | None:
        return cursors.load(self.database.connection, name)


class AutoSource:
    """The best log of the host; searches until a log exists. See `agent.sources.source.Source`.

    Args:
        build: Builds the source, or raises `SourceError`.
        now: The time of the first search, on the monotonic clock.
    """

    def __init__(self, build: Callable[[], Source], now: float) -> None:
        self._build = build
        self._source: Source | None = None
        self._due = now

    @property
    def name(self) -> str:
        """The name of the log that was found; ``auto`` until then."""
        return _AUTO if self._source is None else self._source.name

    @property
    def needs(self) -> str:
        """The groups, files or capabilities for reading the log that was found."""
        return "a journal or an authentication log" if self._source is None else self._source.needs

    @property
    def due(self) -> float:
        """The time of the next search or read."""
        return self._due if self._source is None else self._source.due

    @property
    def looking_back(self) -> bool:
        """Whether records from before the first start are being read."""
        return self._source is not None and self._source.looking_back

    def read(self, budget: int, now: float) -> Batch:
        """Read the log, or search for one.

        The read that finds the log returns no records: the caller asks for `looking_back` before each read, and
        records from before the first start lead to no action.
        """
        if self._source is not None:
            return self._source.read(budget, now)
        self._due = now + _SEARCH_EVERY
        self._source = self._build()
        return Batch((), "", more=True)

    def skip_to_end(self) -> None:
        """See `agent.sources.source.Source`."""
        if self._source is not None:
            self._source.skip_to_end()

    def check(self, now: float) -> tuple[SourceState, str] | None:
        """See `agent.sources.source.Source`."""
        return None if self._source is None else self._source.check(now)

    def close(self) -> None:
        """Close the log."""
        if self._source is not None:
            self._source.close()


def build_sources(options: Options, builder: SourceBuilder) -> list[Source]:
    """Return the sources that the start options select.

    Raises:
        SourceError: a named log cannot be followed.
    """
    sources: list[Source] = [builder.file(path) for path in options.logs]
    sources += [builder.file(path, vouched=True) for path in options.trusted_logs]
    if options.watches_auto:
        sources.append(AutoSource(builder.chosen, builder.clock.monotonic()))
    return sources
