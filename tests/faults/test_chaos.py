"""A short seeded run of the fault injection: what `make chaos` does at length."""

import time
from pathlib import Path
from typing import Any

import pytest

from chaos.fault import every_fault
from chaos.report import results, write
from chaos.run import Row, run_fault
from chaos.site import DoorName, Load

_PLACES = [
    ("manager killed", "http"),
    ("embedded broker killed", "embedded"),
    pytest.param("Mosquitto killed", "mosquitto", marks=pytest.mark.mosquitto),
    ("connections half-open", "embedded"),
    ("store locked", "http"),
    ("store restored from an older copy", "embedded"),
]


@pytest.mark.long("tests/faults/test_nothing_is_lost.py")
@pytest.mark.parametrize(("name", "door"), _PLACES)
def test_a_fault_under_load_loses_and_doubles_nothing(name: str, door: DoorName) -> None:
    """Each report is stored once, each incident opened once, whatever the fault does."""
    (fault,) = [fault for fault in every_fault() if fault.name == name]
    said: list[str] = []
    row = run_fault(fault, door, 2, seed=11, load=Load(5, 30.0), deadline=time.monotonic() + 120, show=said.append)
    assert row.holds, (row, said)
    assert row.strikes == 2
    assert row.sent > 20
    assert row.before_copy == 0
    assert row.stored == row.sent


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


def _row(**counts: Any) -> Row:
    return Row("manager killed", "kill", "http", 1, agents=5, rate=30.0, sent=100, **counts)


def test_the_page_adds_up_the_rows_of_several_runs(tmp_path: Path) -> None:
    """Counts of one fault at one door are summed, the pause is the longest, and a failure of either run is named."""
    page = tmp_path / "reliability.md"
    first = _row(strikes=3, kills=3, stored=100, longest_pause=7.0)
    second = _row(strikes=2, kills=4, stored=98, lost=2, longest_pause=5.0, failed=["SiteError: not ready"])
    write(page, [results(1, [first]), results(2, [second])], every_fault(), "The machine was busy.")
    text = page.read_text()
    assert "| manager killed | http | 5 | 7 | 200 | 198 | 2 | 0 | 0 (0) | 7.0 s |" in text
    assert "5 faults with 7 kills: 2 lost, 0 doubled. Seed 1, 2;" in text
    assert "- manager killed, http: SiteError: not ready" in text
    assert "The machine was busy." in text
