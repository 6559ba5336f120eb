"""What a fence refuses, asked as the guard's user on its socket, and what only the manager's signature opens."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import message_codes
from schemas.model import iso
from tests.support.fence_process import GUARD_UID, FenceProcess
from tests.support.network import Network, NetworkHost

pytestmark = pytest.mark.namespaces

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
AGENT, ORGANIZATION = "ag-0123456789abcdef", "acme"
NOW = 1_795_000_000.0


@pytest.fixture(scope="module")
def host() -> Iterator[NetworkHost]:
    with Network() as network:
        yield network.host("203.0.113.1/24", "2001:db8::1/64", gateway="203.0.113.254")


@pytest.fixture
def fence(host: NetworkHost, tmp_path: Path) -> Iterator[FenceProcess]:
    with FenceProcess(
        host,
        tmp_path,
        protected_ports=[],
        sign_keys=[message_codes.to_base64url(KEY.public_key().public_bytes_raw())],
        agent_id=AGENT,
        organization_id=ORGANIZATION,
        never=["198.51.100.0/28"],
    ) as fence:
        yield fence


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("203.0.113.1", "address of this host"),
        ("2001:db8::1", "address of this host"),
        ("203.0.113.254", "gateway"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("0:0:0:0:0:0:0:1", "loopback"),
        ("::ffff:7f00:1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("168.63.129.16", "cloud fixture"),
        ("35.235.240.9", "cloud fixture"),
        ("192.168.1.10", "private address"),
        ("fd00::1", "private address"),
        ("198.51.100.3", "never list"),
        ("localhost", "no address"),
        ("203.0.113.9; reboot", "no address"),
        ("203.0.113.9 } ; flush ruleset", "no address"),
        ("0x7f.1", "no address"),
        ("127.1", "no address"),
        ("fe80::1%eth0", "no address"),
        ("203.0.113.9/24", "no address"),
        ("203.0.113.0/24", "single IPv4"),
        ("2001:db8::/32", "/64"),
        (None, "no address"),
        (["203.0.113.9"], "no address"),
    ],
)
def test_a_target_is_refused_with_its_reason(fence: FenceProcess, value: Any, reason: str) -> None:
    """Own address, gateway, special ranges in each spelling, names, shell and nft syntax, wide networks."""
    answer = fence.as_guard(request="block", value=value, seconds=60)
    assert (answer["ok"], answer["outcome"]) == (False, "refused")
    assert reason in answer["reason"]
    assert fence.ask(request="list")["entries"] == []


@pytest.mark.parametrize("seconds", [None, 0, -1, "60", True, 1e12, 31 * 86_400, float("inf")])
def test_nothing_is_blocked_without_an_end(fence: FenceProcess, seconds: Any) -> None:
    """Seconds must be a positive number within 30 days; a guard's decision is cut to them."""
    assert fence.ask(request="block", value="198.51.100.77", seconds=seconds)["outcome"] == "refused"


def test_the_twenty_first_own_address_without_a_witness_is_refused_also_after_a_restart(fence: FenceProcess) -> None:
    """A guard that was taken over blocks some twenty addresses that never attacked, and no more."""
    for number in range(20):
        assert fence.as_guard(request="block", value=f"198.51.100.{100 + number}", seconds=60)["outcome"] == "taken"
    assert "cap" in fence.as_guard(request="block", value="198.51.100.200", seconds=60)["reason"]
    fence.stop()
    fence.start()
    assert "cap" in fence.as_guard(request="throttle", value="198.51.100.201", seconds=60)["reason"]
    assert fence.as_guard(request="block", value="198.51.100.100", seconds=90)["outcome"] == "taken"
    assert fence.ask(request="block", value="198.51.100.200", seconds=60)["outcome"] == "taken"


def test_a_guard_lifts_its_own_measures_only_and_has_no_panic(fence: FenceProcess) -> None:
    """What an operator set stays until an operator lifts it."""
    assert fence.ask(request="block", value="198.51.100.77", seconds=60)["outcome"] == "taken"
    assert fence.as_guard(request="lift", value="198.51.100.77")["outcome"] == "refused"
    for request in ("panic", "resume"):
        assert fence.as_guard(request=request)["outcome"] == "refused"
    assert len(fence.ask(request="list")["entries"]) == 1


