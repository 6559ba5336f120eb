"""Each refusal of the fence by itself: on a host of files, with a table in memory, on a virtual clock.

The same is asked of a real fence in tests/integration/fence; here a refusal that is taken out fails within a second.
"""

import json
import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fence.config import build
from fence.host import Host
from fence.manifest import Manifest
from fence.service import Clocks, Fence, Peer
from schemas import message_codes
from tests.support.kernel_twin import KernelTwin

GUARD_UID = 10_001
BOOT = "11111111-1111-1111-1111-111111111111"
NOW = 1_795_000_000.0
OWN, GATEWAY, RESOLVER, LISTED = "203.0.113.1", "203.0.113.254", "192.0.2.53", "198.51.100.200"
SESSION, LOGIN, LATER = "198.51.100.101", "198.51.100.103", "198.51.100.105"
TARGET, UNSEEN = "198.51.100.7", "198.51.100.8"
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
AGENT = "ag-0123456789abcdef"
EMPTY = {"blocklist": {"ips": []}, "allowlist": {"ips": []}}


class World:
    """A fence in this process, and the files of its host."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.now = 1000.0
        self.root = root
        little = int.from_bytes(IPv4Address(GATEWAY).packed, "little")
        self.write("proc/net/fib_trie", f"   |-- {OWN}\n      /32 host LOCAL\n")
        self.write("proc/net/route", f"Iface Destination Gateway\neth0 00000000 {little:08X} 0003\n")
        self.write("etc/resolv.conf", f"nameserver {RESOLVER}\n")
        self.write("proc/net/tcp", "head\n0: 00000000:0016 00000000:0000 0A\n")
        self.write("run/utmp", _login(SESSION))
        self.write("var/log/wtmp", _login(LOGIN))
        self.kernel = KernelTwin()
        public = message_codes.to_base64url(KEY.public_key().public_bytes_raw())
        document = {"guard_uid": GUARD_UID, "never": [f"{LISTED}/29"], "sign_keys": [public], "agent_id": AGENT}
        self.fence = Fence(
            build({**document, "organization_id": "acme", **settings}),
            kernel=self.kernel,
            manifest=Manifest(root / "state", BOOT),
            host=Host(root),
            clocks=Clocks(lambda: self.now, lambda: NOW + self.now),
            boot_id=BOOT,
            log=lambda _event: None,
        )
        self.fence.enforcement.missing = lambda: None  # type: ignore[method-assign] -- no capability is needed

    def write(self, name: str, content: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def ask(self, request: str, uid: int = GUARD_UID, **members: Any) -> dict[str, Any]:
        return self.fence.answer(Peer(uid), {"request": request, **members})

    def block(self, value: Any, uid: int = GUARD_UID, **members: Any) -> str:
        """Return `taken`, or outcome and reason."""
        answer = self.ask("block", uid, **{"value": value, "seconds": 60, **members})
        return "taken" if answer["ok"] else f"{answer['outcome']}: {answer['reason']}"

    def give(self, topic: str, document: dict[str, Any], key: Ed25519PrivateKey = KEY) -> str:
        """Pass a signed message on; return `taken` or the reason."""
        payload = message_codes.with_signature(key, topic, json.dumps(document).encode()).decode()
        answer = self.ask("managed", topic=topic, payload=payload)
        return "taken" if answer["ok"] else str(answer["reason"])

    def change(self, before: int, sequence: int, organization: str = "acme", **members: Any) -> str:
        topic = f"organizations/{organization}/blocklist/changes"
        head = {"organizationId": organization, "fromSequence": before, "sequence": sequence}
        return self.give(topic, {**head, "sentAt": "2026-11-29T00:00:00Z", **members})

    def policy(self, version: int, agent_id: str = AGENT, topic_of: str = AGENT, **members: Any) -> str:
        document = {"agentId": agent_id, "version": version, **EMPTY}
        return self.give(f"agents/{topic_of}/policy", {**document, "sentAt": "2026-11-29T00:00:00Z", **members})


def _login(address: str) -> bytes:
    number = int.from_bytes(IPv4Address(address).packed, "little")
    return struct.pack(
        "=hxxi32s4s32s256shhiii4I20x", 7, 1, b"", b"", b"bob", b"", 0, 0, 0, int(NOW), 0, number, 0, 0, 0
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_ordinary_address_is_taken(world: World) -> None:
    """Without this every other test here would pass with a fence that refuses all."""
    assert world.block(TARGET, port=22) == "taken"
    assert world.kernel.addresses("block") == [TARGET]


@pytest.mark.parametrize("uid", [GUARD_UID, 0])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (OWN, "an address of this host"),
        (GATEWAY, "a gateway"),
        (RESOLVER, "a name server"),
        (LISTED, "never list"),
        (SESSION, "logged in from it now"),
        ("127.0.0.1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::cb00:7101", "an address of this host"),
        ("2002:cb00:7101::1", "an address of this host"),
        ("64:ff9b::c633:64c8", "never list"),
        ("2002:c633:6465::7", "logged in from it now"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:a00:9::1", "private"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("0.0.0.0", "unspecified"),
        ("168.63.129.16", "cloud fixture"),
        ("10.0.0.9", "private"),
        ("100.64.0.9", "private"),
        ("fd00::9", "private"),
        ("example.org", "no address"),
        ("198.51.100.7; drop", "no address"),
        ("fe80::1%eth0", "no address"),
        ("\uff11\uff19\uff18.51.100.7", "no address"),
        (7, "no address"),
    ],
)
def test_a_target_is_refused_whoever_asks(world: World, value: Any, reason: str, uid: int) -> None:
    """The never-rules hold for the guard and for root."""
    answer = world.block(value, uid)
    assert answer.startswith("refused: ")
    assert reason in answer
    assert world.kernel.addresses("block") == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("64:ff9b::/48", "wider than a /24"),
        ("64:ff9b::/95", "wider than a /24"),
        ("64:ff9b::/96", "wider than a /24"),
        ("64:ff9b::7f00:0/104", "wider than a /24"),
        ("64:ff9b::a9fe:a9fe/127", "link-local"),
        ("2002:cb00:7101::/48", "an address of this host"),
        ("64:ff9b::cb00:7100/120", "an address of this host"),
        ("::fffe:0:0/95", "IPv4-mapped"),
    ],
)
def test_a_network_is_refused_for_an_ipv4_network_in_it(world: World, value: str, reason: str) -> None:
    """NAT64 and 6to4 lead packets to the IPv4 address: root blocks no network that a never-rule protects there."""
    assert reason in world.block(value, 0)
    assert world.block("2002:c633:6407::/48", 0) == "taken"
    assert world.block("64:ff9b::c633:6408/125", 0) == "taken"


def test_a_session_counts_from_its_beginning(world: World) -> None:
    """The facts read a moment earlier do not hide it, neither from a decision nor from a signed message."""
    assert world.block(TARGET) == "taken"
    world.write("run/utmp", _login(UNSEEN))
    for uid in (GUARD_UID, 0):
        assert "logged in from it now" in world.block(UNSEEN, uid)
    world.write("run/utmp", _login(LATER))
    assert world.policy(1, blocklist={"ips": [LATER]}) == "taken"
    assert "logged in from it now" in str(world.ask("check")["reasons"])
    assert world.kernel.addresses("block") == [TARGET]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"seconds": None}, "without an end"),
        ({"seconds": 0}, "without an end"),
        ({"seconds": True}, "without an end"),
        ({"seconds": float("inf")}, "without an end"),
        ({"seconds": 31 * 86_400}, "at most"),
        ({"port": 0}, "TCP port"),
        ({"port": True}, "TCP port"),
        ({"port": 65_536}, "TCP port"),
    ],
)
def test_a_request_without_an_end_or_a_port_is_refused(world: World, members: dict[str, Any], reason: str) -> None:
    """Nothing is blocked for ever; root asks, as a guard's decision is cut to the longest time."""
    assert reason in world.block(TARGET, 0, **members)


