"""A booted host under attack, with its manager and its guard."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.booted_host.attacker import SERVER, WRONG, Attacker
from tests.support.booted_host.fleet import HostFleet
from tests.support.booted_host.machine import BootedHost
from tests.support.network import Network
from tests.support.waiting import eventually

TWO_SERVERS = (SERVER, "203.0.113.2")
BRUTE = ("sshd-brute-force", "medium")
"""Rule and severity of the report on guessed passwords."""


@dataclass(frozen=True)
class Scene:
    """A booted host, its attacker, and its manager and guard, which a test starts."""

    host: BootedHost
    attacker: Attacker
    fleet: HostFleet

    def attack(self, source: str) -> None:
        """Guess nine passwords of root from an address."""
        for _ in range(3):
            self.attacker.ssh("root", source, WRONG, WRONG, WRONG)

    def wait_until_found(self, source: str) -> None:
        """Wait for the report on guessed passwords from an address."""
        eventually(lambda: BRUTE in self.fleet.rules(source), what=f"the attack from {source}", pause=0.1)

    def wait_until_degraded(self, state: str, reason: str) -> None:
        """Wait, at most a minute, until guard and manager say so: by status, exit code, `agents list` and `now`."""

        def told(status: Mapping[str, Any]) -> bool:
            return any(each["state"] == state and reason in each["reason"] for each in status.get("sources", ()))

        eventually(lambda: told(self.fleet.kept_status()), what=f"{state}: {reason}", pause=0.1)
        assert told(self.fleet.status())
        assert self.fleet.health() == 3
        eventually(lambda: self.fleet.agent()["health"] == "degraded", what="the manager's word", pause=0.1)
        assert "degraded" in self.fleet.manager("agents", "list")
        shown = self.fleet.manager("now")
        assert "Degraded agents: 1\n" in shown
        assert reason in shown

    def wait_until_well(self) -> None:
        """Wait until guard and manager say that all sources are read."""
        eventually(lambda: self.fleet.kept_status().get("health") == "ok", what="a guard that is well", pause=0.1)
        eventually(lambda: self.fleet.health() == 0, what="`guard health` that says so", pause=0.3)
        eventually(lambda: self.fleet.agent()["health"] == "ok", what="the manager's word", pause=0.1)
        assert "Degraded agents: 0\n" in self.fleet.manager("now")


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
