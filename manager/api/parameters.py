"""Query parameters shared by the list routes."""

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BeforeValidator

from schemas.identifiers import OrganizationId

MAX_PAGE = 200
"""Largest page of a list, except for agents."""

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="records in a page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`nextCursor` of the page before")]
Organization = Annotated[OrganizationId | None, Query(alias="org_id", description="only this organization's")]

_NUMBER = re.compile(r"\s*[+-]?[0-9.]+\s*")


def _no_number(value: object) -> object:
    """Reject a time that is a bare number, because it could mean seconds or milliseconds."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        raise ValueError("write a time as 2026-01-31T12:00:00Z")
    return value


QueryTime = Annotated[AwareDatetime, BeforeValidator(_no_number)]
"""A time in a query."""


def epoch(moment: datetime | None) -> float | None:
    """Return seconds since 1970; by subtraction, because `datetime.timestamp` fails at the year 9999."""
    return None if moment is None else (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
