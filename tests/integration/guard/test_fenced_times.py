"""A block ends when it should, whatever the guard's clock says, and whoever is dead by then."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.clock import Clock
from schemas.blocklist import BlocklistChange, BlocklistEntry
from tests.integration.guard.fenced_host import ATTACKER, OTHER, Fenced
from tests.integration.guard.scripted_manager import eventually

pytestmark = pytest.mark.namespaces

HOUR = 3600.0


def _change(before: int, sequence: int, sent_at: datetime, *entries: tuple[str, float]) -> BlocklistChange:
    """Return a change as the manager signs it at a time: values, each with the seconds left at that time."""
    added = [
        BlocklistEntry(kind="ip", value=value, seconds_left=left, expires_at=sent_at + timedelta(seconds=left))
        for value, left in entries
    ]
    return BlocklistChange(
        organization_id="default", from_sequence=before, sequence=sequence, sent_at=sent_at, added=added
    )


def _tell_time(fenced: Fenced) -> datetime:
    """Let the guard learn the manager's time from a prompt policy; return it."""
    now = datetime.now(UTC)
    fenced.manager.push_policy(9, sentAt=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    eventually(lambda: fenced.enforced().policy_version == 9, "the prompt policy")
    return now


@pytest.mark.parametrize("off", [-6 * HOUR, 0.0, 6 * HOUR])
def test_the_kernels_timeout_is_the_true_rest(fenced: Fenced, off: float) -> None:
    """Also of a change that was signed three hours ago and comes only now: within 60 s, read from the kernel."""
    fenced.guard.clock = Clock(wall=lambda: time.time() + off)
    fenced.guard.start().ready()
    now = _tell_time(fenced)
    fenced.manager.say_change(_change(0, 5, now - timedelta(hours=4), (OTHER, 6 * HOUR)))
    eventually(lambda: fenced.enforced().blocklist_sequence == 5, "the first change")
    fenced.manager.say_change(_change(5, 6, now - timedelta(hours=3), (ATTACKER, 4 * HOUR)))
    eventually(lambda: fenced.enforced().blocklist_sequence == 6, "the late change")
    left = {element["elem"]["val"]: element["elem"]["expires"] for element in fenced.fence.elements("block4")}
    assert left == {OTHER: pytest.approx(2 * HOUR, abs=60), ATTACKER: pytest.approx(HOUR, abs=60)}


def test_an_entry_that_ended_while_it_was_delayed_is_not_set(fenced: Fenced) -> None:
    """Four hours that were signed five hours ago are over."""
    fenced.guard.start().ready()
    now = _tell_time(fenced)
    fenced.manager.say_change(_change(0, 5, now - timedelta(hours=6), (OTHER, 7 * HOUR)))
    fenced.manager.say_change(_change(5, 6, now - timedelta(hours=5), (ATTACKER, 4 * HOUR)))
    eventually(lambda: fenced.enforced().blocklist_sequence == 6, "the late change")
    assert [element["elem"]["val"] for element in fenced.fence.elements("block4")] == [OTHER]


def test_a_block_of_twenty_seconds_ends_with_guard_and_fence_dead(fenced: Fenced) -> None:
    """The kernel ends it by itself, after the seconds that it was given, and not before."""
    fenced.guard.settings = fenced.guard.settings.model_copy(update={"block_duration": 20.0})
    fenced.guard.start().ready()
    assert fenced.reaches()
    fenced.guard.log.attack(ATTACKER)
    assert fenced.outcome() == "taken"
    read = time.monotonic()
    (element,) = fenced.fence.elements("block4")
    assert (element["elem"]["val"], element["elem"]["timeout"]) == (ATTACKER, 20)
    fenced.fence.kill()
    fenced.guard.stop()
    reached = eventually(lambda: time.monotonic() if fenced.reaches() else None, "the end of the block")
    assert reached >= read + element["elem"]["expires"]
