"""Base of all wire models: camelCase in JSON, snake_case in Python, strict and frozen."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


def _as_utc(moment: datetime) -> datetime:
    try:
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this moment lies outside the calendar") from error


Timestamp = Annotated[AwareDatetime, AfterValidator(_as_utc)]
"""A time in UTC; ISO 8601 with ``Z`` on the wire. A time without a zone is rejected."""


_PLAIN_LENGTHS = frozenset({20, 24, 27})
"""Lengths of a UTC time with ``Z``: without a fraction, with milliseconds, with microseconds."""

_SEPARATORS = frozenset({"--T::Z", "--T::."})


def is_plain_time(text: str) -> bool:
    """Return whether a text is a time in the form that guards write, such as ``2026-01-01T00:00:00.000Z``.

    `Timestamp` takes each such time, and others.

    Raises:
        ValueError: it has that form and is no time of the calendar.
    """
    return (
        len(text) in _PLAIN_LENGTHS
        and text[4:20:3] in _SEPARATORS
        and text[-1] == "Z"
        and text[11:13] != "24"  # a later Python reads it as the next day
        and datetime.fromisoformat(text) is not None
    )


class WireModel(BaseModel):
    """A message or a part of one.

    Unknown fields are ignored (for newer guards), numbers are never parsed from strings, and NaN and
    infinities are rejected.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        ser_json_inf_nan="null",
    )

    def body(self) -> bytes:
        """Serialise the message as compact JSON, camelCase, without unset fields."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


_FIRST_SECOND = -62_135_596_800.0
_LAST_SECOND = 253_402_300_799.0
"""The first and the last second of the calendar; later floats would be rounded past its end."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds_since_1970(moment: datetime) -> float:
    """Return what `moment.timestamp()` returns, in half the time."""
    return (moment - _EPOCH).total_seconds()


def utc(epoch: float) -> datetime:
    """Convert seconds since 1970 to a `Timestamp`; a time outside the calendar becomes its first or last second."""
    return datetime.fromtimestamp(min(max(epoch, _FIRST_SECOND), _LAST_SECOND), UTC)


def iso(epoch: float) -> str:
    """Convert seconds since 1970 to the wire's time format: ISO 8601, UTC, milliseconds, ``Z``; bounded as `utc`."""
    return utc(epoch).isoformat(timespec="milliseconds").replace("+00:00", "Z")
