"""The guard's own log: one logfmt line for each event, on standard error.

structlog is not used: its import takes 6 MB of the 60 MB that a guard at rest may have. Control characters are escaped.
"""

import sys
import time
from contextlib import suppress
from typing import TextIO

from schemas.model import iso

_sink: list[TextIO] = []


def log_to(stream: TextIO | None) -> None:
    """Redirect the log to a stream; None for standard error."""
    _sink[:] = [] if stream is None else [stream]


class EventLog:
    """The log of one part of the guard.

    Args:
        part: The part's name, a field of each of its lines.
    """

    def __init__(self, part: str) -> None:
        self._part = part

    def info(self, event: str, **fields: object) -> None:
        """Log a normal event."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an event that an operator may want to check."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log a failure."""
        self._write("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log the exception being handled, by name and text, without a traceback."""
        error = sys.exc_info()[1]
        self._write("error", event, fields | {"error": f"{type(error).__name__}: {error}"})

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        head = {"timestamp": iso(time.time()), "level": level, "event": event, "part": self._part}
        line = " ".join(f"{name}={_value(value)}" for name, value in (head | fields).items() if value is not None)
        with suppress(OSError):  # a full disk must not stop the guard
            print(line, file=_sink[0] if _sink else sys.stderr, flush=True)


def _value(value: object) -> str:
    text = str(value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    if text and " " not in text and '"' not in text and "=" not in text:
        return text
    return '"' + text.replace('"', '\\"') + '"'
