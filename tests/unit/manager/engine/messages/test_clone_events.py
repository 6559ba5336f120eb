"""Clone events: one fleet event and one line of history for each clone, none for restarts and flapping."""

from dataclasses import replace

from manager.domain.agents.clones import WINDOW
from manager.engine.commands.requests import RemoveAgent
from schemas import topics
from schemas.fleet import FleetEvent
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent


def _fight(bench: Bench, *instances: SimulatedAgent, rounds: int = 3) -> list[FleetEvent]:
    """Let instances raise the session over each other; return the clone events."""
    told: list[FleetEvent] = []
    bench.engine.listeners.append(lambda row: told.append(row.event))
    session = max(each.session for each in instances)
    for _ in range(rounds):
        for each in instances:
            session += 1
            each.session = session
            bench.receive(topics.PRESENCE, each.agent_id, each.presence("online", bench.wall))
            bench.receive(topics.HEARTBEAT, each.agent_id, each.heartbeat(bench.wall))
            bench.elapsed += 2
    return [event for event in told if event.event.startswith("agent_clone")]


def _copy(agent: SimulatedAgent, started: float) -> SimulatedAgent:
    """Return a second instance on a copy of the agent's data."""
    return replace(agent, uptime_from=started)


def _history(bench: Bench) -> list[tuple[str, str]]:
    rows = bench.rows("SELECT event, detail FROM agent_history WHERE event LIKE 'agent_clone%' ORDER BY id")
    return [(event, detail) for event, detail in rows]


def test_two_instances_are_told_once(bench: Bench) -> None:
    """Two instances give one event with both start times and one line of history, however long they compete."""
    agent = bench.enroll("web-1")
    (event,) = _fight(bench, agent, _copy(agent, bench.wall - 3600), rounds=20)
    assert (event.event, event.agent_id, event.hostname) == ("agent_cloned", agent.agent_id, "web-1")
    assert event.data["instances"] == ["2027-01-15T07:00:00.000Z", "2027-01-15T08:00:00.000Z"]
    ((name, detail),) = _history(bench)
    assert (name, all(started in detail for started in event.data["instances"])) == ("agent_cloned", True)


def test_clones_are_forgotten_when_one_is_left(bench: Bench) -> None:
    """The end is announced one window after the last return, and a new competition is announced again."""
    agent = bench.enroll("web-1")
    copy = _copy(agent, bench.wall - 60)
    _fight(bench, agent, copy)
    told: list[str] = []
    bench.engine.listeners.append(lambda row: told.append(row.event.event))
    bench.pass_time(WINDOW - 10, step=50)
    assert agent.agent_id in bench.fleet.clones.known
    bench.pass_time(20, step=5)
    assert bench.fleet.clones.known == {}
    assert told.count("agent_clone_gone") == 1
    assert [event.event for event in _fight(bench, agent, copy)] == ["agent_cloned"]
    assert [name for name, _ in _history(bench)] == ["agent_cloned", "agent_clone_gone", "agent_cloned"]


def test_a_guard_that_flaps_or_restarts_is_no_clone(bench: Bench) -> None:
    """Thirty sessions of one process and thirty restarts give no clone event."""
    agent = bench.enroll("web-1")
    assert _fight(bench, agent, rounds=30) == []
    restarts = [_copy(agent, bench.wall + 2 * number) for number in range(30)]
    assert _fight(bench, *restarts, rounds=1) == []


def test_a_removed_clone_is_forgotten(bench: Bench) -> None:
    """Removal deletes the agent from the clones, and no further event names it."""
    agent = bench.enroll("web-1")
    _fight(bench, agent, _copy(agent, bench.wall - 60))
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    assert bench.fleet.clones.known == {}
    told: list[str] = []
    bench.engine.listeners.append(lambda row: told.append(row.event.event))
    bench.pass_time(WINDOW + 10, step=50)
    assert "agent_clone_gone" not in told


def test_an_absurd_start_harms_nothing(bench: Bench) -> None:
    """Any claimed uptime is handled; an absurd start is shown as the earliest time."""
    agent = bench.enroll("web-1")
    (event,) = _fight(bench, agent, _copy(agent, bench.wall - 9e9))
    assert event.data["instances"][0] == "1970-01-01T00:00:00.000Z"
    assert bench.fleet.registry.agents[agent.agent_id].session == agent.session + 1


def test_two_hosts_with_one_secret_are_two_agents_that_come_and_go_apart(bench: Bench) -> None:
    """A renamed copy of a disk is another agent; each can be removed without the other."""
    token = bench.token()
    agent = bench.enroll("web-1", token)
    renamed = replace(agent, hostname="web-2")
    reply = bench.register(renamed)
    assert reply["agentId"] != agent.agent_id
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    bench.elapsed += 1
    assert bench.register(renamed)["agentId"] == reply["agentId"]
    assert bench.ask(RemoveAgent(reply["agentId"], "test")) == reply["agentId"]
    assert len(bench.fleet.registry) == 0
