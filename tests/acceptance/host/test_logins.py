"""Attacks over a real sshd and journald of a booted host are found, and their near misses are not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.booted_host.attacker import PASSWORD, WRONG, Attacker
from tests.support.booted_host.scene import Scene
from tests.support.waiting import eventually

pytestmark = pytest.mark.booted

EARLIER = "203.0.113.20"
BRUTE = ("sshd-brute-force", "medium")
THREE = (WRONG, WRONG, WRONG)


@pytest.fixture(scope="module", autouse=True)
def _attacked_before_its_first_start(scene: Scene) -> None:
    """Attack the host while it has no guard; then start manager and guard."""
    for _ in range(3):
        scene.attacker.ssh("root", EARLIER, *THREE)
    scene.fleet.start_manager()
    scene.fleet.start_guard("--mode", "protection")


def test_a_first_start_names_who_attacked_within_the_last_24_hours(scene: Scene) -> None:
    """Within a minute, and without acting: what is past is reported only."""
    eventually(lambda: BRUTE in scene.fleet.rules(EARLIER), what="the attacker from before the first start", pause=0.1)
    assert {each["response"]["outcome"] for each in scene.fleet.threats(EARLIER)} <= {"would_be_taken"}
    assert "looked_back" in scene.fleet.log()


def _passwords(attacker: Attacker, source: str) -> None:
    for _ in range(3):
        attacker.ssh("alice", source, *THREE)


def _keyboard_interactive(attacker: Attacker, source: str) -> None:
    for _ in range(3):
        attacker.ssh("alice", source, *THREE, method="keyboard-interactive")


def _invalid_users(attacker: Attacker, source: str) -> None:
    for user in ("oracle", "admin", "test", "git", "ftp", "postgres"):
        attacker.ssh(user, source, WRONG)


def _guessed(attacker: Attacker, source: str) -> None:
    for _ in range(4):
        attacker.ssh("carol", source, *THREE)
    assert attacker.ssh("carol", source, PASSWORD)


def _root_by_password(attacker: Attacker, source: str) -> None:
    assert attacker.ssh("root", source, PASSWORD)


def _names_without_passwords(attacker: Attacker, source: str) -> None:
    for user in ("oracle", "admin", "test", "git", "ftp", "postgres"):
        attacker.ssh(user, source, keys=["wrong0"])


def _wrong_key_of_one_user(attacker: Attacker, source: str) -> None:
    for _ in range(10):
        attacker.ssh("alice", source, keys=["wrong0"])


def _banners(attacker: Attacker, source: str) -> None:
    for _ in range(10):  # journald loses the executable of some: proven and unproven ones are counted apart
        attacker.say(source, b"GET / HTTP/1.0\r\n\r\n")


def _key_exchange(attacker: Attacker, source: str) -> None:
    for _ in range(10):
        attacker.say(source, b"SSH-2.0-scan\r\n\x00\x00\x00\x0c\x0a" + bytes(11))


ATTACKS: list[tuple[str, Callable[[Attacker, str], None], str, tuple[str, str]]] = [
    ("203.0.113.21", _passwords, "passwords", BRUTE),
    ("203.0.113.22", _keyboard_interactive, "keyboard-interactive", BRUTE),
    ("203.0.113.23", _invalid_users, "users who do not exist", BRUTE),
    ("203.0.113.24", _guessed, "a login after failures", ("sshd-login-after-failures", "critical")),
    ("203.0.113.25", _root_by_password, "root by password", ("sshd-root-password-login", "medium")),
    ("203.0.113.60", _names_without_passwords, "names where only keys are taken", BRUTE),
    ("203.0.113.61", _wrong_key_of_one_user, "one user's wrong key, again and again", ("sshd-scan", "low")),
    ("203.0.113.26", _banners, "no identification", ("sshd-scan", "low")),
    ("203.0.113.27", _key_exchange, "no key exchange", ("sshd-scan", "low")),
]


def _four_passwords(attacker: Attacker, source: str) -> None:
    attacker.ssh("bob", source, *THREE)
    attacker.ssh("bob", source, WRONG)


def _an_agents_keys(attacker: Attacker, source: str) -> None:
    for _ in range(2):
        assert attacker.ssh("alice", source, keys=["wrong0", "wrong1", "wrong2", "wrong3", "wrong4", "right"])


def _a_login_by_key(attacker: Attacker, source: str) -> None:
    for _ in range(6):
        assert attacker.ssh("bob", source, keys=["right"])


def _four_banners(attacker: Attacker, source: str) -> None:
    for _ in range(4):
        attacker.say(source, b"GET / HTTP/1.0\r\n\r\n")


NEAR_MISSES: list[tuple[str, Callable[[Attacker, str], None]]] = [
    ("203.0.113.40", _four_passwords),
    ("203.0.113.41", _an_agents_keys),
    ("203.0.113.42", _a_login_by_key),
    ("203.0.113.43", _four_banners),
]


def test_each_attack_is_found_and_vouched_and_no_near_miss_is(scene: Scene) -> None:
    """Nine attacks at once, each from its own address, beside four that are none; all of it reaches the manager."""
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(story, scene.attacker, source) for source, story in NEAR_MISSES]
        running += [pool.submit(story, scene.attacker, source) for source, story, _, _ in ATTACKS]
        for each in running:
            each.result()

    def missing() -> list[str]:
        return [name for source, _, name, rule in ATTACKS if rule not in scene.fleet.rules(source)]

    eventually(lambda: not missing(), what="each attack", pause=0.3)
    assert {source: scene.fleet.rules(source) for source, _ in NEAR_MISSES} == {
        source: set() for source, _ in NEAR_MISSES
    }
    for source, _, name, (rule, _) in ATTACKS:
        if rule == "sshd-scan":
            continue  # sshd's processes have often ended before journald looks at them
        assert any("sourceIp" in each["threat"].get("vouched", []) for each in scene.fleet.threats(source)), name
