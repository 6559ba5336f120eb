"""The interface of a fault, and the registry of the files in `chaos/faults`."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import chaos.faults
from chaos.site import DOORS, DoorName, Load, Site


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: as it stands in the table.
        group: `kill`, `pause`, `network`, `store`, `clock`, `broker` or `fleet`.
        doors: the doors at which it is tried.
        strike: does it once to a site under load, and returns when the site works again; raises SiteError otherwise.
        limits: what it does not cover, for the report.
        environment: variables that the manager needs for it.
        weight: share of the strikes of a whole run, relative to others.
        once: whether one strike a run is enough: it takes long, or cannot be repeated.
        load: the fleet that it needs; None for the run's.
        xfail: the reason why it is known to fail; None where it must hold.
    """

    name: str
    group: str
    strike: Callable[[Site], None]
    doors: tuple[DoorName, ...] = DOORS
    limits: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    once: bool = False
    load: Load | None = None
    xfail: str | None = None


def every_fault() -> list[Fault]:
    """Return the faults of all files in `chaos/faults`, in the order of their names."""
    return sorted(_found(), key=lambda fault: (fault.group, fault.name))


def _found() -> Iterator[Fault]:
    for module in pkgutil.iter_modules(chaos.faults.__path__):
        yield importlib.import_module(f"chaos.faults.{module.name}").FAULT
