"""Installed guard and fence on a booted host: what really attacks is really blocked, and who belongs there never is."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.booted_host.attacker import PASSWORD, WRONG
from tests.support.booted_host.machine import ROOT
from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/guard/test_fenced.py"), pytest.mark.booted]

ADMIN = "203.0.113.100"
OPERATOR = "203.0.113.101"
"""Logs in as root, perhaps after others have guessed at root: then its address is slowed for an hour."""
ATTACKERS = [f"203.0.113.{number}" for number in range(110, 118)]
HANGING_UP = [f"203.0.113.{number}" for number in range(130, 140)]
FORGED = "203.0.113.150"
LIVE = "203.0.113.152"


@pytest.fixture(scope="module", autouse=True)
def _installed(scene: Scene) -> None:
    scene.fleet.start_manager()
    scene.fleet.install()


def _attack_until_dropped(scene: Scene, source: str) -> None:
    """Guess passwords from an address until the kernel drops its packets."""
    clients = [scene.attacker.start("root", source, WRONG, WRONG, WRONG) for _ in range(2)]
    try:
        eventually(lambda: not scene.attacker.answers(source), what=f"no answer to {source}")
        eventually(lambda: not scene.attacker.answers(source), what=f"still none to {source}, so it is no busy machine")
    finally:
        for client in clients:
            scene.attacker.end(client)


def test_the_fifth_failure_blocks(scene: Scene) -> None:
    """Eight attackers, one after the other; the manager hears `taken`, and nobody else is blocked."""
    for _ in range(2):
        scene.attacker.ssh("bob", ADMIN, WRONG, WRONG)
    for source in ATTACKERS:
        _attack_until_dropped(scene, source)
    blocked = scene.fleet.blocked()
    assert set(ATTACKERS) <= set(blocked)
    assert ADMIN not in blocked, (blocked[ADMIN], scene.fleet.threats(ADMIN))
    for source in ATTACKERS:
        eventually(lambda source=source: scene.fleet.threats(source), what="the report", pause=0.1)
        assert scene.fleet.threats(source)[0]["response"]["outcome"] == "taken"


def test_failures_that_hang_up_at_once_are_vouched_by_the_kernel(scene: Scene) -> None:
    """150 on a busy sshd, where journald loses executables: each attacker is blocked all the same."""
    with ThreadPoolExecutor(8) as pool:
        for source in HANGING_UP:
            for _ in range(15):
                pool.submit(scene.attacker.ssh, "root", source, WRONG, within=3)

    def missing() -> set[str]:
        return set(HANGING_UP) - {each["value"] for each in scene.fleet.entries()}

    eventually(lambda: not missing(), what="a block of each", pause=0.1)
    assert set(HANGING_UP) <= set(scene.fleet.blocked())
    for source in HANGING_UP:
        assert any("sourceIp" in each["threat"].get("vouched", []) for each in scene.fleet.threats(source))


def test_forged_records_block_nobody(scene: Scene) -> None:
    """Not by a user's logger, and not by root's for an address that never spoke to sshd."""
    log = (
        'for n in 1 2 3 4 5 6 7 8; do logger -p auth.info -t sshd "Failed password for root from $0 port 4 ssh2"; done'
    )
    scene.host.run("systemd-run", "--quiet", "--wait", "--uid=nobody", "sh", "-c", log.replace("$", "$$"), FORGED)
    eventually(lambda: scene.fleet.threats(FORGED), what="the report", pause=0.1)
    assert scene.fleet.threats(FORGED)[0]["response"]["action"] == "notify"
    assert FORGED not in scene.fleet.blocked()


def test_the_address_of_a_live_session_is_never_blocked(scene: Scene) -> None:
    """Not for another user's failures from there, not by hand, not by the policy; and each refusal has its reason."""
    session = scene.attacker.start("alice", LIVE, keys=["right"], command="echo in; sleep 100")
    try:
        assert session.stdout is not None
        assert session.stdout.readline() == "in\n"
        for _ in range(4):
            scene.attacker.ssh("bob", LIVE, WRONG, WRONG, WRONG, within=10)
        by_hand = scene.host.panguard("guard", "block", LIVE, "--for", "10m")
        assert by_hand.returncode == 1
        assert "refused" in by_hand.stderr
        scene.fleet.put_policy({"blocklist": {"ips": [LIVE, "198.51.100.77"]}})
        eventually(lambda: scene.fleet.entries("198.51.100.77"), what="the policy at the fence", pause=0.1)
        assert not scene.fleet.in_kernel(LIVE)
        assert scene.fleet.blocked().get(LIVE, {}).get("measure") != "block"
        assert scene.attacker.reaches(LIVE)
        reasons = scene.fleet.status()["enforced"]["reasons"]
        assert any(each["value"] == LIVE for each in reasons), reasons
    finally:
        scene.attacker.end(session)


def test_protection_is_confirmed_from_a_session_opened_after_the_change(scene: Scene) -> None:
    """Over ssh, as an operator does."""
    command = f"PYTHONPATH={ROOT} {scene.host.python} -m panguard guard confirm"
    assert scene.attacker.ssh("root", OPERATOR, PASSWORD, command=command)
    eventually(
        lambda: scene.fleet.kept_status().get("trialSecondsLeft") is None, what="the end of the trial", pause=0.1
    )
    assert scene.fleet.status()["mode"] == "protection"
