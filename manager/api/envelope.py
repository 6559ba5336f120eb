"""The one shape of every answer: ``{"ok": true, "data": …}`` or ``{"ok": false, "error": "one clear sentence"}``."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response

JSON_TYPE = "application/json"


def ok(data: Any, status: int = 200, headers: Mapping[str, str] | None = None, /, **beside: Any) -> Response:
    """Return an answer with its data; `beside` stands at the top level, and is left out where it is None."""
    extra = {name: value for name, value in beside.items() if value is not None}
    return _json({"ok": True, "data": data, **extra}, status, headers)


def page(records: list[dict[str, Any]], next_cursor: str | None) -> Response:
    """Return one page of a list; `nextCursor` is null at the end."""
    return _json({"ok": True, "data": records, "nextCursor": next_cursor}, 200, None)


def fail(status: int, sentence: str, headers: Mapping[str, str] | None = None, **beside: Any) -> Response:
    """Return a refusal, with the sentence that says what to do."""
    return _json({"ok": False, "error": sentence, **beside}, status, headers)


def _json(content: Any, status: int, headers: Mapping[str, str] | None) -> Response:
    """Write JSON in ASCII: evidence may hold lone surrogates, which no other encoding of JSON can carry."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return Response(body, status, dict(headers or {}), media_type=JSON_TYPE)
