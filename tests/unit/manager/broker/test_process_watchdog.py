"""The parent's measure of a child's silence."""

import asyncio
import os

import pytest

from manager.broker.process_watchdog import SilenceTimer, write_signs_of_life


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _steps_until_frozen(silence: SilenceTimer, clock: _Clock, pauses: dict[int, float]) -> int:
    for number in range(1, 1000):
        clock.now += silence.step + pauses.get(number, 0.0)
        if silence.lasts():
            return number
    raise AssertionError("never")


def test_silence_lasts_after_the_limit() -> None:
    """Twenty steps without a sign of life are the limit."""
    clock = _Clock()
    assert _steps_until_frozen(SilenceTimer(20.0, clock), clock, {}) == 20


def test_a_pause_of_the_parent_is_not_the_childs_silence() -> None:
    """A parent that stood still for an hour blames the child for no more than three steps of it."""
    clock = _Clock()
    assert _steps_until_frozen(SilenceTimer(20.0, clock), clock, {5: 3600.0}) == 18


def test_a_sign_of_life_starts_the_silence_anew() -> None:
    """Silence before a sign of life does not count after it."""
    clock = _Clock()
    silence = SilenceTimer(20.0, clock)
    for _ in range(19):
        clock.now += silence.step
        assert not silence.lasts()
    silence.reset()
    assert _steps_until_frozen(silence, clock, {}) == 20


def test_a_parent_that_reads_nothing_does_not_hold_up_the_child() -> None:
    """With a full pipe signs of life are skipped, and the event loop goes on."""
    reader, writer = os.pipe()

    async def run() -> int:
        task = asyncio.create_task(write_signs_of_life(writer, 0.0))
        turns = 0
        while turns < 20_000:
            # waits for no time: it lets the other task run once
            await asyncio.sleep(0)
            turns += 1
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return turns

    try:
        assert asyncio.run(run()) == 20_000
        assert len(os.read(reader, 1 << 20)) == 65536 // 16 * 16
    finally:
        os.close(reader)
        os.close(writer)
