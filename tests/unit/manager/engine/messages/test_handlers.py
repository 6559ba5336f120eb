"""Handlers of presence and heartbeats, on a real store and a virtual clock."""

from manager.engine.commands.requests import DeregisterAgent
from schemas import topics
from tests.support.engine import Bench


def test_silence_of_ninety_seconds_is_stale_at_the_next_sweep(bench: Bench) -> None:
    """Just under 90 s of silence is online; 90 s is stale at the sweep; a heartbeat alone brings it back."""
    agent = bench.enroll("web-1")
    bench.engine._sweep.run_next()
    bench.pass_time(89.9, step=5)
    bench.engine._sweep.run_next()
    bench.engine.step(bench.now)
    assert bench.state(agent) == "online"
    bench.pass_time(0.1, step=0.1)
    bench.engine._sweep.run_next()
    bench.engine.step(bench.now)
    assert bench.state(agent) == "stale silence"
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert bench.state(agent) == "online"
    assert bench.rows("SELECT state FROM agent") == [("online",)]


def test_a_manager_that_was_away_flags_nobody_before_its_own_grace(bench: Bench) -> None:
    """Ten minutes without manager, broker or CPU age no agent: each has its full 90 s afterwards."""
    agent = bench.enroll("web-1")
    bench.elapsed += 600  # down
    bench.crash()
    bench.pass_time(89, step=5)
    assert bench.state(agent) == "online"
    bench.engine.disconnected()  # deaf
    bench.pass_time(600, step=5)
    bench.engine.connected(bench.now, fresh=False)
    bench.pass_time(89, step=5)
    assert bench.state(agent) == "online"
    bench.elapsed += 600  # suspended
    bench.pass_time(89, step=5)
    assert bench.state(agent) == "online"
    bench.pass_time(40, step=5)
    assert bench.state(agent) == "stale silence"


def test_a_will_counts_after_the_settling_time(bench: Bench) -> None:
    """A lost connection is stale after 5 s, and ends only with a higher session."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    bench.pass_time(4)
    assert bench.state(agent) == "online"
    bench.pass_time(1)
    assert bench.state(agent) == "stale connection_lost"
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    assert bench.state(agent) == "stale connection_lost"
    agent.session += 1
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    assert bench.state(agent) == "online"


def test_a_reconnect_within_the_settling_time_never_shows_stale(bench: Bench) -> None:
    """A birth of the next session, before or after the old one's will, keeps the agent online throughout."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    bench.pass_time(3)
    agent.session += 1
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall, session=agent.session - 1))
    bench.pass_time(30)
    assert bench.state(agent) == "online"
    assert bench.rows("SELECT count(*) FROM agent_history WHERE event = 'agent_stale'") == [(0,)]


def test_an_old_heartbeat_replayed_keeps_nobody_alive(bench: Bench) -> None:
    """A heartbeat that does not raise the sequence is ignored."""
    agent = bench.enroll("web-1")
    old = agent.heartbeat(bench.wall)
    bench.receive(topics.HEARTBEAT, agent.agent_id, old)
    for _ in range(30):
        bench.pass_time(5)
        bench.receive(topics.HEARTBEAT, agent.agent_id, old)
    assert bench.state(agent) == "stale silence"


def test_a_clean_stop_is_offline_and_keeps_the_record(bench: Bench) -> None:
    """A sign-off marks the agent offline; it comes back under its id."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    assert bench.state(agent) == "offline"
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert bench.state(agent) == "offline"
    assert bench.enroll("web-1").agent_id == agent.agent_id
    assert bench.ask(DeregisterAgent(agent.agent_id)) == agent.agent_id
    assert bench.state(agent) == "offline"
