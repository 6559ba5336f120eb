"""Ingest workers as the leader hears them: gaps, silence, and an end in order."""

from manager.domain.ingest.ingest_workers import GONE, OLDEST, SILENCE, IngestWorkers
from manager.domain.instant import Instant


def at(seconds: float) -> Instant:
    return Instant(1_800_000_000.0 + seconds, 1000.0 + seconds)


def test_a_gap_in_the_numbers_is_noticed_once() -> None:
    """A worker that starts at any number lost nothing; a number left out is one loss, told once."""
    workers = IngestWorkers()
    assert workers.heard("a", 7, at(0))
    assert workers.heard("b", 1, at(0))
    assert workers.heard("a", 8, at(1))
    assert not workers.take_lost()
    assert workers.heard("a", 10, at(2))
    assert workers.take_lost()
    assert not workers.take_lost()


def test_a_repeated_message_is_not_used() -> None:
    """A message with a number that was heard before is refused, also after the worker's end, and it is no gap."""
    workers = IngestWorkers()
    assert workers.heard("a", 1, at(0))
    assert workers.heard("a", 2, at(1))
    assert not workers.heard("a", 2, at(2))
    assert not workers.heard("a", 1, at(2))
    assert workers.heard("a", 3, at(3), ends=True)
    assert not workers.heard("a", 4, at(4))
    assert not workers.take_lost()


def test_a_worker_that_is_gone_repeats_nothing() -> None:
    """A broker that repeats old messages once a worker is gone, or has ended, keeps none of its agents alive."""
    workers = IngestWorkers()
    workers.heard("killed", 7, at(0))
    workers.heard("stopped", 7, at(0), ends=True)
    for second in range(30, 660, 30):
        assert workers.silent(at(second)) == (["killed"] if second < GONE else [])
        assert not workers.heard("killed", 7, at(second))
        assert not workers.heard("stopped", 7, at(second))
    workers.silent(at(660))
    assert workers.is_late("killed", at(0).wall + OLDEST, at(660))
    assert workers.heard("killed", 7, at(660))


def test_a_worker_that_is_heard_of_needs_no_common_clock() -> None:
    """A step of a clock makes no message of it late; the first one, and one after a minute's silence, must be fresh."""
    workers, stepped = IngestWorkers(), at(0).wall + 7200
    assert workers.is_late("a", stepped, at(0))
    assert not workers.is_late("a", at(-OLDEST).wall, at(0))
    workers.heard("a", 1, at(0))
    assert not workers.is_late("a", stepped, at(GONE - 1))
    assert workers.is_late("a", stepped, at(GONE))
    assert not workers.is_late("a", at(0).wall, at(GONE))
    assert workers.heard("a", 2, at(GONE))


def test_a_worker_is_silent_after_five_seconds_until_it_is_gone() -> None:
    """A silent worker is named from 5 s on; it is forgotten after 60 s, when others have its share."""
    workers = IngestWorkers()
    workers.heard("a", 1, at(0))
    workers.heard("b", 1, at(0))
    workers.heard("b", 2, at(4))
    assert workers.silent(at(SILENCE - 0.1)) == []
    assert workers.live(at(SILENCE - 0.1)) == ["a", "b"]
    assert workers.silent(at(SILENCE)) == ["a"]
    assert workers.live(at(SILENCE)) == ["b"]
    assert workers.silent(at(GONE)) == ["b"]
    assert workers.silent(at(GONE + 4)) == []


def test_a_worker_that_stops_in_order_is_not_silent() -> None:
    """After its last message a worker may be silent."""
    workers = IngestWorkers()
    workers.heard("a", 1, at(0))
    workers.heard("a", 2, at(1), ends=True)
    assert workers.silent(at(30)) == []
    assert workers.live(at(1)) == []
