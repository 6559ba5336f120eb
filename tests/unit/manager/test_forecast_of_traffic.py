"""The forecast of a learning fleet is what a protecting fleet does on the same traffic."""

from pathlib import Path

from schemas.presence import Mode
from tests.support.recorded_traffic import Replay, record_traffic

HOSTS = 25


def test_the_forecast_in_learning_equals_the_blocks_of_protection(tmp_path: Path) -> None:
    """All counts are the same and those that were planted; the named cases are the same addresses and logins.

    The traffic goes twice through the guards' own detection and response, once in mode learning and once, with the
    fence's own code, in protection. Only `taken` tells them apart.
    """
    traffic = record_traffic(HOSTS, seed=1)
    found = {}
    for mode in (Mode.LEARNING, Mode.PROTECTION):
        replay = Replay(tmp_path / mode, traffic, mode)
        try:
            replay.run()
            found[mode] = replay.forecast()
        finally:
            replay.close()
    forecast, live = found[Mode.LEARNING], found[Mode.PROTECTION]
    assert {name: forecast[name] for name in traffic.planted} == traffic.planted
    assert (forecast["taken"], live["taken"]) == (0, traffic.planted["addresses"])
    assert {name: live[name] for name in traffic.planted} == traffic.planted
    assert (forecast["hosts"], forecast["hostsReportingLogins"]) == (HOSTS, HOSTS)
    assert [_case(each) for each in forecast["cases"]] == [_case(each) for each in live["cases"]]
    assert forecast["cases"]


def _case(case: dict[str, object]) -> tuple[object, ...]:
    """Return what is the same in both modes of a named case."""
    return case["address"], case["at"], case["guesses"], case["connections"], case["login"], case["allowance"] is None
