"""A short seeded run of the fault injection: what `make chaos` does at length."""

import time

import pytest

from chaos.fault import every_fault
from chaos.run import run_fault
from chaos.site import DoorName, Load

_PLACES = [
    ("manager killed", "http"),
    ("embedded broker killed", "embedded"),
    pytest.param("Mosquitto killed", "mosquitto", marks=pytest.mark.mosquitto),
    ("connections half-open", "embedded"),
    ("store locked", "http"),
    ("store restored from an older copy", "embedded"),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "door"), _PLACES)
def test_a_fault_under_load_loses_and_doubles_nothing(name: str, door: DoorName) -> None:
    """Each report is stored once, each incident opened once, whatever the fault does."""
    (fault,) = [fault for fault in every_fault() if fault.name == name]
    said: list[str] = []
    row = run_fault(fault, door, 2, seed=11, load=Load(5, 30.0), deadline=time.monotonic() + 120, show=said.append)
    assert row.holds, (row, said)
    assert row.strikes == 2
    assert row.sent > 20
    assert row.stored + row.before_copy == row.sent


def test_the_folder_has_a_fault_of_each_group() -> None:
    """A file that is not found by the registry would silently never run."""
    assert {fault.group for fault in every_fault()} == {
        "broker",
        "clock",
        "fleet",
        "kill",
        "network",
        "pause",
        "store",
    }
