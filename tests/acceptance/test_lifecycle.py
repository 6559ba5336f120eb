"""The lifecycle page, phase by phase, with a real manager, its embedded broker, and real guards."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import CallbackAPIVersion

from schemas.keys import AgentKeys
from schemas.topics import PREFIX, TABLE, Role
from tests.support.migrated_store import POSTGRESQL, SQLITE, WITH_TWO
from tests.support.mqtt_client import MqttClient
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.waiting import eventually

ON_POSTGRESQL = pytest.param(
    POSTGRESQL, marks=[pytest.mark.long("tests/integration/storage/postgresql/test_writer.py"), pytest.mark.postgresql]
)

pytestmark = pytest.mark.parametrize("each_deployment", [SQLITE, ON_POSTGRESQL, WITH_TWO], indirect=True)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, each_deployment: str) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp(each_deployment)) as manager:
        yield manager


@pytest.fixture
def guard(manager: ManagerProcess, request: pytest.FixtureRequest) -> Iterator[GuardProcess]:
    guard = GuardProcess(manager, request.node.name.replace("_", "-").replace("[", "-").strip("]")[:60])
    guard.start()
    yield guard
    guard.stop()


def test_a_guard_is_registered_with_the_pages_five_fields(manager: ManagerProcess, guard: GuardProcess) -> None:
    """The record has what the guard said of its host, and its vitals once a heartbeat came."""
    agent = manager.agent(guard.hostname)
    assert agent["agentId"] == agent["id"] == guard.agent_id()
    assert agent["status"] == "online"
    assert all(agent[field] for field in ("hostname", "os", "arch", "version", "organizationId", "registeredAt"))
    eventually(lambda: manager.agent(guard.hostname)["uptime"], what="vitals written")
    agent = manager.agent(guard.hostname)
    assert 0 <= agent["cpu"] <= 100
    assert 0 < agent["memory"] <= 100
    assert agent["mode"] == "protection"


def test_a_killed_guard_is_stale_through_its_last_will_and_comes_back(
    manager: ManagerProcess, guard: GuardProcess
) -> None:
    """SIGKILL shows as stale, connection lost, within 10 s; a restart resumes the identity."""
    agent_id = guard.agent_id()
    guard.kill()
    eventually(lambda: manager.agent(guard.hostname)["status"] == "stale", what="the will believed")
    assert manager.agent(guard.hostname)["reason"] == "connection_lost"
    assert guard.start() == agent_id
    eventually(lambda: manager.agent(guard.hostname)["status"] == "online")


def test_a_clean_stop_is_offline_and_a_start_resumes(manager: ManagerProcess, guard: GuardProcess) -> None:
    """SIGTERM signs off: offline, the record kept; started again it is the same agent, online."""
    agent_id = guard.agent_id()
    assert guard.stop() == 0
    eventually(lambda: manager.agent(guard.hostname)["status"] == "offline")
    assert guard.start() == agent_id
    eventually(lambda: manager.agent(guard.hostname)["status"] == "online")


@pytest.mark.parametrize("fate", ["wiped", "restored"])
def test_a_guard_that_lost_its_memory_is_alive_again(
    manager: ManagerProcess, guard: GuardProcess, fate: str, tmp_path: Path
) -> None:
    """A wiped data directory, or an older copy of it, costs the guard neither its agent id nor its life."""
    agent_id = guard.agent_id()
    guard.stop()
    shutil.copytree(guard.data, tmp_path / "copy")
    for _ in range(3):  # sessions that the copy knows nothing of
        guard.start()
        guard.stop()
    shutil.rmtree(guard.data)
    if fate == "restored":
        shutil.copytree(tmp_path / "copy", guard.data)
    assert guard.start() == agent_id
    eventually(lambda: manager.agent(guard.hostname)["status"] == "online")
    guard.attacked_by("203.0.113.200")
    eventually(lambda: _threats_of(manager, agent_id), what="a threat of the reborn guard")


def test_a_policy_reaches_the_guard_and_is_acknowledged(manager: ManagerProcess, guard: GuardProcess) -> None:
    """A document for one agent is in force on it, by its own word, under the fleet's new revision."""
    agent_id = guard.agent_id()
    result = manager.request("PUT", f"/api/policies/agents/{agent_id}", {"thresholds": {"autoRespond": 61}})
    eventually(lambda: manager.agent(guard.hostname)["policyVersion"] == result["revision"], what="the policy applied")
    assert manager.agent(guard.hostname)["policyState"] == "applied"


