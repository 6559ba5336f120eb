"""The guard's own log: events with fields, on standard error; control characters from outside reach it escaped."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog


def configure_logs() -> None:
    """Write events as logfmt-like lines, one each, without colours, so that a service manager can keep them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cause,
            structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"), bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _cause(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name an exception and where it came from in one line, instead of printing a traceback."""
    if event.pop("exc_info", None):
        error = sys.exc_info()[1]
        if error is not None:
            event["error"] = f"{type(error).__name__}: {error}"
    return {
        name: value if isinstance(value, bool | int | float | None) else _escaped(str(value))
        for name, value in event.items()
    }


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
