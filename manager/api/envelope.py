"""Envelope of all answers, ``{"ok": true, "data": …}`` or ``{"ok": false, "error": …}``, with its OpenAPI schema."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response

JSON_TYPE = "application/json"

_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""Refuses, as `json` does, objects that no route has made a record of."""


def ok(data: Any, status: int = 200, headers: Mapping[str, str] | None = None, /, **beside: Any) -> Response:
    """Return a successful answer; members of `beside` are added at the top level unless they are None."""
    extra = {name: value for name, value in beside.items() if value is not None}
    return _json({"ok": True, "data": data, **extra}, status, headers)


def page(records: list[dict[str, Any]], next_cursor: str | None) -> Response:
    """Return one page of a list; `nextCursor` is null on the last page."""
    return _json({"ok": True, "data": records, "nextCursor": next_cursor}, 200, None)


def fail(status: int, sentence: str, headers: Mapping[str, str] | None = None, **beside: Any) -> Response:
    """Return an error answer with an error message."""
    return _json({"ok": False, "error": sentence, **beside}, status, headers)


def _json(content: Any, status: int, headers: Mapping[str, str] | None) -> Response:
    """Serialize as ASCII JSON: evidence may hold lone surrogates, which UTF-8 cannot encode."""
    return Response(_text(content), status, dict(headers or {}), media_type=JSON_TYPE)


def _text(content: Any) -> bytes:
    """Return content as JSON by orjson, in an eighth of the time; by `json` what orjson refuses or writes beyond ASCII.

    Raises:
        TypeError: JSON has no such type.
        ValueError: a number is not finite, and `json` writes the content; orjson writes null for it.
    """
    try:
        text = orjson.dumps(content, option=_STRICT)
    except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits, deep nesting
        text = b""
    if text and text.isascii():
        return text
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


Schema = dict[str, Any]

ANY_OBJECT: Schema = {"type": "object"}
ANY_LIST: Schema = {"type": "array", "items": ANY_OBJECT}


def _content(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


REFUSAL: Schema = {
    "description": "The error message, in one sentence.",
    "content": _content(
        {
            "type": "object",
            "required": ["ok", "error"],
            "properties": {"ok": {"const": False}, "error": {"type": "string"}},
        }
    ),
}


def answer(description: str, data: Schema | None = None, status: int = 200, /, **beside: Schema) -> dict[Any, Schema]:
    """Return the FastAPI `responses` entry of an answer with `data` and members beside it."""
    properties = {"ok": {"const": True}, "data": ANY_OBJECT if data is None else data, **beside}
    envelope = {"type": "object", "required": ["ok", "data"], "properties": properties}
    return {status: {"description": description, "content": _content(envelope)}}


def page_of(description: str) -> dict[Any, Schema]:
    """Return the FastAPI `responses` entry of one page of a list."""
    return answer(description, ANY_LIST, nextCursor={"type": ["string", "null"]})


def record(**members: str) -> Schema:
    """Return an object schema from member names and JSON types, such as ``"string"``; ``"string?"`` may be null."""
    properties = {
        name: {"type": [kind.removesuffix("?"), "null"] if kind.endswith("?") else kind}
        for name, kind in members.items()
    }
    return {"type": "object", "required": list(members), "properties": properties}


def body_of(component: str, *, required: bool = True) -> Schema:
    """Return the `openapi_extra` of a route whose body is a component of the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{component}"}
    return {"requestBody": {"required": required, "content": _content(schema)}}
