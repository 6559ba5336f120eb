"""History of the store: its runs and its generation, and the rule that finds out that it lost commits.

Each receipt carries a mark: the run of the manager that gave it, and the number of commits with reports that the store
had. Guards return their latest mark. A mark of a run that the store does not know, or beyond the commits that the store
had when the next run began, proves that the store lost what the receipt was for: it was restored from an older copy.
Marks are coded with a key that the manager alone has, so no guard can make one up. A database that fails over has
another timeline afterwards: commits may be lost, and the next run asks without a mark. The first run on a database
after runs that had no timeline follows a move of the whole store, which lost nothing.
"""

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from schemas.generations import LARGEST_GENERATION, LONGEST_SPREAD, StoreGeneration
from schemas.message_codes import to_base64url
from schemas.model import utc

KEPT_FOR = 86_400.0
"""Seconds that guards keep reports with a receipt, and that an ask stands."""

SLACK = 60.0
"""Seconds by which an ask reaches further back than the last commit that the store has."""

HISTORY, COMMITS = "store_history", "store_commits"
"""Keys of the stored values: runs and generation; the number of commits with reports, and the time of the last one."""

_RUNS_KEPT_FOR = 2 * KEPT_FOR
_MOST_RUNS = 500
_AGENTS_IN_SECOND = 50.0
_SHORTEST_SPREAD = 5.0
_STEP = 1_000
_CODE_LENGTH = 16


class Mark(NamedTuple):
    """The state of the store at a receipt."""

    generation: int
    run: str
    commits: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the manager on its store. Times are seconds since 1970.

    Attributes:
        id: Random.
        started_at: When it began.
        commits: The number of commits with reports that the store had then.
        data_until: When the last of them was made; None if that is not known.
        timeline: The history of the database; empty where it has but one.
    """

    id: str
    started_at: float
    commits: int
    data_until: float | None
    timeline: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of the store.

    Attributes:
        number: Greater than that of each generation before it.
        made_at: When it began.
        resend_from: Reports with a receipt since then are asked for; None if nothing was lost.
    """

    number: int
    made_at: float
    resend_from: float | None = None