def test_a_guard_takes_no_networks(world: World) -> None:
    """But a /64, of which three addresses are witnessed; root takes up to a /24."""
    assert "single IPv4" in world.block("198.51.100.0/28")
    assert "single IPv6 addresses or a /64" in world.block("2001:db8::/63")
    assert world.block("198.51.100.0/27", 0) == "taken"
    assert "wider than a /24" in world.block("198.51.0.0/23", 0)
    assert "wider than a /48" in world.block("2001:db8::/47", 0)


def test_an_unwitnessed_address_is_refused(world: World) -> None:
    """The kernel knows nothing of it on that port."""
    assert "never spoke to port 22" in world.block(UNSEEN, port=22)


def test_the_caps_hold_and_pass(world: World) -> None:
    """The 21st without a witness, the 201st with one; five minutes later there is room again."""
    without = [world.block(f"198.51.100.{number}") for number in range(1, 22)]
    assert without[:20] == ["taken"] * 20
    assert "cap of own decisions" in without[20]
    with_one = [world.block(f"203.0.{112 if n < 120 else 114}.{2 * (n % 120) + 1}", port=22) for n in range(201)]
    assert with_one[:200] == ["taken"] * 200
    assert "cap of own decisions" in with_one[200]
    world.now += 301
    assert world.block("198.51.100.21") == "taken"


def test_who_logged_in_lately_can_be_throttled(world: World) -> None:
    """The refusal offers it; root may block the address."""
    answer = world.ask("block", value=LOGIN, seconds=60)
    assert (answer["outcome"], answer["instead"]) == ("refused", "throttle")
    assert world.ask("throttle", value=LOGIN, seconds=60)["ok"]
    assert world.block(LOGIN, 0) == "taken"


