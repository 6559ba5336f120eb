"""Reads a request's body as the message that its route takes."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from manager.api.envelope import JSON_TYPE
from manager.api.errors import NoJsonBody
from schemas.decoding import DecodeError, decode
from schemas.limits import BODY_LIMIT

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model], limit: int = BODY_LIMIT) -> Model:
    """Return the body as `model`.

    Raises:
        NoJsonBody: it is not declared as JSON.
        BodyTooLarge: it has more bytes than any body may have.
        DecodeError: it has more than `limit`, is no JSON, or not that message.
    """
    return decode(model, await _json_body(request), limit)


async def read_document(request: Request, model: type[Model], limit: int) -> tuple[Model, dict[str, Any]]:
    """Return the body as `model`, and as it was written, for what the model leaves out.

    Raises:
        NoJsonBody: it is not declared as JSON.
        BodyTooLarge: it has more bytes than any body may have.
        DecodeError: it has more than `limit`, is no JSON, or not that message.
    """
    body = await _json_body(request)
    document = decode(model, body, limit)
    return document, dict(json.loads(body))


async def read_document_or(request: Request, model: type[Model], check: Callable[[Any], None], limit: int) -> Model:
    """Return the body as `model`; where it is not that, `check` may say so first, in words of its own.

    Raises:
        NoJsonBody: it is not declared as JSON.
        BodyTooLarge: it has more bytes than any body may have.
        DecodeError: it has more than `limit`, is no JSON, or not that message.
    """
    body = await _json_body(request)
    try:
        return decode(model, body, limit)
    except DecodeError:
        with suppress(ValueError, RecursionError):
            check(json.loads(body))
        raise


async def _json_body(request: Request) -> bytes:
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != JSON_TYPE:
        raise NoJsonBody
    return await request.body()
