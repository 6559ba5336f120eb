"""Outcomes of incidents, real or replayed, and the comparison of both."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from manager.domain.correlation import Incident, Indicator
from manager.domain.response import EmergencyEntry, Response, ResponseState

_BLOCKS = frozenset({"source_ip", "file_hash"})


@dataclass(frozen=True, slots=True)
class IncidentOutcome:
    """One incident and its response. Times are seconds since 1970.

    Args:
        indicator: the shared indicator.
        opened_at: the time of opening.
        first_seen_at: event time of its first report.
        last_seen_at: event time of its last report.
        agent_count: number of members.
        late: whether a late report is part of it.
        chronic: whether it became chronic.
        response: state of the response; None where nothing was decided.
        reason: reason of the response.
        organization_wide: whether it was in the organization's blocklist.
        entries: entries that a replay would have put in force; not known, so empty, for real outcomes.
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
        """Build the outcome of an incident."""
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
        """Whether an address or a hash was blocked."""
        return self.response is ResponseState.APPLIED and self.indicator.kind in _BLOCKS

    def has_same_response(self, other: "IncidentOutcome") -> bool:
        """Return whether two outcomes have the same number of agents and the same response."""
        mine = (self.agent_count, self.late, self.chronic, self.response, self.organization_wide)
        return mine == (other.agent_count, other.late, other.chronic, other.response, other.organization_wide)

    def overlaps(self, other: "IncidentOutcome") -> bool:
        """Return whether two outcomes of one indicator overlap in time."""
        return self.first_seen_at <= other.last_seen_at and other.first_seen_at <= self.last_seen_at


@dataclass(slots=True)
class Comparison:
    """Differences between real and replayed outcomes.

    Args:
        same: number of equal outcomes.
        only_real: happened, and would not under the replayed settings.
        only_replayed: would happen, and did not.
        changed: in both, with other agents or another response: (real, replayed).
    """

    same: int = 0
    only_real: list[IncidentOutcome] = field(default_factory=list)
    only_replayed: list[IncidentOutcome] = field(default_factory=list)
    changed: list[tuple[IncidentOutcome, IncidentOutcome]] = field(default_factory=list)


def compare(real: Iterable[IncidentOutcome], replayed: Iterable[IncidentOutcome]) -> Comparison:
    """Compare real outcomes with a replay.

    Two outcomes are the same incident if they have one indicator and overlap in time; a replay that begins in the
    middle of an incident opens it later, and still matches.
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
