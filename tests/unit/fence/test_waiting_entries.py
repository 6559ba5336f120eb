"""Managed entries that a never-rule refuses for now: a session, a gateway; they are set once it does so no more."""

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest

from fence.waiting_entries import MOST
from tests.unit.fence.conftest import Bench

ADDRESS, OTHER, PRIVATE = "198.51.100.7", "198.51.100.8", "10.1.2.3"


def _session(bench: Bench, *addresses: str) -> None:
    """Have somebody logged in from these addresses alone."""
    rows = [
        struct.pack(
            "=hxxi32s4s32s256shhiii4I20x",
            *(7, 1, b"", b"", b"bob", b"", 0, 0, 0, 0, 0),
            int.from_bytes(IPv4Address(each).packed, "little"),
            *(0, 0, 0),
        )
        for each in addresses
    ]
    (bench.home / "run").mkdir(exist_ok=True)
    (bench.home / "run/utmp").write_bytes(b"".join(rows))
    bench.now += 6


def _gateway(bench: Bench, *addresses: str) -> None:
    routes = [f"eth0 00000000 {int.from_bytes(IPv4Address(each).packed, 'little'):08X} 0003\n" for each in addresses]
    (bench.home / "proc/net/route").write_text("Iface Destination Gateway\n" + "".join(routes))
    bench.now += 6


PASSING: list[Callable[..., None]] = [_session, _gateway]


@pytest.mark.parametrize("begin", PASSING)
def test_an_entry_is_set_when_the_reason_of_its_refusal_ends(bench: Bench, begin: Callable[..., None]) -> None:
    """Without another list, at the next check, with the rest of its time; and it counts as refused no more."""
    begin(bench, ADDRESS)
    answer = bench.take(9, ADDRESS, OTHER)
    assert (answer["refused"], answer["waiting"], bench.blocked) == (1, 1, {OTHER})
    begin(bench)
    answer = bench.as_guard("check")
    assert (answer["refused"], answer["waiting"], answer["set"], answer["blocklistSequence"]) == (0, 0, 2, 9)
    assert bench.blocked == {ADDRESS, OTHER}
    assert bench.ask("list", value=ADDRESS)["entries"][0]["secondsLeft"] == 594
    assert bench.events[-1] == {"event": "measures_set_again", "count": 1, "first": ADDRESS}


def test_a_measure_that_was_lifted_for_the_host_is_set_again(bench: Bench) -> None:
    """An address that became a gateway, and is one no more."""
    bench.take(9, ADDRESS)
    _gateway(bench, ADDRESS)
    assert (bench.ask("check")["refused"], bench.blocked) == (1, set())
    _gateway(bench)
    assert (bench.ask("check")["refused"], bench.blocked) == (0, {ADDRESS})


def test_the_reason_that_is_told_is_the_one_that_holds(bench: Bench) -> None:
    """A session's address becomes a gateway."""
    _session(bench, ADDRESS)
    bench.take(9, ADDRESS)
    _gateway(bench, ADDRESS)
    _session(bench)
    assert bench.ask("check")["reasons"] == [{"value": ADDRESS, "reason": "it is a gateway of this host"}]


def test_an_entry_that_ends_while_it_waits_is_set_never(bench: Bench) -> None:
    """And is no reason any more, because the manager's list has it no more."""
    _session(bench, ADDRESS)
    bench.take(9, ADDRESS)
    bench.now += 600
    answer = bench.ask("check")
    assert (answer["refused"], answer["waiting"]) == (0, 0)
    _session(bench)
    assert (bench.ask("check")["set"], bench.blocked) == (0, set())


def test_a_waiting_entry_outlives_restart_and_reboot_with_its_end(bench: Bench) -> None:
    """Its end is kept on the manager's clock."""
    _session(bench, ADDRESS)
    bench.take(9, ADDRESS)
    bench.now, bench.wall = bench.now + 400, bench.wall + 400
    bench.fence.mark_time()
    bench.boot, bench.now, bench.wall = "boot-2", 20.0, bench.wall + 100
    bench.restart()
    _session(bench)
    bench.ask("check")
    assert bench.ask("list", value=ADDRESS)["entries"][0]["secondsLeft"] == 94


@pytest.mark.parametrize("end", ["release", "panic", "next list", "change"])
def test_what_the_manager_or_an_operator_takes_back_waits_no_more(bench: Bench, end: str) -> None:
    """The end of the session sets nothing then."""
    _session(bench, ADDRESS)
    bench.take(9, ADDRESS)
    match end:
        case "next list":
            bench.take(10, OTHER)
        case "change":
            bench.change(9, 10, removed=[ADDRESS])
        case _:
            bench.ask(end)
    _session(bench)
    assert bench.ask("check")["waiting"] == 0
    assert ADDRESS not in bench.blocked


def test_what_root_lifts_waits_for_nothing(bench: Bench) -> None:
    """The lift holds until the manager's next list."""
    bench.take(9, ADDRESS)
    bench.ask("lift", value=ADDRESS)
    assert (bench.ask("check")["waiting"], bench.blocked) == (0, set())


def test_a_lasting_refusal_does_not_keep_the_fence_awake(bench: Bench) -> None:
    """A private address waits for nothing, a session's does."""
    assert bench.take(9, PRIVATE)["waiting"] == 0
    assert not bench.fence.is_needed
    _session(bench, ADDRESS)
    bench.take(10, ADDRESS)
    assert bench.fence.is_needed


def test_the_waiting_entries_are_bounded(bench: Bench) -> None:
    """The others are tried again with the next list."""
    exempt = [f"198.51.{number // 256}.{number % 256}" for number in range(MOST + 5)]
    bench.take_policy(1, allowlist=["198.51.0.0/16"])
    assert bench.take(9, *exempt)["waiting"] == MOST
    assert bench.take_policy(2)["blocklistSequence"] == 0
    assert bench.take(9, *exempt)["set"] == MOST + 5


def test_entries_are_wanted_again_when_root_shortens_the_never_list(bench: Bench) -> None:
    """The guard passes the list on to the fence once that was restarted."""
    bench.restart(never=_networks(ADDRESS))
    assert bench.take(9, ADDRESS)["refused"] == 1
    bench.restart()
    assert bench.ask("check")["blocklistSequence"] == 9
    bench.restart(never=())
    assert bench.ask("check")["blocklistSequence"] == 0
    assert bench.take(9, ADDRESS)["set"] == 1


def test_a_manifest_that_cannot_be_written_keeps_the_entry_waiting(bench: Bench) -> None:
    """The answer says what fails, and a later check sets it."""
    _session(bench, ADDRESS)
    bench.take(9, ADDRESS)
    _session(bench)
    bench.manifest._database.execute("PRAGMA query_only = 1")
    assert (bench.ask("check")["waiting"], bench.blocked) == (1, set())
    bench.manifest._database.execute("PRAGMA query_only = 0")
    assert (bench.ask("check")["waiting"], bench.blocked) == (0, {ADDRESS})


def _networks(*values: str) -> Any:
    return tuple(ip_network(value) for value in values)
