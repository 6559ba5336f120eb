"""The sum of several campaigns against a group, by the lines that they wrote."""

import json
from pathlib import Path
from typing import Any

from chaos.scale.campaign import Campaign, Verdict
from chaos.scale.summary import read, summed, table


def _lines(path: Path, *members: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in members))
    return path


def _verdict(seed: int, number: int, fault: str, group: str, *wrong: str) -> dict[str, Any]:
    return Verdict(seed, number, fault, group, receipt_after=number * 1.5, wrong=list(wrong)).members()


def test_the_lines_of_several_campaigns_are_summed(tmp_path: Path) -> None:
    """Faults are counted by kind, counts of campaigns added; a campaign that was stopped keeps its verdicts."""
    one = Campaign(1, 20, 300.0, sent=100, stored=100, longest_pause=7.0)
    first = _lines(
        tmp_path / "one",
        _verdict(1, 1, "drop", "network"),
        _verdict(1, 2, "leader killed", "kill"),
        one.members(),
    )
    stopped = _lines(tmp_path / "two", _verdict(2, 1, "drop", "network"), _verdict(2, 2, "drop", "network"))
    found = summed(read([first, stopped]))
    assert found.holds
    assert (found.faults, found.network, found.seeds) == (4, 3, {1, 2})
    assert found.kinds["drop"].times == 3
    assert found.total("sent") == 100
    assert "| drop | 3 | 0 | 3.0 s |" in table(found)


def test_a_fault_that_fails_is_named_with_its_seed(tmp_path: Path) -> None:
    """A verdict that fails, and a campaign that does not hold, make the sum fail."""
    failed = summed(read([_lines(tmp_path / "one", _verdict(7, 3, "drop", "network", "receipts without a row: 1"))]))
    assert not failed.holds
    assert failed.wrong == ["seed 7, fault 3, drop: receipts without a row: 1"]
    assert failed.kinds["drop"].failed == 1
    lost = summed(read([_lines(tmp_path / "two", Campaign(8, 20, 300.0, sent=9, stored=8, lost=1).members())]))
    assert not lost.holds
