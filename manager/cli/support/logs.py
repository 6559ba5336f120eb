"""The manager's log: one line for each event, on standard error; control characters from outside stand escaped."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from manager.cli.support.escaping import printable


def configure_logs() -> None:
    """Write events as lines of `key=value`, without colours, so that a service manager can keep them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            in_one_line,
            structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"), bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing())),
        cache_logger_on_first_use=False,
    )


class _Unfailing:
    """Standard error; where it cannot be written, a line is lost: a full disk must not end what it is told of."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def in_one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name an exception and where it was raised, never the values around it: those may be secrets."""
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
