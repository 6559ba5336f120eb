"""A booted host under attack, with its manager and its guard."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support.booted_host.attacker import SERVER, Attacker
from tests.support.booted_host.fleet import HostFleet
from tests.support.booted_host.machine import BootedHost
from tests.support.network import Network

TWO_SERVERS = (SERVER, "203.0.113.2")


@dataclass(frozen=True)
class Scene:
    """A booted host, its attacker, and its manager and guard, which a test starts."""

    host: BootedHost
    attacker: Attacker
    fleet: HostFleet


@contextmanager
def booted(memory: int | None = None) -> Iterator[Scene]:
    """Boot a host with accounts and keys, and a second network of attackers; `memory` limits the host, in bytes."""
    with Network() as network:
        server = network.host(f"{SERVER}/24", "2001:db8::1/64")
        others = network.host(*(f"203.0.113.{number}/24" for number in range(20, 240)), "2001:db8::20/64")
        with BootedHost(server, memory) as host:
            attacker = Attacker(host, others)
            attacker.furnish()
            yield Scene(host, attacker, HostFleet(host))


@contextmanager
def two_booted(settings: Mapping[str, str] | None = None) -> Iterator[tuple[Scene, Scene]]:
    """Boot two hosts in one network, the manager on the first one, and install guard and fence on both.

    Args:
        settings: The manager's, as environment variables.
    """
    with Network() as network, ExitStack() as stack:
        servers = [network.host(f"{address}/24") for address in TWO_SERVERS]
        others = network.host(*(f"203.0.113.{number}/24" for number in range(20, 240)))
        scenes = []
        for server, address in zip(servers, TWO_SERVERS, strict=True):
            host = stack.enter_context(BootedHost(server))
            attacker = Attacker(host, others, address)
            attacker.furnish()
            scenes.append(Scene(host, attacker, HostFleet(host, TWO_SERVERS[0])))
        first, second = scenes
        first.fleet.start_manager(settings)
        first.fleet.install(options=["--hostname=first"], paced=False)
        second.fleet.install(options=["--hostname=second"], paced=False, manager=first.fleet)
        yield first, second