def test_a_removed_agent_is_gone_and_locked_out(manager: ManagerProcess, guard: GuardProcess) -> None:
    """Forced removal takes the record, cuts the connection at once, and refuses the credential from then on."""
    agent_id = guard.agent_id()
    identity = _identity(guard)
    guard.kill()  # so that it does not register again
    manager.request("DELETE", f"/api/agents/{agent_id}", purge="true")
    assert manager.agent(guard.hostname) == {}
    assert _connects(manager, agent_id, AgentKeys.derive(identity).mqtt_password) is False


def test_an_agents_credential_opens_no_topic_of_another(manager: ManagerProcess, guard: GuardProcess) -> None:
    """With a true credential one can neither publish to, nor read, any topic of any other agent or client."""
    other = GuardProcess(manager, "the-other")
    other.start()
    try:
        other_id = other.agent_id()
        heard = _pry(manager, guard, other_id)
        before = manager.agent("the-other")["session"]
        eventually(lambda: manager.agent("the-other")["status"] == "online")
        other.attacked_by("203.0.113.201")
        eventually(lambda: _threats_of(manager, other_id), what="a threat of the other agent stored")
        assert {topic for topic in heard if not topic.startswith(PREFIX + "manager/")} == set()
        assert manager.agent("the-other")["session"] == before
    finally:
        other.stop()


@pytest.mark.mosquitto
@pytest.mark.usefixtures("guard")
def test_live_traffic_is_readable_with_the_observers_credential(manager: ManagerProcess) -> None:
    """`mosquitto_sub -v` shows heartbeats, threats and fleet events as JSON, and no registration."""
    username, password = (manager.data / "observer.credential").read_text().strip().split(":")
    port = manager.mqtt.rpartition(":")[2]
    words = ["mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-u", username, "-P", password, "-v", "-W", "8"]
    watcher = subprocess.Popen([*words, "-t", PREFIX + "#"], stdout=subprocess.PIPE)  # noqa: S603 -- a test's tool
    newcomer = GuardProcess(manager, "newcomer")
    newcomer.start()
    newcomer.attacked_by("203.0.113.202")
    output = watcher.communicate(timeout=60)[0].decode()
    newcomer.stop()
    for expected in ("/heartbeat {", "/threats {", "/fleet/agent_registered {", "manager/keys {", "203.0.113.202"):
        assert expected in output
    assert "registration/" not in output


def _threats_of(manager: ManagerProcess, agent_id: str) -> list[object]:
    return list(manager.get("/api/threats", agentId=agent_id))


def _identity(guard: GuardProcess) -> bytes:
    import json  # noqa: PLC0415 -- reads the guard's own file

    from schemas.message_codes import from_base64url  # noqa: PLC0415

    kept = json.loads((guard.data / "identity.json").read_text())
    return from_base64url(kept["secret"])


def _client(manager: ManagerProcess, username: str, password: str) -> MqttClient:
    client = MqttClient(CallbackAPIVersion.VERSION2, client_id=f"{username}-prying")
    client.username_pw_set(username, password)
    client.connect("127.0.0.1", int(manager.mqtt.rpartition(":")[2]))
    return client


def _connects(manager: ManagerProcess, username: str, password: str) -> bool:
    answers: list[bool] = []
    client = _client(manager, username, password)
    client.on_connect = lambda _c, _d, _f, code, _p: answers.append(not code.is_failure)
    client.loop_start()
    eventually(lambda: answers or not client.is_connected())
    client.disconnect()
    client.loop_stop()
    return any(answers)


def _pry(manager: ManagerProcess, guard: GuardProcess, other_id: str) -> set[str]:
    """Try everything with the guard's credential; return the topics that were heard."""
    heard: set[str] = set()
    granted: list[object] = []
    client = _client(manager, guard.agent_id(), AgentKeys.derive(_identity(guard)).mqtt_password)
    client.on_message = lambda _c, _d, message: heard.add(message.topic)
    client.on_subscribe = lambda _c, _d, _mid, codes, _p: granted.extend(codes)
    client.loop_start()
    eventually(client.is_connected)
    identifiers = {"agentId": other_id, "clientId": "0" * 32, "organizationId": "other", "event": "agent_online"}
    topics = [row.address(identifiers.get(row.placeholder or "")) for row in TABLE if row.placeholder]
    filters = [(topic, 1) for topic in [*topics, PREFIX + "#", "#", PREFIX + "agents/+/threats"]]
    client.on_connect = lambda *_: client.subscribe(filters)  # after a cut too
    client.subscribe(filters)
    for row, topic in zip([row for row in TABLE if row.placeholder], topics, strict=True):
        if Role.AGENT is row.publisher or row.retained:
            client.publish(topic, b"{}", qos=1, retain=True)
    eventually(lambda: granted)
    eventually(lambda: manager.agent("the-other")["lastHeartbeat"], what="a heartbeat of the other agent")
    client.disconnect()
    client.loop_stop()
    return heard
