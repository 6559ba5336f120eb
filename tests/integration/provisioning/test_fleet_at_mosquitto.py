"""A fleet at a Mosquitto with the shipped broker.conf: its logins follow the registry at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import message_codes, topics
from schemas.keys import AgentKeys
from tests.integration.broker.broker_clients import PahoClient
from tests.support.mosquitto import mosquitto_path
from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/property/test_reconciliation.py"), pytest.mark.mosquitto]


@pytest.fixture
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ProductionMosquitto]:
    if mosquitto_path() is None:
        request.getfixturevalue("mosquitto")  # says what a missing one means
    with ProductionMosquitto(tmp_path / "manager", tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def manager(tmp_path: Path, broker: ProductionMosquitto) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path, broker.url) as manager:
        yield manager


@pytest.fixture
def guard(manager: ManagerProcess) -> Iterator[GuardProcess]:
    guard = GuardProcess(manager, "srv-01")
    guard.start()
    yield guard
    guard.stop()


def _state(broker: ProductionMosquitto) -> dict[str, Any]:
    """Return what the plugin has saved; it may be writing just now."""

    def saved() -> dict[str, Any] | None:
        try:
            return dict(json.loads((broker.directory / "dynamic-security.json").read_text()))
        except ValueError:
            return None

    state = eventually(saved, what="a whole file")
    assert state is not None
    return state


def _clients(broker: ProductionMosquitto) -> set[str]:
    return {client["username"] for client in _state(broker)["clients"]}


def _agree(manager: ManagerProcess, times: int) -> None:
    """Wait until the manager has compared the broker with the fleet so many times."""
    eventually(lambda: (manager.home / "manager.log").read_text().count("access_in_sync") >= times, what="agreement")


def test_a_guard_lives_its_whole_life(broker: ProductionMosquitto, guard: GuardProcess) -> None:
    """It enrolls, reports, obeys and signs off with nothing but what the manager told the plugin."""
    manager = guard.manager
    guard.attacked_by("203.0.113.9")
    eventually(lambda: manager.get("/api/threats"), what="the threat stored")
    eventually(lambda: spooled(guard) == 0, what="the receipt")
    version = eventually(lambda: manager.agent("srv-01").get("activePolicyVersion"), what="a policy in force")
    assert version >= 1
    assert guard.agent_id() in _clients(broker)
    assert guard.stop() == 0
    eventually(lambda: manager.agent("srv-01")["status"] == "offline", what="the sign-off")


def test_a_removed_agent_is_cut_off_at_once(broker: ProductionMosquitto, guard: GuardProcess) -> None:
    """Its connection ends by the broker's own act, and its credential opens nothing more."""
    agent_id = guard.agent_id()
    guard.manager.request("DELETE", f"/api/agents/{agent_id}", purge="true")
    eventually(lambda: agent_id not in _clients(broker), what="a client less")
    ended = f"Client {agent_id}-"
    eventually(
        lambda: any(ended in line and "administrative action" in line for line in broker.log().splitlines()),
        what="the connection cut",
    )
    eventually(
        lambda: "Not authorized" in (guard.manager.home / "srv-01.log").read_text(), what="the credential refused"
    )


def test_a_replaced_credential_opens_nothing(broker: ProductionMosquitto, guard: GuardProcess) -> None:
    """A second registration of the same host gets the same agent, and the connection of the old credential ends."""
    agent_id = guard.agent_id()
    guard.kill()
    old = AgentKeys.derive(
        message_codes.from_base64url(json.loads((guard.data / "identity.json").read_text())["secret"])
    )
    stranger = PahoClient(broker.port, f"{agent_id}-{'0' * 32}", username=agent_id, password=old.mqtt_password)
    assert stranger.connect() == 0
    again = GuardProcess(guard.manager, "srv-01")
    again.data = guard.manager.home / "another-disk"
    try:
        assert again.start() == agent_id
        eventually(lambda: not stranger.paho.is_connected(), what="the old connection cut")
    finally:
        stranger.close()
        again.stop()
    late = PahoClient(broker.port, f"{agent_id}-{'1' * 32}", username=agent_id, password=old.mqtt_password)
    assert late.connect() != 0
    late.close()


