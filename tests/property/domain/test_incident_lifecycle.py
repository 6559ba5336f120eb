"""The life of incidents as a state machine: open, grow, merge, close, return, chronic, with restarts anywhere."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from manager.domain.correlation import ChangeKind, CorrelatorSettings, IncidentChange, Report
from tests.property.domain.correlation_oracle import START, Found, Station, milliseconds
from tests.support.examples import examples

AGENTS = st.integers(0, 11).map("ag-{}".format)
OPENING = {ChangeKind.OPENED, ChangeKind.RETURNED}


class IncidentLifecycle(RuleBasedStateMachine):
    """One technique, reported by some agents, on time and late, with pauses and restarts between."""

    def __init__(self) -> None:
        super().__init__()
        self.station = Station(CorrelatorSettings())
        self.now = START
        self.members: dict[str, set[str]] = {}
        self.open: set[str] = set()
        self.merged: set[str] = set()

    def report(self, agent_id: str, age: float, *, trusted: bool = True) -> None:
        """Report something that happened `age` seconds ago."""
        event_time = round(self.now - age, 3)
        report = Report(
            agent_id, "acme", None, "any", event_time, self.now, technique="T1110", event_time_trusted=trusted
        )
        for change in self.station.observe(report):
            self.take(change)

    def take(self, change: IncidentChange) -> None:
        """Check that the change may follow those before it, and follow it."""
        incident, incident_id = change.incident, change.incident.id
        assert incident_id not in self.merged
        assert (change.kind in OPENING) == (incident_id not in self.members)
        members = self.members.setdefault(incident_id, set())
        if change.kind in OPENING:
            members.update(incident.agent_ids)
            assert (change.kind is ChangeKind.RETURNED) == (incident.return_count > 0)
        elif change.kind is ChangeKind.GREW:
            assert change.agent_id is not None
            assert change.agent_id not in members
            members.add(change.agent_id)
        elif change.kind is ChangeKind.JOINED:
            assert change.agent_id in members
        elif change.kind is ChangeKind.MERGED:
            assert change.absorbed is not None
            assert change.absorbed.merged_into == incident_id
            assert not change.absorbed.is_open
            members.update(change.absorbed.agent_ids, [change.agent_id or ""])
            self.merged.add(change.absorbed.id)
            self.open.discard(change.absorbed.id)
        elif change.kind is ChangeKind.CLOSED:
            assert incident_id in self.open
        assert members <= set(incident.agent_ids)
        assert not change.silent or incident.chronic
        if incident.is_open:
            self.open.add(incident_id)
        else:
            self.open.discard(incident_id)

    @rule(agent_id=AGENTS, age=st.sampled_from([0.0, 0.0, 5.0, 299.999, 300.0]))
    def reports_on_time(self, agent_id: str, age: float) -> None:
        """A report comes within the allowed lateness."""
        self.report(agent_id, age)

    @rule(agent_id=AGENTS, age=st.sampled_from([300.001, 450.0, 600.0, 601.0, 1200.0, 4000.0]))
    def reports_late(self, agent_id: str, age: float) -> None:
        """A backlog arrives."""
        self.report(agent_id, age)

    @rule(agent_id=AGENTS)
    def reports_without_a_known_clock(self, agent_id: str) -> None:
        """A report is taken to have happened when it was received."""
        self.report(agent_id, 0.0, trusted=False)

    @rule(seconds=st.sampled_from([0.001, 1.0, 100.0, 299.999, 300.0, 300.001, 600.0, 601.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        """Nothing is reported for a while."""
        self.now = round(self.now + seconds, 3)
        for change in self.station.expire(self.now):
            self.take(change)
        now = milliseconds(self.now)
        for incident in self.station.correlator.open_incidents():
            assert incident.chronic == (now - milliseconds(incident.opened_at) >= 3_600_000)

    @rule(agents=st.integers(2, 3))
    def attack_lasts_an_hour(self, agents: int) -> None:
        """Some agents report in turn, without a pause that would close the incident."""
        for step in range(15):
            self.report(f"ag-{step % agents}", 0.0)
            self.time_passes(250.0)

    @rule()
    def manager_restarts(self) -> None:
        """The correlator stops, and is rebuilt from the store."""
        self.station.restart()

    @invariant()
    def incidents_are_those_of_the_naive_rule(self) -> None:
        """The runs, members and marks are a function of the reports, in any history."""
        found = {indicator: list(of.values()) for indicator, of in self.station.found().items()}
        assert found == self.station.expected()

    @invariant()
    def an_incident_is_open_for_600_seconds_after_its_last_report(self) -> None:
        """Once what is due has been done, those whose last report is no older are open, and no others."""
        for change in self.station.expire(self.now):
            self.take(change)
        current: dict[str, Found] = {key: of for each in self.station.found().values() for key, of in each.items()}
        assert {key: self.members[key] for key in current} == {key: set(each.members) for key, each in current.items()}
        now = milliseconds(self.now)
        assert self.open == {key for key, incident in current.items() if now - incident.last <= 600_000}
        assert self.open == {incident.id for incident in self.station.correlator.open_incidents()}


IncidentLifecycle.TestCase.settings = settings(max_examples=examples(80), stateful_step_count=25, deadline=None)
TestIncidentLifecycle = IncidentLifecycle.TestCase
