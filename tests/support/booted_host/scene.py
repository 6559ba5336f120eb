"""A booted host under attack, with its manager and its guard."""

from dataclasses import dataclass

from tests.support.booted_host.attacker import Attacker
from tests.support.booted_host.fleet import HostFleet
from tests.support.booted_host.machine import BootedHost


@dataclass(frozen=True)
class Scene:
    """A booted host, its attacker, and its manager and guard, which a test starts."""

    host: BootedHost
    attacker: Attacker
    fleet: HostFleet