@dataclass(slots=True)
class StoreHistory:
    """The runs of one store, oldest first, and its present generation.

    Attributes:
        key: Codes the marks; 32 bytes.
        commits: The number of commits with reports so far.
        last_commit_at: When the last of those that were loaded was made.
        random_below: Returns a random number; a generation after a clock that was set back so differs from one that
            the store has lost.
    """

    key: bytes = field(repr=False)
    runs: list[Run] = field(default_factory=list)
    generation: Generation = Generation(0, 0.0)
    commits: int = 0
    last_commit_at: float | None = None
    random_below: Callable[[int], int] = secrets.randbelow
    present: str = ""
    """The beginning of the marks of the present run and generation, which show no loss; empty before the first run."""
    _mark: tuple[Mark, str] = (Mark(0, "", 0), "")

    def begin_run(self, now: float, timeline: str = "") -> float | None:
        """Begin a run; the first one of a store begins its first generation.

        Args:
            now: Seconds since 1970.
            timeline: The history of the database.

        Returns:
            Since when receipts may be for reports that the store lost, if the history is another one than the former
            run's; else None.
        """
        former = self.runs[-1].timeline if self.runs else timeline
        if not self.generation.number:
            self.generation = Generation(self._number_above(0, now), now)
        data_until = self.last_commit_at
        if data_until is not None and data_until > now:
            data_until = None  # the clock was set back
        self.runs.append(Run(secrets.token_hex(8), now, self.commits, data_until, timeline))
        kept = [run for run in self.runs if now - run.started_at <= _RUNS_KEPT_FOR]
        before = [run for run in self.runs if now - run.started_at > _RUNS_KEPT_FOR][-1:]
        self.runs = [*before, *kept][-_MOST_RUNS:]
        self._set_present()
        return None if former in {"", timeline} else self._since(self.runs[-1], now)

    def next_commit(self, now: float) -> str:
        """Return the value to store with the next commit that has reports."""
        return f"{self.commits + 1} {now:.3f}"

    def note_commit(self, meta: Mapping[str, str]) -> None:
        """Note that a transaction with these stored values is committed."""
        self.commits += COMMITS in meta

    def receipt_members(self) -> dict[str, Any]:
        """Return the members about the store of a receipt for stored reports; none before the first run."""
        return {"generation": self.generation.number, "mark": self.mark()} if self.runs else {}

    def mark(self) -> str:
        """Return the coded mark of the present state of a store with a run."""
        mark = Mark(self.generation.number, self.runs[-1].id, self.commits)
        if self._mark[0] != mark:
            self._mark = mark, self._coded(mark, self.runs[-1].started_at)
        return self._mark[1]

    def loss_shown_by(self, text: str, now: float) -> float | None:
        """Return since when receipts are for reports that the store lost, as a guard's mark shows; None for no loss.

        Also None where the present ask covers them, or guards do not keep them any more.

        Args:
            text: The mark that a guard states.
            now: Seconds since 1970.

        Raises:
            ValueError: this manager has not made the mark.
        """
        mark, started_at = self._decoded(text)
        successor = self._successor(mark, started_at)
        if successor is None or successor.started_at < now - KEPT_FOR:
            return None
        since = self._since(successor, now)
        asked = self.generation
        is_covered = (
            asked.resend_from is not None
            and asked.number > mark.generation
            and asked.made_at >= successor.started_at
            and asked.resend_from <= since
        )
        return None if is_covered else since

    def ask(self, now: float, since: float, above: int = 0) -> None:
        """Begin a generation that asks for reports again.

        An ask of the last 24 hours that not all guards may have heard is part of it.

        Args:
            now: Seconds since 1970.
            since: Reports with a receipt since then are asked for; 24 hours at most.
            above: The number of a generation that the store has lost.
        """
        if self.is_asking(now) and self.generation.resend_from is not None:
            since = min(since, self.generation.resend_from)
        number = self._number_above(max(above, self.generation.number), now)
        self.generation = Generation(number, now, max(since, now - KEPT_FOR))
        self._set_present()

    def is_asking(self, now: float) -> bool:
        """Return whether guards may still have reports that the present generation asks for."""
        return self.generation.resend_from is not None and now - self.generation.made_at <= KEPT_FOR

    def generation_of(self, text: str) -> int:
        """Return the generation in a mark.

        Raises:
            ValueError: this manager has not made the mark.
        """
        return self._decoded(text)[0].generation

    def message(self, now: float, agents: int) -> StoreGeneration:
        """Return the present generation for guards; their answers are spread by the number of agents."""
        number = self.generation.number
        if not self.is_asking(now) or self.generation.resend_from is None:
            return StoreGeneration(number=number)
        spread = min(LONGEST_SPREAD, max(_SHORTEST_SPREAD, agents / _AGENTS_IN_SECOND))
        return StoreGeneration(number=number, resend_from=utc(self.generation.resend_from), resend_within=spread)

    def dump(self) -> str:
        """Return runs and generation as JSON."""
        return json.dumps({"generation": asdict(self.generation), "runs": [asdict(run) for run in self.runs]})

    def load(self, meta: Mapping[str, str]) -> None:
        """Read the stored values; a store of an earlier release has none."""
        commits, _, at = meta.get(COMMITS, "0").partition(" ")
        self.commits, self.last_commit_at = int(commits), float(at) if at else None
        if HISTORY in meta:
            document = json.loads(meta[HISTORY])
            self.generation = Generation(**document["generation"])
            self.runs = [Run(**run) for run in document["runs"]]

    @staticmethod
    def _since(run: Run, now: float) -> float:
        """Return a time before all commits that are missing before a run."""
        earliest = now - KEPT_FOR
        return earliest if run.data_until is None else max(earliest, run.data_until - SLACK)

    def _successor(self, mark: Mark, started_at: float) -> Run | None:
        """Return the run before which the store lost the commits of a mark; None if it has them, or may have."""
        for run, following in pairwise(self.runs):
            if run.id == mark.run:
                return following if mark.commits > following.commits else None
        if not self.runs or mark.run == self.runs[-1].id or started_at < self.runs[0].started_at:
            return None  # of this run, or of one before those that the store remembers
        return next((run for run in self.runs if run.started_at > started_at), self.runs[-1])

    def _set_present(self) -> None:
        self.present = f"{self.generation.number}.{self.runs[-1].id}." if self.runs else ""

    def _number_above(self, number: int, now: float) -> int:
        return min(max(int(now * 1000), number + 1 + self.random_below(_STEP)), LARGEST_GENERATION)

    def _coded(self, mark: Mark, started_at: float) -> str:
        text = f"{mark.generation}.{mark.run}.{mark.commits}.{int(started_at * 1000)}"
        return f"{text}.{self._code(text)}"

    def _code(self, text: str) -> str:
        return to_base64url(hmac.digest(self.key, text.encode(), "sha256")[:_CODE_LENGTH])

    def _decoded(self, text: str) -> tuple[Mark, float]:
        covered, _, code = text.rpartition(".")
        if not hmac.compare_digest(self._code(covered), code):
            raise ValueError("not a mark of this manager")
        generation, run, commits, started_at = covered.split(".")
        return Mark(int(generation), run, int(commits)), int(started_at) / 1000
