"""The brokers under test, with a small fleet that each of them knows as the product would tell it."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt.enums import CallbackAPIVersion

from manager.broker.embedded_broker import EmbeddedBroker
from manager.data_directory import DataDirectory
from manager.domain.agents.agent import digest
from manager.engine.commands.requests import RemoveAgent
from manager.provisioning.plugin_commands import delete_client
from manager.provisioning.roles import CONTROL
from manager.storage.location import location_record
from tests.support.engine import Bench
from tests.support.mqtt_client import MqttClient
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.simulated import SimulatedAgent

HARDENED, MOSQUITTO = "hardened amqtt", "mosquitto"
MANAGER_PASSWORD = "the managers own"


@dataclass(frozen=True)
class Login:
    """Username and password of a client."""

    username: str
    password: str


@dataclass
class Fleet:
    """A broker, and who is who at it.

    `own` and `mate` are agents of one organization, `foreign` is another's; `removed` was an agent. `restart` ends the
    broker as an operator does, starts it again, and leaves its port here.
    """

    kind: str
    port: int
    logins: dict[str, Login]
    agent_ids: dict[str, str]
    restart: Callable[[], None]


ORGANIZATIONS = {"own": "acme", "mate": "acme", "foreign": "other", "removed": "acme"}


@contextmanager
def fleet_at(kind: str, directory: Path, queue_bytes: int | None = None) -> Iterator[Fleet]:
    """Start a broker that knows the fleet; one of the agents has been removed since.

    Args:
        kind: which broker.
        directory: where everything goes.
        queue_bytes: what may wait for one client, instead of what the product has.
    """
    data = directory / "manager"
    data.mkdir()
    (data / "manager.key").touch(0o600)
    (data / "manager.key").write_text(bytes(32).hex())  # the bench's own
    bench = Bench(data)
    token = bench.token()
    agents = {name: bench.enroll(name, token, organization_id=org) for name, org in ORGANIZATIONS.items()}
    try:
        if kind == HARDENED:
            with _hardened(bench, agents["removed"], queue_bytes) as (broker, observer):
                yield _fleet(kind, agents, observer, MANAGER_PASSWORD, broker)
        else:
            with _mosquitto(data, directory / "broker", queue_bytes) as broker:
                _remove_at(broker, agents["removed"])
                observer = Login(*broker.credential("observer"))
                yield _fleet(kind, agents, observer, broker.credential("manager")[1], broker)
    finally:
        bench.database.close()


def _fleet(
    kind: str,
    agents: dict[str, SimulatedAgent],
    observer: Login,
    manager: str,
    broker: EmbeddedBroker | ProductionMosquitto,
) -> Fleet:
    def restart() -> None:
        broker.stop()
        broker.start()
        fleet.port = broker.port

    logins = {name: Login(agent.agent_id, agent.keys.mqtt_password) for name, agent in agents.items()}
    logins |= {
        "registering": Login("registration", "registration"),
        "observer": observer,
        "manager": Login("manager", manager),
    }
    agent_ids = {name: agent.agent_id for name, agent in agents.items()}
    fleet = Fleet(kind, broker.port, logins, agent_ids, restart)
    return fleet


@contextmanager
def _hardened(bench: Bench, removed: SimulatedAgent, queue_bytes: int | None) -> Iterator[tuple[EmbeddedBroker, Login]]:
    with DataDirectory(bench.directory) as data:
        observer = Login(*data.observer_credential())
    users = {
        "manager": {"sha256": digest(MANAGER_PASSWORD).hex(), "role": "manager"},
        "registration": {"sha256": digest("registration").hex(), "role": "registration"},
        observer.username: {"sha256": digest(observer.password).hex(), "role": "observer"},
    }
    access = {"store": location_record(bench.directory / "panguard.db"), "users": users}
    limits = {} if queue_bytes is None else {"limits": {"queue_bytes": queue_bytes}}
    broker = EmbeddedBroker(
        {"host": "127.0.0.1", "port": 0, "access": access, **limits}, module="manager.broker_process"
    )
    broker.start()
    try:
        bench.ask(RemoveAgent(removed.agent_id, "test"))
        broker.disconnect(removed.agent_id)
        yield broker, observer
    finally:
        broker.stop()


@contextmanager
def _mosquitto(data: Path, directory: Path, queue_bytes: int | None) -> Iterator[ProductionMosquitto]:
    broker = ProductionMosquitto(data, directory)
    broker.prepare()
    if queue_bytes is not None:
        shipped = (directory / "broker.conf").read_text()
        narrow, changed = re.subn(r"(?m)^max_queued_bytes \d+$", f"max_queued_bytes {queue_bytes}", shipped)
        assert changed == 1
        (directory / "broker.conf").write_text(narrow)
    with broker:
        yield broker


def _remove_at(broker: ProductionMosquitto, removed: SimulatedAgent) -> None:
    """Say what the manager says of a removed agent, and wait until the broker has it."""
    client = MqttClient(CallbackAPIVersion.VERSION2, "remover")
    client.username_pw_set(*broker.credential("manager"))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish(CONTROL, json.dumps({"commands": [delete_client(removed.agent_id)]}), 1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
