"""Request body parsing: reads a JSON body and decodes it as a pydantic model."""

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
        NoJsonBody: the content type is not JSON.
        BodyTooLarge: the body exceeds the limit of all bodies.
        DecodeError: the body exceeds `limit`, is no JSON, or does not fit the model.
    """
    return decode(model, await _json_body(request), limit)


async def read_document(request: Request, model: type[Model], limit: int) -> tuple[Model, dict[str, Any]]:
    """Return the body as `model`, and as plain JSON with the fields that the model ignores.

    Raises:
        NoJsonBody: the content type is not JSON.
        BodyTooLarge: the body exceeds the limit of all bodies.
        DecodeError: the body exceeds `limit`, is no JSON, or does not fit the model.
    """
    body = await _json_body(request)
    document = decode(model, body, limit)
    return document, dict(json.loads(body))


async def read_document_or(request: Request, model: type[Model], check: Callable[[Any], None], limit: int) -> Model:
    """Return the body as `model`; if decoding fails, `check` may raise a clearer error first.

    Raises:
        NoJsonBody: the content type is not JSON.
        BodyTooLarge: the body exceeds the limit of all bodies.
        DecodeError: the body exceeds `limit`, is no JSON, or does not fit the model.
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
