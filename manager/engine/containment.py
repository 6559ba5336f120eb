"""Failure containment: an exception of one part is logged and counted, and the engine continues with the next part."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def contained(counters: Counter[str], part: str) -> Iterator[None]:
    """Log and count an exception of the block instead of raising it.

    Args:
        counters: `parts_failed` is raised by one for each exception.
        part: names the block in the log.
    """
    try:
        yield
    except Exception:
        log.exception("part_failed", part=part)
        counters["parts_failed"] += 1
