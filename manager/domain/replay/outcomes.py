"""What became of an indicator, really or in a replay, and in what the two differ."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from manager.domain.correlation import Incident, Indicator
from manager.domain.response import EmergencyEntry, Response, ResponseState

_BLOCKS = frozenset({"source_ip", "file_hash"})


@dataclass(frozen=True, slots=True)
class IncidentOutcome:
    """One incident and the answer to it. Times are seconds since 1970.

    Args:
        indicator: what agents shared.
        opened_at: when it opened.
        first_seen_at: event time of its first report.
        last_seen_at: event time of its last report.
        agent_count: how many agents it had.
        late: whether a late report took part.
        chronic: whether it became chronic.
        response: what became of the response; None where nothing was decided.
        reason: why.
        organization_wide: whether it stood in the organization's blocklist.
        entries: what a replay would have put in force; unknown, and so empty, for what really happened.
    """

    indicator: Indicator
    opened_at: float
    first_seen_at: float
    last_seen_at: float
    agent_count: int
    late: bool
    chronic: bool
    response: ResponseState | None
    reason: str | None
    organization_wide: bool
    entries: tuple[EmergencyEntry, ...] = field(default=(), compare=False)

    @classmethod
    def of(
        cls, incident: Incident, response: Response | None, entries: tuple[EmergencyEntry, ...] = ()
    ) -> "IncidentOutcome":
        """Return the outcome of an incident."""
        return cls(
            incident.indicator,
            incident.opened_at,
            incident.first_seen_at,
            incident.last_seen_at,
            len(incident.members),
            incident.late,
            incident.chronic,
            response.state if response is not None else None,
            response.reason if response is not None else None,
            response.organization_wide if response is not None else False,
            entries,
        )

    @property
    def blocks(self) -> bool:
        """Whether an address or a hash was blocked for it."""
        return self.response is ResponseState.APPLIED and self.indicator.kind in _BLOCKS

    def has_same_response(self, other: "IncidentOutcome") -> bool:
        """Return whether two outcomes have the same agents, and were answered in the same way."""
        mine = (self.agent_count, self.late, self.chronic, self.response, self.organization_wide)
        return mine == (other.agent_count, other.late, other.chronic, other.response, other.organization_wide)

    def overlaps(self, other: "IncidentOutcome") -> bool:
        """Return whether two outcomes of one indicator are about the same time."""
        return self.first_seen_at <= other.last_seen_at and other.first_seen_at <= self.last_seen_at


@dataclass(slots=True)
class Comparison:
    """In what two lists of outcomes differ.

    Args:
        same: how many are alike.
        only_real: really happened, and would not.
        only_replayed: would happen, and did not.
        changed: happened in both, with other agents or another answer: what was, and what would be.
    """

    same: int = 0
    only_real: list[IncidentOutcome] = field(default_factory=list)
    only_replayed: list[IncidentOutcome] = field(default_factory=list)
    changed: list[tuple[IncidentOutcome, IncidentOutcome]] = field(default_factory=list)


def compare(real: Iterable[IncidentOutcome], replayed: Iterable[IncidentOutcome]) -> Comparison:
    """Hold what really happened against a replay.

    Two outcomes are the same incident if they are of one indicator and their times meet; a replay that begins in the
    middle of an incident opens it later, and still finds the same one.
    """
    comparison = Comparison()
    waiting: dict[Indicator, list[IncidentOutcome]] = {}
    for outcome in replayed:
        waiting.setdefault(outcome.indicator, []).append(outcome)
    for was in real:
        candidates = waiting.get(was.indicator, [])
        would = next((each for each in candidates if each.overlaps(was)), None)
        if would is None:
            comparison.only_real.append(was)
            continue
        candidates.remove(would)
        if would.has_same_response(was):
            comparison.same += 1
        else:
            comparison.changed.append((was, would))
    comparison.only_replayed = [outcome for outcomes in waiting.values() for outcome in outcomes]
    return comparison
