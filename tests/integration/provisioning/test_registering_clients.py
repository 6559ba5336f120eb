"""Clients with the public registration password at a Mosquitto with the shipped files: their litter is bounded."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import topics
from tests.integration.broker.broker_clients import PahoClient
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

pytestmark = pytest.mark.mosquitto
CLIENT_ID = "a" * 32
DEEP = [f"{CLIENT_ID}/reply", "x/reply", "x/y", "x/y/z/reply", "/", f"{CLIENT_ID}/"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ProductionMosquitto]:
    with ProductionMosquitto(tmp_path / "manager", tmp_path / "broker") as broker:
        yield broker


def registering(broker: ProductionMosquitto, client_id: str, **options: bool) -> PahoClient:
    return PahoClient(broker.port, client_id, username="registration", password="registration", **options)


def left_behind(broker: ProductionMosquitto) -> dict[str, bytes]:
    """Return what is retained below the registration topics."""
    username, password = broker.credential("manager")
    with PahoClient(broker.port, "looker", username=username, password=password) as looker:
        looker.connect()
        looker.subscribe(topics.PRESENCE.filter)
        assert looker.subscribe(f"{topics.PREFIX}registration/#") < 128
        looker.publish(topics.PRESENCE.address("ag-0000000000000000"), "that was all")
        found = {message.topic: message.payload for message in looker.until("that was all") if message.retain}
        return {topic: payload for topic, payload in found.items() if "/registration/" in topic}


@pytest.mark.parametrize("client_id", DEEP)
def test_a_client_id_with_a_slash_opens_no_topic(broker: ProductionMosquitto, client_id: str) -> None:
    """Its publications below another registration are refused, live and retained."""
    topic = f"{topics.PREFIX}registration/{client_id}"
    victim = registering(broker, client_id.rpartition("/")[0] or "victim")
    client = registering(broker, client_id)
    try:
        assert victim.connect() == 0
        victim.subscribe(topics.REGISTRATION_REPLY.filter.replace("+", victim.name))
        assert client.connect() == 0
        client.paho.publish(topic, b"x" * 2_000_000, 1, retain=True)
        eventually(lambda: not client.paho.is_connected(), what="the end of who publishes what it may not")
        assert left_behind(broker) == {}
        assert victim.arrived.empty()
    finally:
        client.close()
        victim.close()


def test_a_registering_client_subscribes_to_nothing_but_its_own(broker: ProductionMosquitto) -> None:
    """Wildcards and other topics are refused; its own reply and the manager's topics are granted."""
    with registering(broker, CLIENT_ID) as client:
        assert client.connect() == 0
        granted = [topics.REGISTRATION_REPLY.address(CLIENT_ID), f"{topics.PREFIX}manager/+"]
        refused = ["#", "panguard/#", "+/+", "elsewhere", topics.POLICY.address("ag-0123456789abcdef"), "$SYS/#"]
        assert client.subscribe_to_all([*granted, *refused]) == [1, 1, *([128] * len(refused))]


def test_what_was_left_below_the_registration_topics_is_cleared(broker: ProductionMosquitto, tmp_path: Path) -> None:
    """Messages that an earlier release let clients leave there go at the manager's next connection, however deep."""
    username, password = broker.credential("manager")
    state = broker.directory / "dynamic-security.json"
    broker.stop()
    kept = json.loads(state.read_text())
    for role in kept["roles"]:
        if role["rolename"] == "panguard-manager":
            litter = {"acltype": "publishClientSend", "topic": f"{topics.PREFIX}#", "priority": 50, "allow": True}
            role["acls"].append(litter)
    state.write_text(json.dumps(kept))
    broker.start()
    with PahoClient(broker.port, "litterer", username=username, password=password) as client:
        client.connect()
        for deep in DEEP:
            client.publish(f"{topics.PREFIX}registration/{deep}", "left behind", retain=True)
    assert len(left_behind(broker)) == len(DEEP)
    with ManagerProcess(tmp_path, broker.url):
        eventually(lambda: not left_behind(broker), what="nothing left behind")


def test_more_litter_than_a_queue_holds_keeps_no_manager_out(broker: ProductionMosquitto, tmp_path: Path) -> None:
    """92 MB left by the public password while no manager ran: Mosquitto dropped the plugin's answers among them."""
    for number in range(40):
        name = f"{number:032x}"
        with registering(broker, name) as client:
            assert client.connect() == 0
            client.publish(topics.REGISTRATION.address(name), b"x" * 2_290_000, retain=True)
    manager = ManagerProcess(tmp_path, broker.url)
    manager.launch()
    try:
        eventually(lambda: manager.not_ready() is None, what="a manager that is ready")
        assert left_behind(broker) == {}
    finally:
        manager.stop()


def test_a_broker_of_an_earlier_release_gets_the_login_and_its_role(
    broker: ProductionMosquitto, tmp_path: Path
) -> None:
    """Its manager connects though it may not read all registration topics yet, and corrects logins and roles."""
    path = broker.directory / "dynamic-security.json"
    broker.stop()
    state = json.loads(path.read_text())
    state["clients"] = [client for client in state["clients"] if client["username"] != "registration"]
    state["roles"] = [role for role in state["roles"] if role["rolename"] != "panguard-registration"]
    (own,) = [role for role in state["roles"] if role["rolename"] == "panguard-manager"]
    own["acls"] = [acl for acl in own["acls"] if acl["topic"] != f"{topics.PREFIX}registration/#"]
    path.write_text(json.dumps(state))
    broker.start()
    with ManagerProcess(tmp_path, broker.url) as manager:
        guard = GuardProcess(manager, "srv-01")
        try:
            guard.start()
            eventually(lambda: "panguard-registration" in path.read_text(), what="the role of registering clients")
            eventually(lambda: _is_refused(broker, f"{CLIENT_ID}/reply"), what="the deeper topic refused")
        finally:
            guard.stop()


def _is_refused(broker: ProductionMosquitto, client_id: str) -> bool:
    """Return whether publishing below a registration ends the connection; what was left is cleared by the manager."""
    with registering(broker, client_id) as client:
        if client.connect() != 0:
            return False
        client.paho.publish(f"{topics.PREFIX}registration/{client_id}", "x", 1)
        client.paho.publish(f"{topics.PREFIX}registration/{client_id}", "x", 1)
        try:
            eventually(lambda: not client.paho.is_connected(), within=1.0)
        except AssertionError:
            return False
        return True
