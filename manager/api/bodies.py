"""Request body parsing: reads a JSON body and decodes it as a pydantic model."""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from manager.api.envelope import JSON_TYPE
from manager.api.errors import NoJsonBody
from manager.api.rule_check import RuleCheck
from manager.domain.policies.document_check import Check, check_document, check_group
from schemas.decoding import DecodeError, decode, explain_all
from schemas.limits import BODY_LIMIT, POLICY_LIMIT
from schemas.policy import PolicyDocument, PolicyGroup

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


async def read_policy(request: Request, *, allow_unknown: bool) -> tuple[PolicyDocument, list[str]]:
    """Return the body as a policy document, and warnings about it.

    Raises:
        NoJsonBody: the content type is not JSON.
        BodyTooLarge: the body exceeds the limit of all bodies.
        DecodeError: the body exceeds the limit of a policy, or is no JSON object.
        Invalid: the document has errors; the text names all of them.
    """
    return await _read_checked(request, PolicyDocument, partial(check_policy, request, allow_unknown=allow_unknown))


async def read_group(request: Request, *, allow_unknown: bool) -> tuple[PolicyGroup, list[str]]:
    """Return the body as a policy group, and warnings about it; raises as `read_policy`."""
    return await _read_checked(request, PolicyGroup, partial(_check_group, request, allow_unknown=allow_unknown))


async def _check_group(request: Request, written: Mapping[str, Any], *, allow_unknown: bool) -> Check:
    around = check_group(written, allow_unknown=allow_unknown)
    policy = written.get("policy")
    inside = await check_policy(request, policy if isinstance(policy, Mapping) else {}, allow_unknown=allow_unknown)
    return Check(
        [*around.errors, *(f"policy.{error}" for error in inside.errors)],
        [*around.warnings, *(f"policy.{warning}" for warning in inside.warnings)],
    )


async def _read_checked(
    request: Request, model: type[Model], check: Callable[[Mapping[str, Any]], Awaitable[Check]]
) -> tuple[Model, list[str]]:
    """Return the body as `model` and the warnings of `check`, or raise the errors of both as one."""
    body = await _json_body(request)
    try:
        document = decode(model, body, POLICY_LIMIT)
    except DecodeError as error:
        written: Any = None
        with suppress(ValueError, RecursionError):
            written = json.loads(body)
        if not isinstance(error.__cause__, ValidationError) or not isinstance(written, dict):
            raise
        faults = explain_all(error.__cause__)
        checked = await check(written)
        named = {fault.partition(":")[0] for fault in faults}
        Check([*faults, *(each for each in checked.errors if each.partition(":")[0] not in named)], []).raise_errors()
        raise
    checked = await check(dict(json.loads(body)))
    checked.raise_errors()
    return document, checked.warnings


async def check_policy(request: Request, written: Mapping[str, Any], *, allow_unknown: bool = False) -> Check:
    """Check a policy document beyond the types of its fields, with the Sigma and YARA rules in it."""
    services = request.app.state.services
    check = check_document(written, allow_unknown=allow_unknown, channels=services.channels)
    rule_check: RuleCheck = services.rule_check
    return Check([*check.errors, *await rule_check.errors(written)], check.warnings)


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
