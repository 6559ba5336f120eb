"""The query parameters that lists share, in the wire's words."""

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BeforeValidator

from schemas.identifiers import OrganizationId

MOST = 200
"""Records that a page has at most, but for the agents'."""

Limit = Annotated[int, Query(ge=1, le=MOST, description="records in a page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`nextCursor` of the page before")]
Organization = Annotated[OrganizationId | None, Query(alias="org_id", description="only this organization's")]

_NUMBER = re.compile(r"\s*[+-]?[0-9.]+\s*")


def _written_out(value: object) -> object:
    """Refuse a time that is a number: nobody could tell seconds from milliseconds."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        raise ValueError("write a time as 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A time in a query."""


def epoch(moment: datetime | None) -> float | None:
    """Return seconds since 1970; subtraction, because the platform's own conversion ends at the year 9999."""
    return None if moment is None else (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