def test_where_nothing_listens_it_is_impossible(world: World) -> None:
    """This network namespace is not the one that is attacked."""
    world.write("proc/net/tcp", "head\n")
    assert world.block(TARGET, port=22).startswith("impossible: nothing listens on port 22")


def test_panic_stops_everything(world: World) -> None:
    """Own, operator's and managed measures, until `resume`; the guard has neither."""
    assert "no such request" in world.ask("panic")["reason"]
    assert world.ask("panic", 0)["ok"]
    assert "stopped by `panic`" in world.block(TARGET)
    assert "stopped by `panic`" in world.policy(1)
    assert "no such request" in world.ask("resume")["reason"]
    assert world.ask("resume", 0)["ok"]
    assert world.block(TARGET) == "taken"


def test_a_guard_lifts_its_own_only(world: World) -> None:
    """What an operator or the manager has set stays."""
    world.block(TARGET, 0)
    assert "lift it as root" in world.ask("lift", value=TARGET)["reason"]
    assert "nothing is set there" in world.ask("lift", value=UNSEEN)["reason"]


def test_only_this_managers_messages_for_this_host_are_taken(world: World) -> None:
    """Another key, agent, organization or topic, an older number, and a gap."""
    assert world.policy(3) == "taken"
    assert "older than 3" in world.policy(2)
    assert "not the manager's" in world.give(f"agents/{AGENT}/policy", {"agentId": AGENT, "version": 9}, OTHER_KEY)
    assert "not this agent's policy" in world.policy(9, topic_of="ag-00000000000000ff")
    assert "policy of another agent" in world.policy(9, agent_id="ag-00000000000000ff")
    assert world.change(0, 5) == "taken"
    assert "send the snapshot" in world.change(6, 7)
    assert "not this agent's policy nor" in world.change(5, 6, organization="other")
    assert "older than" in world.give(
        "organizations/acme/blocklist", {"organizationId": "acme", "sequence": 4, "entries": []}
    )


def test_one_changed_byte_of_a_signed_message_is_refused(world: World) -> None:
    """Anywhere in it."""
    topic, document = f"agents/{AGENT}/policy", {"agentId": AGENT, "version": 3, **EMPTY}
    payload = message_codes.with_signature(KEY, topic, json.dumps(document).encode())
    for place in (*range(0, len(payload) - 110, 7), *range(len(payload) - 110, len(payload))):
        forged = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
        answer = world.ask("managed", topic=topic, payload=forged.decode(errors="replace"))
        assert not answer["ok"]


def test_the_signed_lists_exempt_targets(world: World) -> None:
    """The organization's `never` and the policy's allowlist are refused, and what was set before is lifted."""
    for value in (TARGET, "64:ff9b::c633:6407", "2002:c633:6407::1"):
        assert world.block(value, 0) == "taken"
    assert world.change(0, 5, never=["198.51.100.0/28"]) == "taken"
    assert world.kernel.addresses("block") == []
    for value in (TARGET, "64:ff9b::c633:6407", "2002:c633:6407::1"):
        assert "belongs to the fleet" in world.block(value)
    assert world.policy(1, allowlist={"ips": ["203.0.114.9"]}) == "taken"
    assert "on the allowlist" in world.block("203.0.114.9")


@pytest.mark.parametrize(("private", "block", "throttle"), [("never", 0, 0), ("throttle", 0, 1), ("block", 1, 1)])
def test_private_targets_are_the_hosts_choice(tmp_path: Path, private: str, block: int, throttle: int) -> None:
    """By default nothing is done to them."""
    world = World(tmp_path, private_targets=private)
    assert world.ask("block", value="10.0.0.9", seconds=60)["ok"] is bool(block)
    assert world.ask("throttle", value="10.0.0.9", seconds=60)["ok"] is bool(throttle)


def test_the_fence_ends_a_trial_by_itself_and_takes_no_late_confirmation(world: World) -> None:
    """With the guard dead: at the trial's end nothing of the guard is left, and nobody can confirm what has ended."""
    assert world.ask("trial", seconds=600)["outcome"] == "noted"
    assert world.block(TARGET, seconds=3600) == "taken"
    world.now += 599
    assert world.fence.check()["trialSecondsLeft"] == 1
    assert world.fence.measures == 1
    world.now += 2
    assert world.fence.check()["trialSecondsLeft"] is None
    assert world.fence.measures == 0
    assert world.ask("confirm", uid=0)["reason"] == "no trial is running"


def test_a_request_that_is_over_the_caps_reads_no_login_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one for a target that is blocked already: a guard that was taken over cannot keep the fence reading."""
    reads: list[float] = []
    read = Host.sessions

    def sessions(host: Host) -> Any:
        reads.append(world.now)
        return read(host)

    monkeypatch.setattr(Host, "sessions", sessions)
    for number in range(1, 22):
        world.block(f"198.51.100.{number}")
    before = len(reads)
    assert "cap of own decisions" in world.block("198.51.100.30")
    assert world.block("198.51.100.1") == "taken"
    assert before >= 20
    assert len(reads) == before