def test_a_manager_makes_the_broker_agree(broker: ProductionMosquitto, guard: GuardProcess) -> None:
    """At its start it mends what is missing, too much or changed, and leaves alone what an operator added."""
    manager, agent_id = guard.manager, guard.agent_id()
    guard.stop()
    manager.stop()
    broker.stop()
    state, path = _state(broker), broker.directory / "dynamic-security.json"
    gone = {**next(client for client in state["clients"] if client["username"] == agent_id)}
    gone["username"] = "ag-00000000000000ff"
    state["clients"] = [client for client in state["clients"] if client["username"] != agent_id]
    state["clients"] += [gone, {"username": "dashboard", "roles": [], "textdescription": "ours"}]
    for role in state["roles"]:
        if role["rolename"].startswith("panguard-organization-"):
            role["acls"].append({"acltype": "publishClientSend", "topic": "#", "priority": 0, "allow": True})
    path.write_text(json.dumps(state))
    broker.start()
    manager.start()
    _agree(manager, 2)
    eventually(
        lambda: _clients(broker) == {"manager", "observer", "registration", "dashboard", agent_id},
        what="the right clients",
    )
    (role,) = [role for role in _state(broker)["roles"] if role["rolename"].startswith("panguard-organization-")]
    assert "#" not in {acl["topic"] for acl in role["acls"] if acl["allow"]}
    assert guard.start() == agent_id


def test_a_broker_that_lost_its_file_is_told_all_again(broker: ProductionMosquitto, guard: GuardProcess) -> None:
    """Prepared afresh beside a manager that ran on, it lets the fleet in as if nothing had happened."""
    agent_id = guard.agent_id()
    broker.stop()
    guard.manager.stop()
    broker.prepare(force=True)
    assert agent_id in _clients(broker)
    state = _state(broker)
    state["clients"] = [client for client in state["clients"] if client["username"] != agent_id]
    state["roles"] = [role for role in state["roles"] if role["rolename"] == "panguard-manager"]
    (broker.directory / "dynamic-security.json").write_text(json.dumps(state))
    broker.start()
    guard.manager.start()
    guard.attacked_by("203.0.113.77")
    eventually(lambda: guard.manager.get("/api/threats"), what="the threat stored")


def test_the_registering_client_has_its_own_two_topics(broker: ProductionMosquitto, manager: ManagerProcess) -> None:
    """It gets a reply under its own client id only, and its publications elsewhere are not delivered."""
    del manager  # it answers
    client, other, stranger = (
        PahoClient(broker.port, letter * 32, username="registration", password="registration") for letter in "abc"
    )
    try:
        for listener in (client, other, stranger):
            assert listener.connect() == 0
            own = topics.REGISTRATION_REPLY.address(listener.name)
            assert listener.subscribe_to_all(["#", own, f"{topics.PREFIX}manager/+"]) == [128, 1, 1]
        known = {topics.MANAGER_PRESENCE.address(), topics.MANAGER_KEYS.address()}
        for listener in (client, other, stranger):
            assert {listener.next().topic, listener.next().topic} == known
        stranger.paho.publish(topics.REGISTRATION.address("b" * 32), "{}", 1)
        eventually(lambda: not stranger.paho.is_connected(), what="Mosquitto ends whoever publishes what it may not")
        client.publish(topics.REGISTRATION.address("a" * 32), "{}")
        assert client.next().topic == topics.REGISTRATION_REPLY.address("a" * 32)
        other.publish(topics.REGISTRATION.address("b" * 32), "{ }")
        assert other.next().topic == topics.REGISTRATION_REPLY.address("b" * 32)
        assert (client.arrived.qsize(), other.arrived.qsize()) == (0, 0)
    finally:
        for listener in (client, other, stranger):
            listener.close()


def test_an_agent_takes_part_in_no_registration(broker: ProductionMosquitto, guard: GuardProcess) -> None:
    """It chooses its client id, and under one of a registration it still neither asks nor hears the answer."""
    agent_id, client_id = guard.agent_id(), "c" * 32
    secret = message_codes.from_base64url(json.loads((guard.data / "identity.json").read_text())["secret"])
    guard.stop()
    login = {"username": agent_id, "password": AgentKeys.derive(secret).mqtt_password}
    agent, manager = PahoClient(broker.port, client_id, **login), PahoClient(broker.port, "m", **_login(broker))
    try:
        for client in (agent, manager):
            assert client.connect() == 0
        reply, policy = topics.REGISTRATION_REPLY.address(client_id), topics.POLICY.address(agent_id)
        assert agent.subscribe_to_all([reply, policy])[0] >= 128
        manager.publish(reply, "an answer")
        manager.publish(policy, "a policy", retain=True)
        assert agent.until("a policy")[-1].topic == policy
        assert "an answer" not in {message.payload.decode() for message in agent.arrived.queue}
        manager.subscribe(topics.REGISTRATION.filter)
        agent.paho.publish(topics.REGISTRATION.address(client_id), "a registration", 1)
        eventually(lambda: not agent.paho.is_connected(), what="the end of who publishes what it may not")
        assert manager.arrived.empty()
    finally:
        agent.close()
        manager.close()


def _login(broker: ProductionMosquitto) -> dict[str, str]:
    username, password = broker.credential("manager")
    return {"username": username, "password": password}
