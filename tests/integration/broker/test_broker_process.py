"""The embedded broker's process: it comes up, obeys, and ends with its parent."""

import hashlib
import json
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from manager.broker.embedded_broker import EmbeddedBroker
from manager.broker.errors import BrokerNotRunningError, BrokerStartError
from tests.integration.broker.broker_clients import RawClient, packet, text

AGENT = "ag-0123456789abcdef"
DEADLINE = 60.0


def configuration(**fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(b"right").hexdigest()
    users = {
        "manager": {"sha256": digest, "role": "manager"},
        AGENT: {"sha256": digest, "role": "agent", "identifiers": {"agentId": AGENT}},
        "registration": {"sha256": digest, "role": "registration"},
    }
    return {"host": "127.0.0.1", "port": 0, "access": {"users": users}, **fields}


@pytest.fixture
def start() -> Iterator[Callable[..., EmbeddedBroker]]:
    """Give a function that starts an embedded broker; all are stopped at the end."""
    with ExitStack() as stack:

        def started(
            on_exit: Callable[[int], None] | None = None,
            ready_within: float = DEADLINE,
            **fields: Any,
        ) -> EmbeddedBroker:
            broker = EmbeddedBroker(configuration(**fields), ready_within=ready_within, on_exit=on_exit)
            stack.callback(broker.stop)
            broker.start()
            return broker

        yield started


@pytest.fixture
def raw() -> Iterator[Callable[[EmbeddedBroker], RawClient]]:
    """Give a function that opens a socket to a broker; all are closed at the end."""
    with ExitStack() as stack:
        yield lambda broker: stack.enter_context(RawClient(broker.port))


def test_a_role_may_do_what_the_topic_table_says(start: Any, raw: Any) -> None:
    """An agent may publish its own threats, which the manager receives, and is refused another's policy."""
    broker = start()
    manager, agent = raw(broker), raw(broker)
    assert manager.connect("manager", username="manager") == 0
    manager.send(packet(0x82, b"\x00\x01" + text("panguard/v1/agents/+/threats") + b"\x01"))
    assert manager.receive(5) == b"\x90\x03\x00\x01\x01"
    assert agent.connect(f"{AGENT}-1", username=AGENT) == 0
    agent.send(packet(0x82, b"\x00\x01" + text("panguard/v1/agents/ag-ffffffffffffffff/policy") + b"\x01"))
    assert agent.receive(5) == b"\x90\x03\x00\x01\x80"
    agent.publish(f"panguard/v1/agents/{AGENT}/threats", b"{}")
    assert agent.receive(4) == b"\x40\x02\x00\x01"
    topic = text(f"panguard/v1/agents/{AGENT}/threats")
    assert manager.receive(2 + len(topic) + 4) == packet(0x32, topic + b"\x00\x01{}")


def test_a_wrong_password_is_refused(start: Any, raw: Any) -> None:
    """The answer to a wrong password is return code 5, not authorized."""
    assert raw(start()).connect("manager", username="manager", password="wrong") == 5


def test_a_disconnected_user_is_cut_at_once(start: Any, raw: Any) -> None:
    """The command ends the user's live connection; other users stay connected."""
    broker = start()
    manager, agent = raw(broker), raw(broker)
    manager.connect("manager", username="manager")
    agent.connect(f"{AGENT}-1", username=AGENT, clean=False)
    broker.disconnect(AGENT)
    assert agent.is_closed_by_peer()
    manager.send(b"\xc0\x00")
    assert manager.receive(2) == b"\xd0\x00"


def test_a_line_that_is_no_command_is_survived(start: Any, raw: Any) -> None:
    """A line that is no command is skipped, and the next command is carried out."""
    broker = start()
    agent = raw(broker)
    agent.connect(f"{AGENT}-1", username=AGENT)
    for line in (b"nonsense\n", b"[]\n", b'{"other": 1}\n', b'"text"\n'):
        broker._process.stdin.write(line)
    broker.disconnect(AGENT)
    assert agent.is_closed_by_peer()


def test_a_port_that_comes_free_is_taken(start: Any) -> None:
    """The broker waits for a port that another program still holds."""
    held = socket.create_server(("127.0.0.1", 0))
    port = held.getsockname()[1]
    timer = threading.Timer(0.5, held.close)
    timer.start()
    assert start(port=port).port == port
    timer.join()


def test_a_port_that_stays_taken_is_a_clear_error(start: Any) -> None:
    """After its patience the broker says which port is taken and what to do, and its process ends."""
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        pytest.raises(BrokerStartError, match=r"was still taken after 0\.3 s: stop the program"),
    ):
        start(port=held.getsockname()[1], portWaitSeconds=0.3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "203.0.113.1"}, "cannot listen on 203.0.113.1"),
        ({"access": {"users": {"a": {"sha256": "secret-digest"}}}}, "configuration cannot be read"),
        ({"limits": {"queue_bytes": 1}}, "configuration cannot be read"),
        ({"certificate": "no-such.pem", "key": "no-such.key"}, r"certificate no-such\.pem or its key cannot be used"),
    ],
)
def test_a_configuration_that_cannot_work_is_a_clear_error(start: Any, fields: Any, message: str) -> None:
    """The parent raises the process's own sentence, which repeats no secret."""
    with pytest.raises(BrokerStartError, match=message) as error:
        start(**fields)
    assert "secret-digest" not in str(error.value)


