"""Brokers other than Mosquitto: NATS serves a fleet, RabbitMQ is refused by name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mqtt.door_bench import PRESENCE, peer
from tests.support.other_brokers import Nats, RabbitMq
from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.waiting import eventually


@pytest.fixture
def nats() -> Iterator[Nats]:
    with Nats() as broker:
        yield broker


@pytest.mark.nats
def test_a_guard_lives_its_whole_life_at_nats(nats: Nats, tmp_path: Path) -> None:
    """It enrolls, reports, obeys, is missed when it dies, and is known again after a restart of the manager."""
    with ManagerProcess(tmp_path, nats.url) as manager:
        guards = [GuardProcess(manager, name) for name in ("srv-01", "srv-02")]
        try:
            for guard in guards:
                guard.start()
                guard.attacked_by("203.0.113.9")
            eventually(lambda: len(manager.get("/api/threats")) == 2, what="both threats stored")
            eventually(lambda: all(spooled(guard) == 0 for guard in guards), what="both receipts")
            eventually(lambda: manager.get("/api/incidents"), what="the incident")
            eventually(lambda: (manager.agent("srv-01").get("activePolicyVersion") or 0) > 1, what="the block in force")
            guards[1].kill()
            eventually(lambda: manager.agent("srv-02")["status"] == "stale", what="its last will")
            assert guards[0].stop() == 0
            eventually(lambda: manager.agent("srv-01")["status"] == "offline", what="the sign-off")
            manager.kill()
            guards[1].start(wait=False)
            guards[1].attacked_by("203.0.113.10")
            manager.start()
            eventually(lambda: len(manager.get("/api/threats")) == 3, what="the third threat stored")
        finally:
            for guard in guards:
                guard.stop()


@pytest.mark.nats
def test_two_managers_at_nats_are_told_apart(nats: Nats, tmp_path: Path) -> None:
    """The one that came later is not ready."""
    with ManagerProcess(tmp_path / "first", nats.url) as first:
        second = ManagerProcess(tmp_path / "second", nats.url)
        second.start(wait=False)
        try:
            eventually(lambda: "a manager of another store" in str(second.not_ready()), what="the conflict")
            assert first.not_ready() is None
        finally:
            second.stop()


@pytest.mark.rabbitmq
def test_rabbitmq_is_refused_by_name(tmp_path: Path) -> None:
    """It delivers no retained message for a wildcard: the manager is not ready, names it, and leaves nothing there."""
    with RabbitMq("manager", "its-password") as broker:
        manager = ManagerProcess(tmp_path, broker.url, {"PANGUARD_BROKER_PASSWORD": "its-password"})
        manager.start(wait=False)
        try:
            eventually(lambda: "RabbitMQ" in str(manager.not_ready()), what="the refusal")
            assert "use Mosquitto or NATS" in str(manager.not_ready())
        finally:
            manager.stop()


@pytest.mark.mosquitto
@pytest.mark.parametrize("mosquitto", [{"persistent": True}], indirect=True)
def test_a_broker_without_a_retained_message_is_tried_with_the_managers_own(mosquitto: object, tmp_path: Path) -> None:
    """At its very first connection the manager leaves its presence, offline, to see whether a wildcard brings it."""
    port = mosquitto.port  # type: ignore[attr-defined]
    with peer(port) as observer:
        observer.subscribe(PRESENCE)
        with ManagerProcess(tmp_path, f"mqtt://127.0.0.1:{port}"):
            assert b'"offline"' in observer.hears()
            assert b'"online"' in observer.hears()
