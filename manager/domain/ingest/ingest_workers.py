"""Ingest workers as the leader hears them: gaps in their numbered messages, and silence.

The broker splits the agents' messages among the workers one by one, so what one worker lost may be a heartbeat of any
agent. While a worker is silent, and after a gap, no agent ages; each gets its full grace again.
"""

from dataclasses import dataclass

from manager.domain.instant import Instant

SILENCE = 5.0
"""Seconds without a message after which a worker is silent; it sends one each second."""

GONE = 60.0
"""Seconds of silence after which a worker counts no more: by then the broker has given its share to the others.

A broker notices a connection without a sign of life after one and a half times its keep-alive of 30 s.
"""

OLDEST = 300.0
"""Seconds by which the time in a worker's first message, or in one after `GONE`, may differ from the leader's clock: a
broker may keep a message, and repeat it to a leader that has started since."""

_REMEMBERED = 2 * OLDEST + GONE
"""Seconds of silence after which a worker's number is forgotten: its messages are too old by any clock then."""


@dataclass(slots=True)
class _Worker:
    number: int
    heard: float
    ended: bool = False


class IngestWorkers:
    """The ingest workers that have sent something, by id."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._lost = False

    def is_late(self, worker_id: str, sent_at: float, now: Instant) -> bool:
        """Return whether a message may be one that a broker has kept.

        The messages of a worker that is heard of are told by their numbers, whatever the clocks say.

        Args:
            worker_id: the worker's id.
            sent_at: the time in the message, by the worker's clock.
            now: the receipt.
        """
        worker = self._workers.get(worker_id)
        is_followed = worker is not None and now.monotonic - worker.heard < GONE
        return not is_followed and abs(now.wall - sent_at) > OLDEST

    def heard(self, worker_id: str, number: int, now: Instant, *, ends: bool = False) -> bool:
        """Record a worker's message; return whether it is to be used, which a repeated or overtaken one is not.

        Args:
            worker_id: the worker's id, new for each of its processes.
            number: the message's number, one above that of the message before it; the first is 1.
            now: the receipt.
            ends: whether the worker stops in order, and sends no more.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = self._workers[worker_id] = _Worker(number, now.monotonic)
        elif worker.ended or number <= worker.number:
            return False
        else:
            self._lost = self._lost or number != worker.number + 1
            worker.number, worker.heard = number, now.monotonic
        worker.ended = ends
        return True

    def take_lost(self) -> bool:
        """Return whether a message was lost since the last call."""
        lost, self._lost = self._lost, False
        return lost

    def silent(self, now: Instant) -> list[str]:
        """Return the ids of the silent workers; those that are gone or have ended are none."""
        for worker_id, worker in list(self._workers.items()):
            if now.monotonic - worker.heard >= _REMEMBERED:
                del self._workers[worker_id]
        return [
            worker_id
            for worker_id, worker in self._workers.items()
            if not worker.ended and SILENCE <= now.monotonic - worker.heard < GONE
        ]

    def live(self, now: Instant) -> list[str]:
        """Return the ids of the workers that have sent something within the last 5 s and have not ended."""
        return [
            worker_id
            for worker_id, worker in self._workers.items()
            if not worker.ended and now.monotonic - worker.heard < SILENCE
        ]
