"""Log output of the manager: one line per event on standard error, with control characters escaped."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

from manager.cli.support.escaping import printable
from manager.structured_logging import structlog


def configure_logs() -> None:
    """Configure structlog for lines of `key=value`, without colours, as service managers store them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            in_one_line,
            structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"), bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _BestEffortStream())),
        cache_logger_on_first_use=False,
    )


class _BestEffortStream:
    """Standard error that ignores write errors: a full disk must not stop the manager."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def in_one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its type, text and stack; local variables are left out, as they may hold secrets."""
    if event.pop("exc_info", None):
        error = sys.exc_info()[1]
        if error is not None:
            event["error"] = f"{type(error).__name__}: {error}"
            event["where"] = " < ".join(_frames(error))
    return {name: _plain(value) for name, value in event.items()}


def _frames(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames[-6:])]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else printable(str(value))
