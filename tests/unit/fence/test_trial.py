"""The trial of mode protection at the fence: whose confirmation counts, and when."""

import os
from pathlib import Path

import pytest

from fence.trial import LONGEST
from tests.unit.fence.conftest import Bench

SHELL, SSHD = 4242, 4241


def _session(home: Path, began: float) -> None:
    """Write the processes of a session that began at a time of this boot, in seconds."""
    ticks = int(began * os.sysconf("SC_CLK_TCK"))
    for process, name, parent, start in ((SHELL, "bash", SSHD, ticks), (SSHD, "sshd-session", 1, ticks)):
        folder = home / f"proc/{process}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stat").write_text(f"{process} ({name}) S {parent} " + "0 " * 17 + f"{start} 0")


def _confirm(bench: Bench) -> str:
    answer = bench.ask("confirm", pid=SHELL)
    return str(answer["outcome"] if answer["ok"] else answer["reason"])


def test_a_session_opened_within_the_trial_confirms_it(bench: Bench) -> None:
    """It shows that this host can be reached with the blocks in force; an older session shows nothing."""
    assert _confirm(bench) == "no trial is running"
    bench.as_guard("trial", seconds=600)
    assert _confirm(bench) == "the beginning of your session cannot be read"
    _session(bench.home, bench.now - 1)
    assert "log in anew" in _confirm(bench)
    _session(bench.home, bench.now + 1)
    assert _confirm(bench) == "confirmed"
    bench.now += 700
    assert bench.ask("check")["confirmed"] is True


def test_a_trial_that_is_over_is_confirmed_by_nobody_also_before_the_next_check(bench: Bench) -> None:
    """The measures are lifted at the next check, so the confirmation would be of nothing."""
    bench.as_guard("trial", seconds=600)
    _session(bench.home, bench.now + 1)
    bench.now += 601
    assert _confirm(bench) == "no trial is running"


def test_a_trial_of_another_boot_counts_no_more(bench: Bench) -> None:
    """Its times are of another clock; the guard begins a new one."""
    bench.as_guard("trial", seconds=600)
    bench.boot = "boot-2"
    bench.restart()
    _session(bench.home, bench.now + 1)
    assert _confirm(bench) == "no trial is running"
    assert bench.ask("check")["trialSecondsLeft"] is None


@pytest.mark.parametrize(("asked", "left"), [(1e9, LONGEST), (-5, 0.0), (600, 600.0)])
def test_a_trial_lasts_an_hour_at_most(bench: Bench, asked: float, left: float) -> None:
    """A guard that was taken over would else keep unconfirmed measures for ever."""
    bench.as_guard("trial", seconds=asked)
    assert bench.fence._trial.seconds_left(bench.now) == left
