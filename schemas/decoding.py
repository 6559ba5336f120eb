"""Decoding and validation of payloads, with short error messages."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Never, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import SchemaError

Model = TypeVar("Model", bound=BaseModel)


_LONGEST = 512
_NAME = re.compile(r"\w+")  # pydantic's names for the branches of a union are no field names


class DecodeError(SchemaError):
    """A payload is not the expected message; the error names the field and never repeats a value."""


def _not_a_number(_: str) -> Never:
    raise DecodeError("NaN and infinities are no JSON")


_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_DIGITS = b"0" * 200


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_a_number(text)


def _well_formed(payload: bytes) -> None:
    """Reject numbers that pydantic accepts inside free-form members; fast for text without such numbers."""
    if _may_overflow(payload) and _may_overflow(_outside_strings(payload)):
        try:
            json.loads(payload, parse_constant=_not_a_number, parse_float=_finite)
        except DecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise DecodeError("the payload is no JSON") from error


def _may_overflow(text: bytes) -> bool:
    """Return whether `text` may contain a non-number, or a number beyond the range of a float.

    Such a number has an exponent of three digits, or 200 digits. Ids and digests in strings often look like one.
    """
    shape = text.translate(_SHAPE, b"+")
    return b"0e000" in shape or _DIGITS in shape or b"NaN" in text or b"Infinity" in text


def _outside_strings(payload: bytes) -> bytes:
    """Return the parts of a JSON document outside its strings."""
    if b"\\" in payload:
        payload = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b" ".join(payload.split(b'"')[::2])


def explain(error: ValidationError) -> str:
    """Return the first validation error as a message: the field's path and the problem."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(step) for step in first["loc"] if _NAME.fullmatch(str(step)))
    said = complaint(first)
    return (f"{path}: {said}" if path else said)[:_LONGEST]


def explain_all(error: ValidationError) -> list[str]:
    """Return every validation error as a message, for each field only the first."""
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join(str(step) for step in detail["loc"] if _NAME.fullmatch(str(step)))
        found.setdefault(path, f"{path}: {complaint(detail)}" if path else complaint(detail))
    return list(found.values())


def complaint(detail: Mapping[str, Any] | ErrorDetails) -> str:
    """Return the text of one validation error without pydantic's prefix."""
    return str(detail["msg"]).removeprefix("Value error, ")


def _read(validate: Callable[[bytes], Model], payload: bytes) -> Model:
    try:
        return validate(payload)
    except ValidationError as error:
        raise DecodeError(explain(error)) from error
    except (ValueError, RecursionError) as error:
        raise DecodeError("the payload is no JSON") from error


def decode(model: type[Model], payload: bytes, limit: int) -> Model:
    """Parse and validate a payload.

    Args:
        model: the expected message.
        payload: JSON, UTF-8.
        limit: size limit in bytes.

    Raises:
        DecodeError: the payload is too large, not JSON, or not that message.
    """
    if len(payload) > limit:
        raise DecodeError(f"{len(payload)} bytes; at most {limit} are taken")
    _well_formed(payload)
    return _read(model.model_validate_json, payload)


def decode_leniently(model: type[Model], payload: bytes, limit: int) -> tuple[Model, list[str]]:
    """Parse and validate a payload whose members are all optional; invalid members are dropped.

    Args:
        model: the expected message.
        payload: JSON, UTF-8.
        limit: size limit in bytes.

    Returns:
        The message, and an error message for each dropped member, with its name.

    Raises:
        DecodeError: the payload is too large or not a JSON object.
    """
    try:
        return decode(model, payload, limit), []
    except DecodeError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        faults = {
            str(detail["loc"][0]): complaint(detail)
            for detail in error.__cause__.errors(include_url=False, include_context=False, include_input=False)
            if detail["loc"]
        }
        if not faults:
            raise
    kept = {name: value for name, value in dict(json.loads(payload)).items() if name not in faults}
    return validate(model, kept), [f"{name}: {fault}; the value is dropped" for name, fault in sorted(faults.items())]


def validate(model: type[Model], document: Any) -> Model:
    """Validate parsed JSON values.

    Raises:
        DecodeError: the values are not that message.
    """
    try:
        payload = json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError("these values are no JSON") from error
    return _read(model.model_validate_json, payload)
