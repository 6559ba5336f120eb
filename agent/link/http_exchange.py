"""One request to a manager over HTTP, and how its answer reads: what it gives, or why it says no."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.link.link import Closed

OK, CREATED, NOT_MODIFIED = 200, 201, 304

LONGEST_PAUSE = 900.0
"""Seconds; for no longer is a manager left alone, whatever it asks for."""

_LONGEST_SENTENCE = 300


class Task(StrEnum):
    """What a request is about."""

    REGISTRATION = "registration"
    HEARTBEAT = "heartbeat"
    POLICY = "policy poll"
    REPORTS = "report"
    FAREWELL = "sign-off"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `ids` are the reports in its body."""

    task: Task
    method: str
    path: str
    body: bytes | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP's.
        body: All of it.
        retry_after: Seconds, from the header of that name; 0 without one.
        peer: The address that answered, if known.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    retry_after: float = 0.0
    peer: str | None = None


def data_of(answer: Answer) -> dict[str, Any] | None:
    """Return what a manager's answer gives; None if it says no, or is none of a manager's."""
    if answer.status not in (OK, CREATED):
        return None
    document = _read(answer.body)
    data = document.get("data")
    return data if document.get("ok") is True and isinstance(data, dict) else None


def sentence_of(body: bytes) -> str:
    """Return the sentence in a manager's answer that says no, safe to print; empty if there is none."""
    error = _read(body).get("error")
    text = error if isinstance(error, str) else ""
    return "".join(char if char.isprintable() else " " for char in text[:_LONGEST_SENTENCE]).strip()


def closed_by(request: Request, answer: Answer, *, unauthorized: bool = False) -> Closed:
    """Return the end of a link whose request got an answer after which it cannot go on."""
    said = sentence_of(answer.body)
    if not said and answer.status in (OK, CREATED):
        said = "and not in a manager's words; is this the manager's address?"
    reason = f"a {request.task} was answered {answer.status}{': ' if said else ''}{said}"
    return Closed(reason, unauthorized, min(answer.retry_after, LONGEST_PAUSE))


def _read(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
