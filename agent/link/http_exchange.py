"""HTTP requests to the manager and the parsing of its answers."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.link.link import Closed

OK, CREATED, NOT_MODIFIED = 200, 201, 304

LONGEST_PAUSE = 900.0
"""The maximum pause in seconds after a Retry-After header."""

_LONGEST_SENTENCE = 300


class Task(StrEnum):
    """The kinds of requests; the values appear in error messages."""

    REGISTRATION = "registration"
    HEARTBEAT = "heartbeat"
    POLICY = "policy poll"
    REPORTS = "report"
    FAREWELL = "sign-off"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `ids` are the ids of the reports in its body."""

    task: Task
    method: str
    path: str
    body: bytes | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: The HTTP status.
        body: The complete body.
        retry_after: Seconds from the Retry-After header; 0 without one.
        peer: The address that answered, if known.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    retry_after: float = 0.0
    peer: str | None = None


def data_of(answer: Answer) -> dict[str, Any] | None:
    """Return the `data` of a successful answer; None for an error or another server's answer."""
    if answer.status not in (OK, CREATED):
        return None
    document = _read(answer.body)
    data = document.get("data")
    return data if document.get("ok") is True and isinstance(data, dict) else None


def sentence_of(body: bytes) -> str:
    """Return the `error` message of an answer, made printable; empty without one."""
    error = _read(body).get("error")
    text = error if isinstance(error, str) else ""
    return "".join(char if char.isprintable() else " " for char in text[:_LONGEST_SENTENCE]).strip()


def closed_by(request: Request, answer: Answer, *, unauthorized: bool = False) -> Closed:
    """Return the `Closed` event for an answer that ends the link."""
    said = sentence_of(answer.body)
    if not said and answer.status in (OK, CREATED):
        said = "not by a manager; check the manager's address"
    reason = f"a {request.task} was answered {answer.status}{': ' if said else ''}{said}"
    return Closed(reason, unauthorized, min(answer.retry_after, LONGEST_PAUSE))


def _read(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
