"""BrokerLink over TLS at a real Mosquitto: it verifies the broker, and loses nothing in TLS records."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manager.engine.batch import Publication
from manager.mqtt.broker_address import BrokerAddress
from manager.tls.client_context import client_context
from schemas import topics
from tests.integration.mqtt.door_bench import AGENT, PRESENCE, THREATS, DoorBench, peer
from tests.support.impostor import Authority
from tests.support.mosquitto import UNBOUNDED, Mosquitto
from tests.support.ports import free_port

POLICY = topics.POLICY.address(AGENT)
LARGE = topics.THREATS.limit

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def secured(certificate: tuple[Path, Path], port: int) -> Mosquitto:
    """Return a broker with a second listener, which speaks TLS."""
    lines = [f"listener {port} 127.0.0.1", f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]
    return Mosquitto([*UNBOUNDED, *lines])


@contextmanager
def door_at(port: int, trusted: Authority) -> Iterator[DoorBench]:
    """Give a door that believes one authority, not connected yet."""
    bench = DoorBench(port, address=BrokerAddress("127.0.0.1", port, tls=True), tls=client_context(trusted.file))
    try:
        yield bench
    finally:
        bench.door.close(Publication(PRESENCE, b"offline", retained=True))


@pytest.fixture
def tls_port() -> int:
    return free_port()


@pytest.fixture
def broker(ours: Authority, tls_port: int) -> Iterator[Mosquitto]:
    with secured(ours.server("broker"), tls_port) as running:
        yield running


def test_messages_of_every_size_cross_tls(broker: Mosquitto, ours: Authority, tls_port: int) -> None:
    """Many small ones and some of the largest, each whole and in order, though a record holds 16 KiB."""
    payloads = [b"%d" % number for number in range(1500)] + [b"%d" % number * (LARGE // 8) for number in range(5)]
    with door_at(tls_port, ours) as bench, peer(broker.port) as agent:
        assert bench.door.peer_expires_at is None
        bench.connect()
        assert bench.door.peer_expires_at == pytest.approx(time.time() + 2 * 86_400, abs=60)
        for payload in payloads[:-1]:
            agent._client.publish(THREATS, payload, 1)
        agent.publish(THREATS, payloads[-1])
        assert bench.payloads(len(payloads)) == payloads
        agent.subscribe(POLICY)
        bench.confirmed(Publication(POLICY, b"p" * LARGE, retained=True))
        assert agent.hears() == b"p" * LARGE


@pytest.mark.parametrize(
    ("false", "sentence"),
    [
        ("authority", "in PANGUARD_BROKER_CA_FILE"),
        ("expired", "it has expired"),
        ("host", "it is for other names than this"),
    ],
)
def test_a_broker_that_is_not_believed_hears_no_password(
    ours: Authority, tmp_path: Path, tls_port: int, false: str, sentence: str
) -> None:
    """The door goes on trying, and says why it is not ready."""
    certificate = {
        "authority": lambda: Authority(tmp_path, "theirs").server("broker"),
        "expired": lambda: ours.server("broker", days=-3),
        "host": lambda: ours.server("broker", ["other.example"]),
    }[false]()
    with secured(certificate, tls_port), door_at(tls_port, ours) as bench:
        bench.until(lambda: bench.door.last_error)
        assert sentence in (bench.door.last_error or "")
        assert not bench.door.ready
