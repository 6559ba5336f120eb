"""Records that local users and containers forge are reported without proof and never acted upon."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.booted_host.attacker import WRONG
from tests.support.booted_host.machine import BootedHost
from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = pytest.mark.booted

ADMIN, REAL = "203.0.113.50", "203.0.113.51"
BY_NOBODY, BY_PERSON = "198.51.100.1", "198.51.100.2"
BY_SETUID, BY_CONTAINER = "198.51.100.3", "198.51.100.4"
FORGED = (BY_NOBODY, BY_PERSON, BY_SETUID, BY_CONTAINER)

_FORGE = """
import os, socket, sys, time
try:
    os.setuid(0)
except PermissionError:
    pass
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/run/systemd/journal/dev-log")
for port in range(40001, 40009):
    text = f"Failed password for root from {sys.argv[1]} port {port} ssh2"
    log.send(f"<38>sshd[{os.getpid()}]: {text}".encode())
# journald looks at the writer of a record while it lives, and does not say when it has
time.sleep(1)
"""
"""Writes what sshd writes, as root where it can, and lives until journald has looked at it."""


@pytest.fixture(scope="module", autouse=True)
def _furnish(scene: Scene) -> None:
    """Make the forgers: a setuid interpreter with a link named sshd, and a container with its own /usr/sbin/sshd."""
    host = scene.host
    scene.fleet.start_manager()
    scene.fleet.start_guard("--mode", "protection")
    host.write("/opt/forge.py", _FORGE)
    script = """
        set -e
        install -m 4755 /usr/bin/python3.11 /opt/tool
        ln -s /opt/tool /opt/sshd
        mkdir -p /opt/container/usr /opt/container/opt
        for folder in bin lib lib64 sbin; do ln -s usr/$folder /opt/container/$folder; done
    """
    host.run("sh", "-c", script)


def _in_container(host: BootedHost) -> None:
    """Forge in a container: a root of its own, of which /usr/sbin/sshd is another program; it shares /dev/log."""
    words = ["systemd-run", "--quiet", "--wait", "--slice=machine.slice", "--property=RootDirectory=/opt/container"]
    words += ["--property=BindReadOnlyPaths=/usr /opt/forge.py", "--property=BindPaths=/run/systemd/journal"]
    words += ["--property=BindReadOnlyPaths=/opt/tool:/usr/sbin/sshd"]
    host.run(*words, "/usr/sbin/sshd", "/opt/forge.py", BY_CONTAINER)


def test_forged_records_are_reported_without_proof_and_nothing_is_done(scene: Scene) -> None:
    """A user's `logger -t sshd`, a setuid program that runs as sshd, a container: only the real sshd is believed."""
    host, attacker, fleet = scene.host, scene.attacker, scene.fleet
    logs = (
        'for n in 1 2 3 4 5 6 7 8; do logger -p auth.info -t sshd "Failed password for root from $0 port $n ssh2"; done'
    )
    nobody = ("systemd-run", "--quiet", "--wait", "--uid=nobody", "sh", "-c", logs.replace("$", "$$"), BY_NOBODY)
    person = f"sh -c '{logs}' {BY_PERSON}"
    with ThreadPoolExecutor(4) as pool:
        running = [
            pool.submit(attacker.ssh, "alice", ADMIN, keys=["right"], command=person),
            pool.submit(host.run, *nobody),
            pool.submit(attacker.ssh, "alice", ADMIN, keys=["right"], command=f"/opt/sshd /opt/forge.py {BY_SETUID}"),
            pool.submit(_in_container, host),
            *(pool.submit(attacker.ssh, "alice", REAL, WRONG, WRONG, WRONG) for _ in range(3)),
        ]
        for each in running:
            each.result()
    entry = host.run("journalctl", "--output=json", "--output-fields=_UID,_COMM,_EXE,MESSAGE", "--lines=500")
    forged = [line for line in entry.splitlines() if BY_CONTAINER in line]
    assert any('"_EXE":"/usr/sbin/sshd"' in line and '"_UID":"0"' in line for line in forged), forged
    assert any('"_COMM":"sshd"' in line and '"_UID":"0"' in line for line in entry.splitlines() if BY_SETUID in line)
    for source in (*FORGED, REAL):
        eventually(lambda source=source: fleet.threats(source), what=f"a report on {source}", pause=0.1)
    for source in FORGED:
        for report in fleet.threats(source):
            assert "vouched" not in report["threat"], report
            assert report["response"]["action"] == "notify", report
    real = fleet.threats(REAL)
    assert any(report["threat"].get("vouched") and report["response"]["action"] == "block_ip" for report in real), real
    assert {measure["value"] for measure in fleet.status()["recorded"]} <= {REAL}


def test_a_persons_wrong_passwords_for_su_are_found(scene: Scene) -> None:
    """Journald keeps these records in the person's own journal."""
    guess = "for n in 1 2 3 4 5 6; do echo wrong | su root -c true; done; true"
    assert scene.attacker.ssh("bob", ADMIN, keys=["right"], command=guess)

    def found() -> bool:
        return any(each["threat"]["ruleId"] == "su-brute-force" for each in scene.fleet.threats())

    eventually(found, what="the report on su", pause=0.1)
