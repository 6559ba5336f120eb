"""The organization-wide step against a naive oracle, over vouched and unvouched reports, ages and networks."""

from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.response import OrganizationResponse, ResponderSettings, ResponseState
from tests.support.examples import examples
from tests.support.responding import START, Scene

_ATTACKER = "203.0.113.66"
_AGENTS = 5
_DAY = 86_400.0
_WINDOW = 300.0
_MEMORY = 600.0


class Event(NamedTuple):
    """A report of an agent, some seconds after the event before."""

    after: float
    agent: int
    vouched: bool


events = st.lists(
    st.builds(
        Event,
        st.sampled_from([0.0, 0.0, 1.0, 1.0, 100.0, 100.0, 299.0, 300.0, 301.0]),
        st.integers(0, _AGENTS - 1),
        st.sampled_from([True, True, True, False]),
    ),
    min_size=4,
    max_size=20,
)
ages = st.lists(
    st.sampled_from([0.0, _DAY - 200.0, _DAY - 100.0, _DAY - 1.0, _DAY, _DAY]), min_size=_AGENTS, max_size=_AGENTS
)
networks = st.lists(
    st.sampled_from([None, "192.0.2.0/24", "198.51.100.0/24", "192.0.2.0/24", "198.51.100.0/24"]),
    min_size=_AGENTS,
    max_size=_AGENTS,
)


class Member(NamedTuple):
    """A report that counts for the responder."""

    at: float
    agent: int
    vouched: bool


def _run(counting: list[Member]) -> list[Member]:
    """Return the reports of the last run: those without a gap of more than 300 s."""
    starts = [0, *(after for after, (one, other) in enumerate(pairwise(counting), 1) if other.at - one.at > _WINDOW)]
    return counting[starts[-1] :]


class Oracle:
    """The page's sentences, over all reports that were on time."""

    def __init__(self, rule: OrganizationResponse, ages: list[float], networks: list[str | None]) -> None:
        self.rule = rule
        self.ages = ages
        self.networks = networks
        self.counting: list[Member] = []
        self.vouching: set[int] = set()
        self.wide = False
        self.waits = False

    def report(self, now: float, event: Event) -> None:
        """Take a report that counts."""
        self.counting.append(Member(now, event.agent, event.vouched))
        run = _run(self.counting)
        agents = {each.agent for each in run}
        if len(run) == 1:
            self.vouching, self.wide, self.waits = set(), False, False
        if len(agents) < 2:
            return
        before = self.vouching
        recent = {each.agent for each in run if each.vouched and now - each.at <= _MEMORY}
        opens = len({each.agent for each in run[:-1]}) < 2
        self.vouching = before | (recent if opens else recent & {event.agent})
        newly = (agents if opens else agents - {each.agent for each in run[:-1]}) | (self.vouching - before)
        if not newly or self.wide:
            return
        counted = self.vouching if self.rule is OrganizationResponse.VOUCHED else agents
        if self.waits and not any(self._established(agent, now) for agent in newly):
            return
        if len(counted) < 3:
            return
        established = {agent for agent in counted if self._established(agent, now)}
        places = {self.networks[agent] for agent in established} - {None}
        self.wide = len(established) >= 3 and len(places) >= 2
        self.waits = not self.wide

    def _established(self, agent: int, now: float) -> bool:
        return now - (START - self.ages[agent]) >= _DAY


@given(events, ages, networks, st.sampled_from(OrganizationResponse), st.integers(0, 14))
@settings(max_examples=examples(500))
def test_an_entry_reaches_the_organization_by_the_pages_rule_only(
    happening: list[Event],
    old: list[float],
    places: list[str | None],
    rule: OrganizationResponse,
    restart_at: int,
) -> None:
    """The blocklist has the address exactly when enough agents count, and waits exactly when these are not trusted."""
    scene = Scene(ResponderSettings(organization_age=_DAY, organization_networks=2, duration=_DAY))
    scene.responder.organization_response = rule
    scene.facts.registered = {f"ag-{number}": START - age for number, age in enumerate(old)}
    scene.facts.networks = {f"ag-{number}": place for number, place in enumerate(places) if place is not None}
    oracle = Oracle(rule, old, places)
    for number, event in enumerate(happening):
        scene.now += event.after
        if number == restart_at:
            scene.restart()
        scene.report(f"ag-{event.agent}", ip=_ATTACKER, vouched=event.vouched)
        oracle.report(scene.now, event)
        if len({each.agent for each in _run(oracle.counting)}) < 2:
            continue
        response, incident = scene.response(_ATTACKER), scene.incident(_ATTACKER)
        assert {int(agent_id[3:]) for agent_id in incident.vouched} == oracle.vouching
        assert response.organization_wide is oracle.wide
        assert response.awaits_organization is (oracle.waits and not oracle.wide)
        assert (response.state is ResponseState.PENDING_APPROVAL) is response.awaits_organization
        own = {int(agent_id[3:]) for agent_id in incident.actionable_agent_ids}
        held = {int(each.target[3:]) for each in scene.responder.entries if each.scope == "agent"}
        assert oracle.wide or own <= held
