"""A manager at a Mosquitto that cannot serve a fleet is not ready, says why, and is ready once that is solved."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.provisioning.roles import MANAGER
from tests.integration.mqtt.door_bench import PRESENCE, peer
from tests.support.mosquitto import Mosquitto
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/mqtt/test_deaf_door.py"), pytest.mark.mosquitto]
THREATS = "panguard/v1/agents/+/threats"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ProductionMosquitto]:
    with ProductionMosquitto(tmp_path / "manager", tmp_path / "broker") as broker:
        yield broker


def says(manager: ManagerProcess, sentence: str) -> None:
    """Wait until the manager's readiness gives a reason."""
    eventually(lambda: sentence in str(manager.not_ready()), what=sentence)


def logged(manager: ManagerProcess, event: str) -> int:
    return (manager.home / "manager.log").read_text().count(f"event={event} ")


def test_a_login_that_may_not_read_threats_leaves_the_manager_not_ready(
    broker: ProductionMosquitto, tmp_path: Path
) -> None:
    """With one subscription refused no agent ages, and after the role is right again the manager is ready by itself."""
    with ManagerProcess(tmp_path, broker.url) as manager:
        guard = GuardProcess(manager, "srv-01")
        guard.start()
        guard.kill()
        manager.kill()
    broker.stop()
    path = broker.directory / "dynamic-security.json"
    right = json.loads(path.read_text())
    wrong = json.loads(path.read_text())
    (role,) = [role for role in wrong["roles"] if role["rolename"] == MANAGER]
    role["acls"] = [acl for acl in role["acls"] if acl["topic"] != THREATS]
    path.write_text(json.dumps(wrong))
    broker.start()
    environment = {"PANGUARD_STALE_AFTER": "1", "PANGUARD_SWEEP_INTERVAL": "0.2"}
    manager = ManagerProcess(tmp_path, broker.url, environment)
    manager.start(wait=False)
    try:
        says(manager, f"the broker refuses the manager's subscription to {THREATS}: grant its login manager")
        attempts = broker.log().count("as manager-")
        eventually(lambda: broker.log().count("as manager-") >= attempts + 6, what="some seconds of further tries")
        assert manager.agent("srv-01")["status"] == "online", "a deaf manager ages nobody, for however long"
        broker.stop()
        path.write_text(json.dumps(right))
        broker.start()
        eventually(lambda: manager.not_ready() is None, what="a ready manager")
        eventually(lambda: manager.agent("srv-01")["status"] == "stale", what="the silent agent stale, after its grace")
        assert logged(manager, "broker_unreachable") <= 5, "a reason that does not change is logged once"
    finally:
        manager.stop()


def test_a_broker_without_the_plugin_leaves_a_manager_with_a_password_not_ready(tmp_path: Path) -> None:
    """Without a response on the plugin's topic within ten seconds the reason says what to do."""
    with Mosquitto() as plain:
        manager = ManagerProcess(tmp_path, plain.url, {"PANGUARD_BROKER_PASSWORD": "a password"})
        manager.start(wait=False)
        try:
            says(manager, "the broker's dynamic-security plugin has not responded yet")
            says(manager, "load its dynamic-security plugin (panguard manager broker init writes all that it needs)")
            eventually(lambda: logged(manager, "broker_admits_no_agent") == 1, what="the reason in the log")
            assert manager.running is not None
            assert not any(line.startswith("ready ") for line in manager.running.lines)
        finally:
            manager.stop()


def test_a_copied_data_directory_does_not_fight_for_the_session(broker: ProductionMosquitto, tmp_path: Path) -> None:
    """The copy is not ready and says so, the first manager's session is never taken, and the copy comes in after it."""
    with ManagerProcess(tmp_path, broker.url) as first:
        copy = ManagerProcess(tmp_path / "copy", broker.url)
        shutil.copytree(first.data, copy.data)
        (copy.data / "manager.url").unlink(missing_ok=True)
        copy.start(wait=False)
        try:
            says(copy, "another manager with a copy of this store (store-")
            eventually(lambda: broker.log().count("manager-presence-") >= 4, what="two more tries of the copy")
            assert (first.not_ready(), logged(first, "broker_connected")) == (None, 1)
            assert first.stop() == 0
            eventually(lambda: copy.not_ready() is None, what="the copy ready")
            assert logged(copy, "broker_connected") == 1
        finally:
            copy.stop()


def test_two_fleets_at_one_broker_are_told_apart(tmp_path: Path) -> None:
    """The manager of another store that comes later is not ready, until the first one has ended."""
    with Mosquitto() as plain, ManagerProcess(tmp_path / "first", plain.url) as first:
        second = ManagerProcess(tmp_path / "second", plain.url)
        second.start(wait=False)
        try:
            says(second, "a manager of another store (store-")
            assert first.not_ready() is None
            eventually(
                lambda: any("a manager of another store" in each for each in first.get("/api/overview")["warnings"]),
                what="the first manager names the second",
            )
            first.kill()
            eventually(lambda: second.not_ready() is None, what="the second manager ready")
            first.start(wait=False)
            says(first, "a manager of another store (store-")
        finally:
            second.stop()


def test_a_presence_that_a_crash_left_behind_keeps_nobody_out(tmp_path: Path) -> None:
    """A retained presence whose manager does not answer is no manager: the one that starts takes its place."""
    left = {
        "state": "online", "version": "0.1.0", "sentAt": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z",
        "storeId": "store-0123456789abcdef", "instance": "0123456789abcdef",
    }  # fmt: skip
    with Mosquitto() as plain, peer(plain.port) as observer:
        observer.publish(PRESENCE, json.dumps(left).encode(), retain=True)
        with ManagerProcess(tmp_path, plain.url):
            observer.subscribe(PRESENCE)
            assert json.loads(observer.hears())["storeId"] != left["storeId"]
