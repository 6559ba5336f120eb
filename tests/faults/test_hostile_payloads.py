"""Garbage on every topic that the manager reads: it stays up, counts, keeps a bounded record, and goes on working."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import CallbackAPIVersion

from manager.engine.settings import EngineSettings
from manager.storage.pruning import DEAD_LETTERS_KEPT
from schemas import topics
from schemas.keys import EnrollmentToken
from schemas.topics import TABLE, Role
from tests.support.engine import Bench
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.simulated import SimulatedAgent
from tests.support.waiting import eventually

READ = [row for row in TABLE if Role.MANAGER in row.readers and row.publisher is not Role.MANAGER]
UNLIMITED = EngineSettings(agent_messages=1e9, agent_bytes=1e12)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, UNLIMITED)
    yield bench
    bench.database.close()


def _spoilers(seed: int) -> list[Callable[[bytes], bytes]]:
    chance = random.Random(seed)  # noqa: S311 -- the same garbage each time, no secret

    def flipped(payload: bytes) -> bytes:
        at = chance.randrange(len(payload))
        return payload[:at] + bytes([payload[at] ^ (1 << chance.randrange(8))]) + payload[at + 1 :]

    return [
        lambda _payload: chance.randbytes(chance.randrange(1, 200)),
        lambda payload: payload[: chance.randrange(1, len(payload))],
        flipped,
        lambda payload: payload + b" ",
        lambda payload: payload.replace(b'":', b'":[', 1),
        lambda _payload: b'{"id":' + b"[" * 50_000,
        lambda payload: payload[:-1] + b"," + b'"x":"' + b"y" * 300_000 + b'"}',
        lambda _payload: b"\xff\xfe" * 50,
        lambda _payload: b"null",
    ]


def _wrong_types(agent: SimulatedAgent, row: topics.Topic, chance: random.Random) -> bytes:
    """Return a rightly coded message that is none: an enrolled agent may be malicious, too."""
    bodies = [
        b"{}",
        b"[]",
        b'{"id":5,"agentId":[],"threat":"x","timestamp":true}',
        b'{"state":"online","session":-1,"sentAt":"yesterday","uptime":"long"}',
        b'{"cpu":NaN,"memory":1e999,"session":1,"sequence":99999999999999999999}',
        b'{"version":"2","digest":"00","state":"applied","sentAt":0}',
    ]
    return agent.coded(row, chance.choice(bodies))


def test_thousands_of_bad_payloads_change_nothing(bench: Bench) -> None:
    """Garbage, oversized, truncated, forged and wrongly-typed messages: none is stored, all are acknowledged."""
    agent = bench.enroll("web-1")
    state = bench.rows(
        "SELECT state, session, cpu, policy_version FROM agent JOIN agent_vitals ON agent_number = number"
    )
    revision = bench.fleet.policies.revision
    chance = random.Random(1)  # noqa: S311 -- the same garbage each time, no secret
    spoilers = _spoilers(2)
    client_id, registration = agent.registration(bench.wall)
    valid = {
        topics.REGISTRATION: (client_id, registration),
        topics.PRESENCE: (agent.agent_id, agent.presence("online", bench.wall, session=50)),
        topics.HEARTBEAT: (agent.agent_id, agent.heartbeat(bench.wall, session=60)),
        topics.THREATS: (agent.agent_id, agent.threat(bench.wall, "never")),
        topics.POLICY_APPLIED: (agent.agent_id, agent.coded(topics.POLICY_APPLIED, b'{"version":9}')),
    }
    handles = []
    for n in range(15_000):
        row = READ[n % len(READ)]
        identifier, payload = valid[row]
        if row is not topics.REGISTRATION and n % 10 == 0:
            spoiled = _wrong_types(agent, row, chance)
        elif n % 97 == 0:
            identifier, spoiled = "ag-00000000000000ff", payload
        else:
            spoiled = spoilers[n % len(spoilers)](payload)
        if spoiled == payload or not spoiled:
            continue
        handles.append(bench.put(row, identifier if row is not topics.REGISTRATION else client_id, spoiled))
        if len(bench.engine.inbox) >= 500:
            bench.engine.step(bench.now)
    while len(bench.engine.inbox):
        bench.engine.step(bench.now)
    assert set(handles) <= set(bench.acknowledged)
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    assert (
        bench.rows("SELECT state, session, cpu, policy_version FROM agent JOIN agent_vitals ON agent_number = number")
        == state
    )
    assert bench.fleet.policies.revision == revision
    assert bench.fleet.counters["dead_letters"] == len(handles)
    ((kept, longest),) = bench.rows("SELECT count(*), max(length(payload)) FROM dead_letter")
    assert 0 < kept <= DEAD_LETTERS_KEPT
    assert longest <= 512
    assert bench.rows("SELECT count(*) FROM dead_letter WHERE reason = ''") == [(0,)]
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "good"))
    assert bench.rows("SELECT threat_id FROM threat") == [("good",)]


@pytest.mark.mosquitto
def test_thousands_of_bad_payloads_through_a_broker_change_nothing(tmp_path: Path) -> None:
    """The same through a real broker that lets anybody publish: the manager stays up and a good message is stored."""
    with Mosquitto() as broker, ManagerProcess(tmp_path, broker.url) as manager:
        client = MqttClient(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(500)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        spoilers = _spoilers(3)
        victim = SimulatedAgent("nobody", EnrollmentToken.new("x" * 43), "", agent_id="ag-00000000000000aa")
        template = victim.presence("online", 1_800_000_000.0, session=3)
        for n in range(2_000):
            row = READ[n % len(READ)]
            identifier = "0" * 32 if row is topics.REGISTRATION else victim.agent_id
            spoiled = spoilers[n % len(spoilers)](template)
            client.publish(row.address(identifier), spoiled[:20_000], qos=row.qos)
        client.publish("panguard/v1/agents/../threats", b"x", qos=1)
        last = client.publish(topics.THREATS.address(victim.agent_id), b"the last one", qos=1)
        last.wait_for_publish(120)
        assert last.is_published()
        client.disconnect()
        client.loop_stop()
        eventually(lambda: manager.get("/api/dead-letters", limit=200), what="dead letters kept")
        assert manager.get("/api/agents") == []
        guard = GuardProcess(manager, "good")
        guard.start()
        guard.attacked_by("203.0.113.1")
        eventually(lambda: manager.get("/api/threats"), what="a good message stored")
        assert guard.stop() == 0
