"""Values of events as JSON that every receiver can parse: bounded texts, no lone surrogates, no infinite numbers."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

LONGEST_TEXT = 1024
"""The maximum number of characters of a text; ECS keywords are not indexed beyond."""

_MOST_MEMBERS = 64
_DEEPEST = 6


def bounded(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a value for JSON; longer texts are cut, and what is nested too deep is left out."""
    if isinstance(value, str):
        text = value if len(value) <= LONGEST_TEXT else value[: LONGEST_TEXT - 1] + "…"
        return text.encode("utf-8", "replace").decode()
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth and isinstance(value, Mapping):
        members = list(value.items())[:_MOST_MEMBERS]
        return {bounded(str(name)): bounded(each, depth - 1) for name, each in members}
    if depth and isinstance(value, list | tuple):
        return [bounded(each, depth - 1) for each in list(value)[:_MOST_MEMBERS]]
    return None


def encoded(value: Any) -> bytes:
    """Return JSON in ASCII: controls and letters that change the direction of text are escapes in it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def rfc3339(at: float) -> str:
    """Return a time in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
