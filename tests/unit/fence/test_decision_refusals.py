"""Refusals of decisions by guard and root, each by itself, on a fence with a table in memory."""

import struct
from ipaddress import ip_address

import pytest

from tests.unit.fence.conftest import GUARD_UID, Bench

TARGET, OTHER = "198.51.100.7", "198.51.100.8"
DAY = 86_400.0


def _connection(remote: str, uid: int, state: str = "01") -> str:
    number = struct.unpack("=I", ip_address(remote).packed)[0]
    return f"  1: 00000000:0016 {number:08X}:9C40 {state} 0:0 00:0 0 {uid} 0 1\n"


def _connect(bench: Bench, line: str) -> None:
    with (bench.home / "proc/net/tcp").open("a") as table:
        table.write(line)
    bench.now += 6


def test_a_connection_that_may_still_be_logging_in_protects_nobody(bench: Bench) -> None:
    """An attacker has one too, and it is root's until it has logged in."""
    _connect(bench, _connection(TARGET, 0))
    bench.ask("check")
    bench.now += 110
    assert bench.ask("block", value=TARGET, seconds=60)["outcome"] == "taken"


def test_a_connection_that_has_ended_is_no_peer(bench: Bench) -> None:
    """TIME_WAIT belongs to root, whoever had the connection."""
    _connect(bench, _connection(TARGET, GUARD_UID, "06"))
    assert bench.ask("block", value=TARGET, seconds=60)["outcome"] == "taken"


def test_root_is_refused_its_own_address_as_its_process_shows(bench: Bench) -> None:
    """Also where the command says nothing of it; a throttle cuts nobody off."""
    ssh = f"SSH_CONNECTION={TARGET} 1 2 22\0".encode()
    for process, parent, variable in ((4242, 4241, b"HOME=/root\0"), (4241, 1, ssh)):
        folder = bench.home / f"proc/{process}"
        folder.mkdir(parents=True)
        (folder / "environ").write_bytes(variable)
        (folder / "stat").write_text(f"{process} (bash) S {parent} 0")
    assert "logged in from it" in bench.ask("block", pid=4242, value=TARGET, seconds=60)["reason"]
    assert bench.ask("block", pid=4242, value=OTHER, seconds=60)["outcome"] == "taken"
    assert "logged in from it" in bench.ask("block", value=TARGET, seconds=60, operatorAt=[TARGET])["reason"]
    assert bench.ask("throttle", pid=4242, value=TARGET, seconds=60, operatorAt=[TARGET])["outcome"] == "taken"


@pytest.mark.parametrize("value", ["2001:db8::7", "2001:db8::/64"])
def test_only_the_guards_own_decision_spares_whom_this_host_connected_to(bench: Bench, value: str) -> None:
    """What malware on this host talks to can be blocked by policy and by hand; a /64 is spared for one address."""
    bench.kernel.contacted = {"2001:db8::7"}
    answer = bench.as_guard("block", value=value, seconds=60, port=22)
    assert (answer["outcome"], answer["instead"]) == ("refused", "throttle")
    assert "connected to it within 24 h" in answer["reason"]
    assert bench.take(1, value)["set"] == 1
    assert bench.ask("block", value=value, seconds=60)["outcome"] == "taken"


def test_a_refusal_of_whom_this_host_connected_to_costs_no_cap(bench: Bench) -> None:
    """And a block that stands may be prolonged."""
    assert bench.as_guard("block", value=TARGET, seconds=60)["outcome"] == "taken"
    bench.kernel.contacted = {TARGET, OTHER}
    for _ in range(30):
        assert bench.as_guard("block", value=OTHER, seconds=60)["outcome"] == "refused"
    assert bench.as_guard("block", value=TARGET, seconds=90)["outcome"] == "taken"
    assert bench.as_guard("block", value="198.51.100.9", seconds=60)["outcome"] == "taken"