def test_a_guard_that_holds_every_connection_and_floods_it_keeps_root_out_of_nothing(fence: FenceProcess) -> None:
    """Root keeps connections of its own, and is answered before the guard's pipelined lines."""
    fence.open_path()
    words = [sys.executable, "-c", _FLOOD, str(fence.socket), str(GUARD_UID)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as flood:  # noqa: S603 -- ours
        assert flood.stdout is not None
        assert flood.stdout.readline() == b"held\n"
        assert fence.ask(request="panic")["outcome"] == "lifted"
        flood.kill()


_FLOOD = """
import os, socket, sys, time
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
held = [socket.socket(socket.AF_UNIX) for _ in range(20)]
for number, each in enumerate(held):
    try:
        each.settimeout(0.2)
        each.connect(sys.argv[1])
        each.sendall(b'{"request":"status"}\\n' * (5000 if number < 4 else 0))
    except OSError:
        pass
print("held", flush=True)
# the connections stay open until the test ends this process
time.sleep(60)
"""


def test_another_user_is_not_answered(fence: FenceProcess) -> None:
    """The socket opens for root and the guard's user alone."""
    with pytest.raises(PermissionError):
        fence.ask_as(10_002, request="status")


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"null", b'{"request": ["block"]}', b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_request_is_refused_and_the_fence_goes_on(fence: FenceProcess, line: bytes) -> None:
    """Hostile lines get an answer, and the next request too."""
    assert fence.send(line)["outcome"] == "refused"
    assert fence.ask(request="status")["ok"]


def _snapshot(sequence: int, *values: str, organization: str = ORGANIZATION, **beside: Any) -> tuple[str, str]:
    topic = f"organizations/{organization}/blocklist"
    document = {
        "organizationId": organization,
        "sequence": sequence,
        "sentAt": iso(NOW),
        "entries": [{"kind": "ip", "value": value, "secondsLeft": 600} for value in values],
        **beside,
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return topic, message_codes.with_signature(KEY, topic, body).decode()


def _hand_over(fence: FenceProcess, message: tuple[str, str], **beside: Any) -> dict[str, Any]:
    return fence.as_guard(request="managed", topic=message[0], payload=message[1], **beside)


def test_a_signed_snapshot_is_set_and_its_never_list_is_kept(fence: FenceProcess) -> None:
    """Ten thousand may come; what the fleet needs is refused whoever asks, and lifted where it was set before."""
    assert fence.ask(request="block", value="198.51.100.90", seconds=60)["outcome"] == "taken"
    answer = _hand_over(fence, _snapshot(5, "198.51.100.77", "198.51.100.91", "10.0.0.1", never=["198.51.100.90/31"]))
    assert (answer["outcome"], answer["set"], answer["refused"], answer["blocklistSequence"]) == ("taken", 1, 2, 5)
    assert {each["value"] for each in answer["reasons"]} == {"198.51.100.91", "10.0.0.1"}  # as the snapshot writes them
    (entry,) = fence.ask(request="list")["entries"]
    assert (entry["value"], entry["origin"]) == ("198.51.100.77", "blocklist")
    assert "fleet" in fence.ask(request="block", value="198.51.100.91", seconds=60)["reason"]


def test_a_forged_an_older_and_anothers_message_are_refused(fence: FenceProcess) -> None:
    """One changed byte, a replay, another organization, another topic, another key."""
    topic, payload = _snapshot(5, "198.51.100.77")
    assert _hand_over(fence, (topic, payload))["outcome"] == "taken"
    forged = payload.replace("198.51.100.77", "198.51.100.78")
    assert "signature" in _hand_over(fence, (topic, forged))["reason"]
    assert "older" in _hand_over(fence, _snapshot(4, "198.51.100.79"))["reason"]
    assert _hand_over(fence, _snapshot(9, "198.51.100.79", organization="evil"))["outcome"] == "refused"
    assert _hand_over(fence, (f"agents/{AGENT}/policy", payload))["outcome"] == "refused"
    other = message_codes.with_signature(
        Ed25519PrivateKey.generate(), topic, re.sub(r',"signature.*', "}", payload).encode()
    )
    assert "signature" in _hand_over(fence, (topic, other.decode()))["reason"]
    assert [entry["value"] for entry in fence.ask(request="list")["entries"]] == ["198.51.100.77"]


def test_a_message_that_came_three_hours_late_is_set_for_the_rest_only(fence: FenceProcess) -> None:
    """The guard knows the manager's time and its word shortens; no word of the guard makes a measure longer."""
    topic, payload = _snapshot(5, "198.51.100.77")
    _hand_over(fence, (topic, payload), managerTime=NOW + 540)
    (entry,) = fence.ask(request="list")["entries"]
    assert 0 < entry["secondsLeft"] <= 60
    (element,) = fence.elements("block4")
    assert 0 < element["elem"]["expires"] <= 60
    _hand_over(fence, _snapshot(6, "198.51.100.77"), managerTime=NOW - 10_000)
    (entry,) = fence.ask(request="list")["entries"]
    assert entry["secondsLeft"] <= 60


def test_ten_thousand_signed_entries_are_in_the_kernel(fence: FenceProcess) -> None:
    """All of them, and none beside."""
    values = [f"198.{18 + n // 65_536}.{n // 256 % 256}.{n % 256}" for n in range(10_000)]
    assert _hand_over(fence, _snapshot(7, *values))["set"] == 10_000
    assert len(fence.elements("block4")) == 10_000
