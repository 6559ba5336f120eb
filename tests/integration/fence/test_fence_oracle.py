"""The real kernel against a naive oracle: an address is blocked exactly while an entry covers it."""

import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.fence_process import FenceProcess
from tests.support.network import Network
from tests.support.waiting import eventually

pytestmark = pytest.mark.namespaces

SPACE = IPv4Network("198.51.100.0/26")
SHORT = 1

_networks = st.integers(27, 32).flatmap(
    lambda length: st.sampled_from(sorted(SPACE.subnets(new_prefix=length), key=str))
)
_steps = st.lists(
    st.tuples(st.sampled_from(["block", "block", "block", "lift"]), _networks, st.sampled_from([SHORT, 600])),
    min_size=1,
    max_size=14,
)


@pytest.fixture(scope="module")
def fence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FenceProcess]:
    home = tmp_path_factory.mktemp("oracle")
    with Network() as network, FenceProcess(network.host("203.0.113.1/24"), home) as fence:
        yield fence


def _in_kernel(fence: FenceProcess) -> set[IPv4Address]:
    """Return the addresses that the sets of the kernel cover."""
    found: set[IPv4Address] = set()
    for name in ("block4", "blockrange4"):
        for element in fence.elements(name):
            found |= _covered(element["elem"]["val"])
    return found


def _covered(value: Any) -> set[IPv4Address]:
    if isinstance(value, str):
        return {IPv4Address(value)}
    if "range" in value:
        first, last = map(IPv4Address, value["range"])
        return {IPv4Address(number) for number in range(int(first), int(last) + 1)}
    return set(IPv4Network((value["prefix"]["addr"], value["prefix"]["len"])))


def _expected(entries: dict[IPv4Network, int]) -> set[IPv4Address]:
    """Return, address by address, who is blocked: the oracle."""
    return {address for address in SPACE if any(address in network for network in entries)}


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_an_address_is_blocked_exactly_while_an_entry_covers_it(
    fence: FenceProcess, steps: list[tuple[str, IPv4Network, int]]
) -> None:
    """After random blocks and undos of addresses and networks, and again after the short ones have ended."""
    fence.ask(request="panic")
    fence.ask(request="resume")
    entries: dict[IPv4Network, int] = {}
    began = time.monotonic()
    for request, network, seconds in steps:
        value = str(ip_network(network))
        if request == "block":
            assert fence.ask(request="block", value=value, seconds=seconds)["outcome"] == "taken"
            entries[network] = seconds
        else:
            assert fence.ask(request="lift", value=value)["ok"] is (network in entries)
            entries.pop(network, None)
        if time.monotonic() - began < SHORT / 2:
            assert _in_kernel(fence) == _expected(entries)
    lasting = {network: seconds for network, seconds in entries.items() if seconds > SHORT}
    eventually(lambda: _in_kernel(fence) == _expected(lasting), what="the end of the short ones")
