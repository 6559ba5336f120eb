"""The CPU time of a campaign's parts: the product, its servers, and what drives and watches them."""

import time
from collections.abc import Callable, Iterable

import psutil

_SAMPLE_EVERY = 2.0


class Usage:
    """CPU seconds by part, sampled: a process that is killed loses what it used since the last sample.

    Args:
        parts: returns the living processes of each part.
    """

    def __init__(self, parts: dict[str, Callable[[], Iterable[psutil.Process]]]) -> None:
        self._parts = parts
        self._began = self._sampled_at = time.monotonic()
        self._last: dict[tuple[int, float], float] = {}
        self._seconds = dict.fromkeys(parts, 0.0)
        self._take(counts=False)

    def sample(self) -> None:
        """Add the CPU time since the last sample, at most every two seconds."""
        if time.monotonic() - self._sampled_at >= _SAMPLE_EVERY:
            self._take(counts=True)

    def cores(self) -> dict[str, float]:
        """Return the cores that each part used on average."""
        self._take(counts=True)
        elapsed = max(time.monotonic() - self._began, 0.001)
        return {part: round(seconds / elapsed, 3) for part, seconds in self._seconds.items()}

    def _take(self, *, counts: bool) -> None:
        self._sampled_at = time.monotonic()
        for part, processes in self._parts.items():
            for process in processes():
                try:
                    key, times = (process.pid, process.create_time()), process.cpu_times()
                except psutil.Error:
                    continue
                used = times.user + times.system
                if counts:
                    self._seconds[part] += used - self._last.get(key, 0.0)
                self._last[key] = used


def tree(pid: int | None) -> list[psutil.Process]:
    """Return a process and its descendants; none without an id, or where it has ended."""
    if pid is None:
        return []
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
