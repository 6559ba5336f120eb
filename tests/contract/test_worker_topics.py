"""Topics and subscriptions of ingest workers at both brokers: who may use them, and which broker splits messages."""

from pathlib import Path

import pytest

from manager.domain.ingest.topics import WORKER_LIFE, shared
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_probe import delivers_shared
from schemas import topics
from tests.contract.brokers import HARDENED, MOSQUITTO, fleet_at
from tests.integration.broker.broker_clients import PahoClient
from tests.support.waiting import eventually

LIFE = WORKER_LIFE.address("a" * 32)
REFUSED = 128


@pytest.mark.mosquitto
@pytest.mark.usefixtures("has_mosquitto")
def test_mosquitto_as_prepared_splits_messages_among_managers(tmp_path: Path) -> None:
    """With the shipped configuration two managers get each report once, and only they use the topics of workers."""
    with fleet_at(MOSQUITTO, tmp_path) as fleet:
        login = fleet.logins["manager"]
        address = BrokerAddress("127.0.0.1", fleet.port)
        assert delivers_shared(address, login.username, login.password, None, group="group")
        workers = [PahoClient(fleet.port, f"w{n}", username=login.username, password=login.password) for n in range(2)]
        others = {
            name: PahoClient(fleet.port, f"c-{name}", username=each.username, password=each.password)
            for name, each in fleet.logins.items()
            if name not in {"manager", "removed"}
        }
        try:
            for worker in workers:
                assert worker.connect() == 0
                assert REFUSED not in worker.subscribe_to_all([topic_filter for topic_filter, _ in shared("group")])
            assert workers[0].subscribe(WORKER_LIFE.filter) < REFUSED
            for client in others.values():
                assert client.connect() == 0
            own = others["own"]
            topic = topics.THREATS.address(fleet.agent_ids["own"])
            for number in range(20):
                own.publish(topic, str(number))
            for client in others.values():
                client.publish(LIFE, "forged")
            workers[1].publish(LIFE, "true")
            eventually(lambda: sum(worker.arrived.qsize() for worker in workers) >= 21, 60, "every message at one")
            taken = [[worker.next().payload.decode() for _ in range(worker.arrived.qsize())] for worker in workers]
            assert sorted(taken[0] + taken[1]) == sorted([*map(str, range(20)), "true"])
            assert all(taken)
        finally:
            for client in (*workers, *others.values()):
                client.close()


def test_the_embedded_broker_is_recognized_by_a_message(tmp_path: Path) -> None:
    """The embedded broker delivers nothing to a shared subscription, so a worker refuses it."""
    with fleet_at(HARDENED, tmp_path) as fleet:
        login = fleet.logins["manager"]
        assert not delivers_shared(
            BrokerAddress("127.0.0.1", fleet.port), login.username, login.password, None, group="group"
        )
