"""A booted Debian under attack from a second network; in CI a host that cannot be booted is a failure."""

import os
from collections.abc import Iterator

import pytest

from tests.support.booted_host.attacker import SERVER, Attacker
from tests.support.booted_host.fleet import HostFleet
from tests.support.booted_host.machine import BootedHost, unavailable
from tests.support.booted_host.scene import Scene
from tests.support.network import Network


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    reason = unavailable()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    with Network() as network:
        server = network.host(f"{SERVER}/24", "2001:db8::1/64")
        others = network.host(*(f"203.0.113.{number}/24" for number in range(20, 240)), "2001:db8::20/64")
        with BootedHost(server) as host:
            attacker = Attacker(host, others)
            attacker.furnish()
            yield Scene(host, attacker, HostFleet(host))
