"""The one map from errors to HTTP: which status each has, and which words a caller may see."""

import re
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from manager.api.envelope import fail
from manager.errors import Conflict, Invalid, ManagerError, NotFound, StoreRejected, StoreUnavailable
from schemas.decoding import complaint
from schemas.errors import SchemaError

log = structlog.get_logger(__name__)


class Unauthorized(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """The request carries no token, or one that is nobody's."""


class Forbidden(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """The token is good, and does not open this path."""


class TokenRefusedError(ManagerError):
    """An enrollment token is this manager's, and lets nobody in any more; the text says why."""


class TooManyRequests(ManagerError):  # noqa: N818 -- the words that HTTP has for it
    """An agent, or an address without a credential, asked too often.

    Args:
        limit: requests a minute that it may make.
        retry_after: seconds until it may ask again.
    """

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__(f"at most {limit} requests a minute are taken; try again in {retry_after} s")
        self.headers = {
            "Retry-After": str(retry_after),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": "0",
        }


class BodyTooLarge(ManagerError):  # noqa: N818 -- a fact about the request
    """The body has more bytes than any request may have."""


class Unserved(RuntimeError):  # noqa: N818 -- what it says
    """A request reached the description of a route that is served before the framework: a mistake in the wiring."""


class NoJsonBody(ManagerError):  # noqa: N818 -- a fact about the request
    """The body is not declared as application/json."""


_OWN_WORDS: dict[type[Exception], int] = {
    NotFound: 404,
    Conflict: 409,
    Invalid: 400,
    SchemaError: 400,
    TokenRefusedError: 403,
}
"""Errors whose text was written for the caller."""

_SAID_HERE: dict[type[Exception], tuple[int, str, dict[str, str]]] = {
    Unauthorized: (401, "Unauthorized", {"WWW-Authenticate": "Bearer"}),
    Forbidden: (403, "this token does not open this path", {}),
    BodyTooLarge: (413, "the body is too large: at most 1 MiB is taken", {}),
    NoJsonBody: (415, "the body must be application/json", {}),
    StoreUnavailable: (503, "the store cannot commit just now; try again in a few seconds", {"Retry-After": "5"}),
    StoreRejected: (503, "the store cannot commit just now; try again in a few seconds", {"Retry-After": "5"}),
}
"""Errors whose text is for the log alone."""

_OF_THE_FRAMEWORK = {404: "Not found", 405: "this path does not know that method", 400: "the request is malformed"}


def answer_to(error: Exception) -> Response | None:
    """Return what a caller is told of an error; None if it is no error of the caller's, nor one that passes."""
    if isinstance(error, TooManyRequests):
        return fail(429, str(error), error.headers)
    for kind, status in _OWN_WORDS.items():
        if isinstance(error, kind):
            return fail(status, str(error))
    for kind, (status, sentence, headers) in _SAID_HERE.items():
        if isinstance(error, kind):
            return fail(status, sentence, headers)
    return None


def internal_error(request_id: str) -> Response:
    """Return the answer to what should not have happened: nothing but the id that finds it in the log."""
    return fail(500, f"the manager failed on this request; its log names the reason under {request_id}")


def refusal(error: Exception, *, method: str, path: str, request_id: str) -> Response:
    """Return the answer to any error; what should not have happened is logged under the request's id."""
    response = answer_to(error)
    if response is None:
        log.error("request_failed", exc_info=error, method=method, path=path, request_id=request_id)
        response = internal_error(request_id)
    return response


async def on_own_error(request: Request, error: Exception) -> Response:
    """Answer what the manager raised."""
    answer = answer_to(error)
    if answer is None:
        raise error
    if isinstance(error, (StoreUnavailable, StoreRejected)):
        log.warning("request_deferred", path=request.url.path, reason=str(error))
    return answer


async def on_validation_error(_request: Request, error: Exception) -> Response:
    """Answer a parameter that is not what its route takes: 400, naming it and never repeating its value."""
    if not isinstance(error, RequestValidationError):
        raise error
    first: dict[str, Any] = error.errors()[0]
    return fail(400, f"{first['loc'][-1]}: {complaint(first)}")


async def on_framework_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:  # noqa: PLR2004 -- the status itself
        headers["Allow"] = ", ".join(allowed_methods(request.app, request.url.path))
    sentence = _OF_THE_FRAMEWORK.get(error.status_code, "the request is refused")
    return fail(error.status_code, sentence, headers)


def add_error_map(app: FastAPI) -> None:
    """Give an application the map; what is not in it reaches the boundary and becomes a 500."""
    app.add_exception_handler(ManagerError, on_own_error)
    app.add_exception_handler(SchemaError, on_own_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_framework_error)


_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_UNDESCRIBED = {
    "/docs": {"GET"},
    "/openapi.json": {"GET"},
    "/health": {"HEAD"},
    "/health/live": {"HEAD"},
    "/health/ready": {"HEAD"},
}
"""What is served beside what the document describes."""


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods of the route that `path` names, or else of those that it matches."""
    described = app.openapi()["paths"]
    found = (
        [described[path]] if path in described else [each for name, each in described.items() if _matches(name, path)]
    )
    return sorted(set(_UNDESCRIBED.get(path, ())).union(*map(_methods, found)))


def _matches(template: str, path: str) -> bool:
    pieces = re.split(r"\{[^}]+\}", template)
    return re.fullmatch("[^/]+".join(re.escape(piece) for piece in pieces), path) is not None


def _methods(operations: Mapping[str, Any]) -> set[str]:
    return {method.upper() for method in operations if method in _METHODS}