def test_without_what_blocking_needs_everything_is_impossible(bench: Bench) -> None:
    """Decisions and signed messages are not answered as taken, and nothing is kept of them."""
    bench.fence.enforcement.missing = lambda: "nft is not installed"  # type: ignore[method-assign] -- no other host
    for answer in (bench.ask("block", value=TARGET, seconds=60), bench.take(1, OTHER)):
        assert (answer["outcome"], answer["reason"]) == ("impossible", "nft is not installed")
    assert bench.fence.measures == 0


def test_root_that_asks_as_a_guard_is_held_to_a_guards_rules(bench: Bench) -> None:
    """A guard may run as root."""
    assert "single IPv4" in bench.ask("block", value="198.51.100.0/24", seconds=60, own=True)["reason"]
    assert "no such request" in bench.ask("panic", own=True)["reason"]
    assert "lift it as root" in _lifted_as_guard(bench)


def _lifted_as_guard(bench: Bench) -> str:
    bench.ask("block", value=TARGET, seconds=60)
    return str(bench.ask("lift", value=TARGET, own=True)["reason"])


def test_a_release_leaves_an_operators_measures(bench: Bench) -> None:
    """The guard asks for it in mode learning; what a person set stays."""
    bench.ask("block", value=TARGET, seconds=60)
    bench.as_guard("block", value=OTHER, seconds=60)
    bench.take(1, "198.51.100.9")
    assert bench.as_guard("release")["count"] == 2
    assert bench.blocked == {TARGET}


def test_a_block_counts_as_ineffective_only_after_thirty_seconds(bench: Bench) -> None:
    """Lines that were written before the block are read after it."""
    bench.ask("block", value=TARGET, seconds=600)
    bench.wall += 29
    assert bench.as_guard("still_through", value=TARGET)["outcome"] == "noted"
    bench.wall += 2
    assert bench.as_guard("still_through", value=TARGET)["outcome"] == "ineffective"
    assert bench.as_guard("still_through", value=OTHER)["outcome"] == "noted"


def test_an_operators_blocks_take_nothing_from_the_guards_caps(bench: Bench) -> None:
    """Neither of the five minutes nor of what is in force."""
    for number in range(210):
        assert bench.ask("block", value=f"203.0.113.{number}", seconds=DAY)["outcome"] == "taken"
    assert bench.as_guard("block", value=TARGET, seconds=60)["outcome"] == "taken"


def test_the_caps_hold_over_a_restart_and_begin_anew_at_a_boot(bench: Bench) -> None:
    """A guard that was taken over gains nothing by ending the fence."""
    for number in range(20):
        assert bench.as_guard("block", value=f"198.51.100.{number}", seconds=60)["outcome"] == "taken"
    bench.restart()
    assert "cap of own decisions" in bench.as_guard("block", value="198.51.100.99", seconds=60)["reason"]


def test_a_subnet_needs_three_witnesses(bench: Bench) -> None:
    """Two addresses of a /64 may be one customer of a hoster and its neighbour."""
    network, at = "2001:db8:7::/64", {"port": 22, "seconds": 60}
    seen = bench.kernel.sets.setdefault("seen6_22", {})
    seen |= {f"2001:db8:7::{number}": 600.0 for number in (1, 2)}
    seen["2001:db8:8::1"] = 600.0
    assert "never spoke to port 22" in bench.as_guard("block", value=network, **at)["reason"]
    seen["2001:db8:7::3"] = 600.0
    assert bench.as_guard("block", value=network, **at)["outcome"] == "taken"


@pytest.mark.parametrize("value", ["fe80::1%eth0", "2001:db8::1%1"])
def test_an_address_with_a_zone_is_asked_of_no_kernel(bench: Bench, value: str) -> None:
    """A zone would reach nft as it is."""
    assert bench.as_guard("seen", value=value)["outcome"] == "refused"


def test_host_bits_beyond_the_prefix_are_refused(bench: Bench) -> None:
    """Which of both was meant is not known."""
    assert "no address or network" in bench.ask("block", value="198.51.100.7/24", seconds=60)["reason"]