def test_a_broker_that_was_stopped_takes_no_command(start: Any) -> None:
    """A command to a process that has ended raises an error that says so."""
    broker = start()
    broker.stop()
    assert not broker.alive
    assert broker.exit_code == 0
    with pytest.raises(BrokerNotRunningError):
        broker.disconnect(AGENT)


def test_the_end_of_the_process_is_noticed(start: Any) -> None:
    """When the process dies by itself its exit code is reported; a stop is not."""
    ends: queue.Queue[int] = queue.Queue()
    broker = start(on_exit=ends.put)
    broker._process.send_signal(signal.SIGKILL)
    assert ends.get(timeout=DEADLINE) == -signal.SIGKILL
    assert not broker.alive
    broker.stop()
    second = start(on_exit=ends.put)
    second.stop()
    assert ends.empty()


PARENT = """
import json, os, sys, time
from manager.broker.embedded_broker import EmbeddedBroker
broker = EmbeddedBroker(json.loads(sys.stdin.readline()))
print(broker.start(), broker._process.pid, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_broker_ends_with_its_parent_however_that_dies(end: signal.Signals) -> None:
    """A parent that is killed takes the broker with it; a client is cut, and the process is gone."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:  # noqa: S603 -- ours
        parent.stdin.write(json.dumps(configuration()).encode() + b"\n")
        parent.stdin.flush()
        port, pid = map(int, parent.stdout.readline().split())
        with RawClient(port) as client:
            client.connect("manager", username="manager")
            parent.send_signal(end)
            parent.wait()
            assert client.is_closed_by_peer()
        assert gone(pid)


def test_a_broker_that_still_waits_for_its_port_ends_with_its_parent() -> None:
    """Stdin that ends during the wait for the port ends the wait, long before its patience."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        line = json.dumps(configuration(port=held.getsockname()[1], portWaitSeconds=3600))
        command = [sys.executable, "-m", "manager.broker.process"]
        done = subprocess.run(command, input=line.encode(), capture_output=True, timeout=DEADLINE, check=False)  # noqa: S603 -- ours
    assert done.returncode == 1
    assert b"still taken" in done.stdout


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return paths


def test_with_a_certificate_only_tls_is_served(start: Any, raw: Any, tmp_path: Path) -> None:
    """A client that verifies the certificate is served; one that speaks plain TCP is closed."""
    chain, key = certificate(tmp_path)
    broker = start(certificate=str(chain), key=str(key))
    plain = raw(broker)
    plain.send(packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("plain")))
    assert plain.is_closed_by_peer()
    client = raw(broker)
    context = ssl.create_default_context(cafile=str(chain))
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    assert client.connect("manager", username="manager") == 0
    broker.disconnect("manager")
    assert client.is_closed_by_peer()


def test_ctrl_c_in_the_terminal_leaves_the_broker_to_its_parent(start: Any) -> None:
    """The broker's process is in a session of its own, where the terminal's signals do not reach it."""
    broker = start()
    stat = Path(f"/proc/{broker._process.pid}/stat").read_text(encoding="ascii")
    session = int(stat.rpartition(")")[2].split()[3])
    assert session == broker._process.pid


def test_no_secret_stands_in_the_arguments_or_the_environment(start: Any) -> None:
    """Neither arguments nor environment in /proc contain a digest of the configuration."""
    broker = start()
    proc = Path(f"/proc/{broker._process.pid}")
    shown = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    assert hashlib.sha256(b"right").hexdigest().encode() not in shown


def gone(pid: int) -> bool:
    """Return whether a process ends before the deadline; one that only waits to be reaped has ended."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
    return False
