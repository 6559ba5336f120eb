"""The witness on a booted host: 1,000 addresses that never spoke to sshd are named as attackers, none is blocked."""

import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.support.booted_host.attacker import SERVER, WRONG
from tests.support.booted_host.scene import Scene
from tests.support.spoofing import send_spoofed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/fence/test_fence_witness.py"),
    pytest.mark.booted,
    pytest.mark.timeout(600),
]

EACH, CONNECTIONS, FAILURES = 240, 40, 5
BY_CONTAINER, BY_WWW_DATA, FORWARDED, SPOOFED = (
    [f"198.51.{network}.{number}" for number in range(1, EACH + 1)] for network in range(100, 104)
)
BY_PROXY_PROTOCOL = [f"198.51.104.{number}" for number in range(1, CONNECTIONS + 1)]
WRONG_TARGETS = {*BY_CONTAINER, *BY_WWW_DATA, *FORWARDED, *BY_PROXY_PROTOCOL, *SPOOFED}
GATEWAY, REAL = "203.0.113.20", "203.0.113.110"
TRUSTED_LOG = "/var/log/behind-a-proxy.log"

_FORGE = f"""
import os, socket, sys, time
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/run/systemd/journal/dev-log")
for number in range(1, {EACH + 1}):
    for port in range({FAILURES}):
        text = f"Failed password for root from {{sys.argv[1]}}.{{number}} port {{40000 + port}} ssh2"
        log.send(f"<38>sshd[{{os.getpid()}}]: {{text}}".encode())
# journald looks at the writer of a record while it lives
time.sleep(1)
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(scene: Scene) -> None:
    scene.host.network.run("ip", "route", "add", "default", "via", GATEWAY)  # answers to spoofed sources leave the host
    scene.host.write(TRUSTED_LOG, "")
    scene.fleet.start_manager()
    scene.fleet.install(options=["--watch=auto", f"--trust-log={TRUSTED_LOG}"])
    scene.host.write("/opt/forge.py", _FORGE)
    made = "mkdir -p /opt/container/usr /opt/container/opt; cp /usr/bin/python3.11 /opt/tool; cd /opt/container"
    scene.host.run("sh", "-c", f"{made}; for folder in bin lib lib64 sbin; do ln -s usr/$folder $folder; done")


def _network(addresses: Sequence[str]) -> str:
    return addresses[0].rpartition(".")[0]


def _forge_in_container(scene: Scene) -> None:
    """Write to the journal as /usr/sbin/sshd of a container that shares nothing but /dev/log with the host."""
    words = ["systemd-run", "--quiet", "--wait", "--slice=machine.slice", "--property=RootDirectory=/opt/container"]
    words += ["--property=BindReadOnlyPaths=/usr /opt/forge.py", "--property=BindPaths=/run/systemd/journal"]
    words += ["--property=BindReadOnlyPaths=/opt/tool:/usr/sbin/sshd", "/usr/sbin/sshd", "/opt/forge.py"]
    scene.host.run(*words, _network(BY_CONTAINER))


def _forge_as_www_data(scene: Scene) -> None:
    words = ("systemd-run", "--quiet", "--wait", "--uid=www-data", "/usr/bin/python3", "/opt/forge.py")
    scene.host.run(*words, _network(BY_WWW_DATA))


def _name_in_trusted_log(scene: Scene, addresses: Sequence[str]) -> None:
    """Write failures with addresses that a client or a proxy named, into a log for which the operator vouches."""
    with scene.host.path(TRUSTED_LOG).open("a") as log:
        for address in addresses:
            for port in range(FAILURES):
                text = f"Failed password for root from {address} port {40000 + port} ssh2"
                log.write(f"2026-01-01T00:00:00.000000+00:00 guarded sshd[{port + 1}]: {text}\n")


def _connect_by_proxy_protocol(scene: Scene) -> None:
    """Open connections to sshd that begin with the header in which a proxy names its client."""

    def connect(address: str) -> None:
        with suppress(OSError), socket.create_connection((SERVER, 22), 5, source_address=(GATEWAY, 0)) as proxy:
            proxy.sendall(f"PROXY TCP4 {address} {SERVER} 40000 22\r\n".encode())
            while proxy.recv(4096):
                pass

    def connect_all() -> None:
        with ThreadPoolExecutor(8) as pool:  # its threads run in the network of the one that starts them
            list(pool.map(connect, BY_PROXY_PROTOCOL * FAILURES))

    scene.attacker.within(connect_all)


def _reported(scene: Scene) -> Iterator[tuple[str, str, str]]:
    """Yield address, action and outcome of each report on an address that had a response."""
    for each in scene.fleet.threats():
        source, response = each["threat"]["evidence"].get("sourceIp"), each.get("response")
        if source is not None and response is not None:
            yield source, response["action"], response.get("outcome") or ""


def _wait_for_reports(scene: Scene, named: set[str]) -> None:
    missing = named

    def complete() -> bool:
        nonlocal missing
        missing = named - {source for source, _, _ in _reported(scene)}
        return not missing

    try:
        eventually(complete, 240, "a report on each", 1)
    except AssertionError as error:
        raise AssertionError(f"no report on {len(missing)}: {sorted(missing)[:10]}; {scene.fleet.status()}") from error


def test_none_of_a_thousand_wrong_addresses_is_blocked_and_the_attacker_is(scene: Scene) -> None:
    """By a container, www-data, a forwarded address, PROXY protocol, spoofed packets; reports say what was done."""
    assert len(WRONG_TARGETS) == 1000
    _forge_in_container(scene)
    _forge_as_www_data(scene)
    _connect_by_proxy_protocol(scene)
    scene.attacker.within(lambda: send_spoofed(SPOOFED, SERVER))
    _name_in_trusted_log(scene, [*FORWARDED, *SPOOFED])
    for _ in range(2):
        scene.attacker.ssh("root", REAL, WRONG, WRONG, WRONG)

    named = {*BY_CONTAINER, *BY_WWW_DATA, *FORWARDED, *SPOOFED, REAL}
    _wait_for_reports(scene, named)
    found = {source: (action, outcome) for source, action, outcome in _reported(scene)}
    for source in (*BY_CONTAINER, *BY_WWW_DATA):
        assert found[source][0] == "notify", (source, found[source])
    for source in (*FORWARDED, *SPOOFED):
        assert found[source][1].startswith("refused: this address never spoke to port 22 here"), (source, found[source])
    assert f"banner exchange: Connection from {GATEWAY}" in scene.host.journal("--identifier=sshd")
    assert not set(BY_PROXY_PROTOCOL) & found.keys()
    assert found[REAL] == ("block_ip", "taken")
    listed = json.loads(scene.host.run("nft", "-j", "list", "set", "inet", "panguard", "block4"))
    elements = next(each["set"].get("elem", []) for each in listed["nftables"] if "set" in each)
    assert [element["elem"]["val"] for element in elements] == [REAL]
    assert not scene.attacker.reaches(REAL)
