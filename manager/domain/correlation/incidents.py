"""Incidents, and `IncidentChange`, which describes one change of an incident."""

from collections.abc import Collection, Iterator, KeysView
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from manager.domain.correlation.indicators import Indicator, Kind

CHRONIC_GROWTH = 3
"""Factor by which a chronic incident's membership must grow before it is announced again."""


@dataclass(slots=True, eq=False)
class Incident:
    """A run of reports in which enough distinct agents share an indicator. Times are seconds since 1970.

    The correlator updates it; others read it between two calls and never change it.

    Args:
        id: its id.
        indicator: the shared indicator, with its scope.
        members: every agent of the run; True for those that the responder may act for (see `actionable_agent_ids`).
        opened_at: receipt of the report that completed the rule.
        first_seen_at: event time of the run's first report; of two merging incidents, the earlier time.
        last_seen_at: event time of its last report.
        closed_at: when it closed (`last_seen_at` + 600 s, but never before it opened); None while it is open.
        late: whether a late report is part of it.
        chronic: whether it is a technique incident that has been open for an hour.
        merged_into: the incident that absorbed it; a merged incident is closed for good.
        report_count: reports of the run.
        return_count: earlier incidents of the same indicator that were retained when it opened.
        announced_members: number of members when it was last announced; a chronic incident is announced again when
            the number has tripled.
        vouched: the actionable members that vouched for the indicator, in a report that counts for the responder.
    """

    id: str
    indicator: Indicator
    members: dict[str, bool]
    opened_at: float
    first_seen_at: float
    last_seen_at: float
    closed_at: float | None = None
    late: bool = False
    chronic: bool = False
    merged_into: str | None = None
    report_count: int = 0
    return_count: int = 0
    announced_members: int = 0
    vouched: set[str] = field(default_factory=set)

    @property
    def kind(self) -> Kind:
        """Kind of the indicator: source address, file hash or technique."""
        return self.indicator.kind

    @property
    def value(self) -> str:
        """Normal form of the indicator."""
        return self.indicator.value

    @property
    def organization_id(self) -> str:
        """The organization of all members."""
        return self.indicator.organization_id

    @property
    def site(self) -> str | None:
        """For a private address the site of all its agents ("" for those without one), else None."""
        return self.indicator.site

    @property
    def is_open(self) -> bool:
        """Whether a report on time may still join the incident."""
        return self.closed_at is None

    @property
    def agent_ids(self) -> KeysView[str]:
        """The members in the order in which they joined; a view, not a copy."""
        return self.members.keys()

    @property
    def actionable_agent_ids(self) -> Iterator[str]:
        """The members the responder may act for.

        They are the members of the incidents that the same rule finds among the reports that were on time and from a
        known clock. A late report can join two runs to one incident this way, and adds nobody here.
        """
        return (agent_id for agent_id, actionable in self.members.items() if actionable)

    @property
    def can_become_chronic(self) -> bool:
        """Whether the incident becomes chronic if it stays open."""
        return self.indicator.kind == "technique" and not self.chronic

    def add_members(self, agent_ids: Collection[str]) -> list[str]:
        """Add agents to the members; return the new ones, sorted."""
        added = sorted(agent_id for agent_id in agent_ids if agent_id not in self.members)
        self.members.update(dict.fromkeys(added, False))
        return added

    def mark_actionable(self, agent_ids: Collection[str]) -> tuple[str, ...]:
        """Mark members as actionable; return the newly marked ones, sorted."""
        newly = tuple(sorted(agent_id for agent_id in agent_ids if not self.members[agent_id]))
        self.members.update(dict.fromkeys(newly, True))
        return newly

    def absorb(self, later: "Incident") -> None:
        """Merge the members and flags of a later incident that a report has joined to this one."""
        for agent_id, actionable in later.members.items():
            self.members[agent_id] = self.members.get(agent_id, False) or actionable
        self.vouched |= later.vouched
        self.opened_at = min(self.opened_at, later.opened_at)
        self.chronic |= later.chronic
        self.announced_members = max(self.announced_members, later.announced_members)
        later.merged_into = self.id

    def shift(self, seconds: float) -> None:
        """Move all times by a step of the manager's clock."""
        self.opened_at += seconds
        self.first_seen_at += seconds
        self.last_seen_at += seconds
        if self.closed_at is not None:
            self.closed_at += seconds

    def stays_silent(self) -> bool:
        """Return whether a chronic incident needs no announcement; otherwise record the announced number of members."""
        if not self.chronic:
            return False
        if len(self.members) < CHRONIC_GROWTH * self.announced_members:
            return True
        self.announced_members = len(self.members)
        return False


class ChangeKind(StrEnum):
    """Kind of change of an incident."""

    OPENED = "opened"
    RETURNED = "returned"
    """Opened for an indicator that had an incident before."""
    GREW = "grew"
    """An agent became a member."""
    JOINED = "joined"
    """A further report of a member."""
    MERGED = "merged"
    """The incident absorbed another incident and its members."""
    CHRONIC = "chronic"
    CLOSED = "closed"


class IncidentChange(Struct, frozen=True, gc=False):
    """One change of one incident; holds a reference to the incident, not a copy.

    Args:
        kind: kind of change. With each kind the incident's times, counts and flags may have changed too, and a report
            that joins a closed incident may have reopened it.
        incident: the incident after the change; of a merge, the remaining one.
        agent_id: the agent added (`grew`), or the reporting agent; None when time caused the change.
        actionable: agents that the responder may act for from now on. Each is named once in an incident's life.
        absorbed: the incident that was merged into this one.
        silent: whether a chronic incident is stored without an announcement.
        clock_unknown: whether a report whose event time is not known is part of an incident that opens.
        vouched: actionable agents that vouch for the indicator from now on. Each is named once in an incident's life.
    """

    kind: ChangeKind
    incident: Incident
    agent_id: str | None = None
    actionable: tuple[str, ...] = ()
    absorbed: Incident | None = None
    silent: bool = False
    clock_unknown: bool = False
    vouched: tuple[str, ...] = ()

    @property
    def is_further_report(self) -> bool:
        """Whether only the incident's times and counts changed, by a further report of a member."""
        return self.kind is ChangeKind.JOINED and not self.actionable and not self.vouched
