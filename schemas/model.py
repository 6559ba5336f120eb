"""Base of all wire models: camelCase outside, snake_case inside, strict and frozen."""

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
"""A moment in UTC; ISO 8601 with ``Z`` on the wire. A time without a zone is refused."""


class WireModel(BaseModel):
    """A message or a part of one.

    Unknown fields are ignored (an old manager meets a new guard), numbers are never read from strings, and NaN and
    infinities are refused.
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


def utc(epoch: float) -> datetime:
    """Convert seconds since 1970 to a `Timestamp`."""
    return datetime.fromtimestamp(epoch, UTC)


def iso(epoch: float) -> str:
    """Convert seconds since 1970 to the wire's time format: ISO 8601, UTC, milliseconds, ``Z``."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
