"""A short seeded campaign against a group of processes on one database, and its checker of the lease's history."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from chaos.scale.campaign import run_campaign
from chaos.scale.faults import NETWORK_FAULTS, PROCESS_FAULTS, ScaleFault, plan
from chaos.scale.history import Step, check_steps
from chaos.site import Load

_SHORT = ("leader killed", "worker killed", "one-way drop", "Mosquitto killed")


@pytest.mark.long("tests/faults/test_killed_worker.py")
@pytest.mark.postgresql
@pytest.mark.mosquitto
def test_a_group_of_processes_loses_and_doubles_nothing() -> None:
    """Each report is stored and decided once, each incident opened once, and the lease has one order."""
    named = {fault.name: fault for fault in PROCESS_FAULTS + NETWORK_FAULTS}
    said: list[str] = []
    faults: Sequence[ScaleFault] = [named[name] for name in _SHORT]
    lines: list[dict[str, Any]] = []
    found = run_campaign(faults, tell=lines.append, seed=11, load=Load(10, 40.0), seconds=120, show=said.append)
    assert found.holds, (found, said)
    assert sum(found.faults.values()) >= 1
    assert found.stored == found.sent > 20
    assert found.commits > 0
    assert found.epochs >= 1
    assert [line["verdict"] for line in lines[:-1]] == ["holds"] * sum(found.faults.values())
    assert lines[-1] == found.members()


def test_a_third_of_the_faults_are_of_the_network() -> None:
    """A plan has the asked number of faults, each kind of them, in an order that the seed decides."""
    faults, again, others = (plan(1000, Random(seed)) for seed in (1, 1, 2))  # noqa: S311 -- seeded on purpose
    assert len(faults) == 1000
    assert sum(fault.group == "network" for fault in faults) == 333
    assert {fault.name for fault in faults} == {fault.name for fault in PROCESS_FAULTS + NETWORK_FAULTS}
    assert faults == again
    assert faults != others


_TAKEN = [Step("lease", 1, "a", 1), Step("lease", 1, "a", 2), Step("lease", 1, None, 3), Step("lease", 2, "b", 4)]


def test_a_lease_that_is_renewed_released_and_taken_is_right() -> None:
    """The checker accepts a history of the rules of the lease, with commits of its holders."""
    steps = [
        *_TAKEN[:2],
        Step("progress", 1, "a", session="panguard a", value="[5,[[7,9]]]"),
        *_TAKEN[2:],
        Step("progress", 2, "b", session="panguard b", value="[8,[[9,9]]]"),
        Step("progress", 2, "b", session="panguard b", value="[9,[]]"),
    ]
    checked = check_steps(steps)
    assert checked.wrong == []
    assert (checked.epochs, checked.renewals, checked.commits) == (1, 2, 3)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        (Step("lease", 2, "a", 5), "two holders"),
        (Step("lease", 4, "a", 5), "the epoch 4 follows 2"),
        (Step("lease", 1, "a", 5), "the epoch 1 follows 2"),
        (Step("lease", 2, "b", 4), "the beat 4 follows 4"),
        (Step("progress", 2, "b", session="panguard a", value="[9,[]]"), "a commit by 'panguard a'"),
        (Step("progress", 1, "a", session="panguard a", value="[9,[]]"), "a commit of the epoch 1"),
    ],
)
def test_a_history_that_no_row_explains_is_found(step: Step, wrong: str) -> None:
    """The checker finds a second holder, a skipped or old epoch, a lost change, a commit of a former holder."""
    (said,) = check_steps([*_TAKEN, step]).wrong
    assert wrong in said


@pytest.mark.parametrize("value", ["[4,[[7,9]]]", "[5,[]]", "[5,[[7,8]]]", "[7,[[9,9]]]"])
def test_what_was_decided_stays_decided(value: str) -> None:
    """The checker finds a mark that falls, and a range that is decided no more."""
    steps = [Step("progress", 1, "a", session="panguard a", value=each) for each in ("[5,[[7,9]]]", value)]
    assert check_steps(steps).wrong
