"""Failure isolation: an exception of one part is logged and counted, and the engine continues with the next part."""

from collections import Counter
from types import TracebackType

import structlog

log = structlog.get_logger(__name__)


class isolated:  # noqa: N801 -- used as a function; a class costs a third of `contextlib.contextmanager` in the hot path
    """Context manager that logs and counts an exception of its block instead of raising it.

    Args:
        counters: `parts_failed` is raised by one for each exception.
        part: names the block in the log.
    """

    __slots__ = ("_counters", "_part")

    def __init__(self, counters: Counter[str], part: str) -> None:
        self._counters = counters
        self._part = part

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        log.error("part_failed", part=self._part, exc_info=(kind, error, traceback))
        self._counters["parts_failed"] += 1
        return True
