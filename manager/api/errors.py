"""Error map: HTTP status and text of each exception. Confidential texts are replaced by fixed ones."""

import re
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from manager.api.envelope import fail
from manager.errors import (
    CommitPending,
    Conflict,
    Invalid,
    ManagerError,
    ManagerStops,
    NotFound,
    StoreRejected,
    StoreUnavailable,
)
from schemas.decoding import complaint
from schemas.errors import SchemaError

log = structlog.get_logger(__name__)


class Unauthorized(ManagerError):  # noqa: N818 -- HTTP's own term
    """The request has no token, or an unknown, expired or revoked one."""


class Forbidden(ManagerError):  # noqa: N818 -- HTTP's own term
    """The token is valid, but does not permit this path."""


class RoleRefused(ManagerError):  # noqa: N818 -- named like its HTTP status
    """The access token has another role, or is limited to other organizations; the text says which."""


class OtherOrigin(ManagerError):  # noqa: N818 -- named like its HTTP status
    """A request with the console's cookie lacks the CSRF token, or comes from a page of another origin."""


class TokenRefusedError(ManagerError):
    """An enrollment token of this manager is expired or used up; the text says which."""


class TooManyRequests(ManagerError):  # noqa: N818 -- HTTP's own term
    """A caller exceeded a rate limit.

    Args:
        sentence: the limit, and when to try again.
        limit: the limit as a number.
        retry_after: seconds until the next request is allowed.
    """

    def __init__(self, sentence: str, limit: int, retry_after: int) -> None:
        super().__init__(sentence)
        self.headers = {
            "Retry-After": str(retry_after),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": "0",
        }


class BodyTooLarge(ManagerError):  # noqa: N818 -- named like its HTTP status
    """The body exceeds the limit of all requests."""


class RouteNotWiredError(RuntimeError):
    """A request reached the OpenAPI stub of a route that is served in front of the framework: a wiring bug."""


class RouteWithoutRoleError(RuntimeError):
    """A route declares no role, so nobody could tell who may use it: a wiring bug."""


class NoJsonBody(ManagerError):  # noqa: N818 -- named like its HTTP status
    """The body is not declared as application/json."""


_STATUSES: dict[type[Exception], int] = {
    NotFound: 404,
    Conflict: 409,
    Invalid: 400,
    SchemaError: 400,
    TokenRefusedError: 403,
    RoleRefused: 403,
}
"""Errors whose text is shown to the caller."""

_FIXED_ANSWERS: dict[type[Exception], tuple[int, str, dict[str, str]]] = {
    Unauthorized: (401, "Unauthorized", {"WWW-Authenticate": "Bearer"}),
    Forbidden: (403, "this token does not open this path", {}),
    OtherOrigin: (
        403,
        "a change with the console's cookie needs the header X-Panguard-CSRF with csrfToken of GET /api/session",
        {},
    ),
    BodyTooLarge: (413, "the body is too large: at most 1 MiB is taken", {}),
    NoJsonBody: (415, "the body must be application/json", {}),
    ManagerStops: (
        503,
        "this manager stops or hands the lead over, and nothing was changed; try again in a few seconds",
        {"Retry-After": "2"},
    ),
    StoreUnavailable: (
        503,
        "the store cannot commit just now, and nothing was changed; try again in a few seconds",
        {"Retry-After": "5"},
    ),
    CommitPending: (
        503,
        (
            "the store cannot commit just now, and this change waits for its commit: it is stored once the store works"
            " again, and lost if the manager ends before; look before you ask again"
        ),
        {"Retry-After": "5"},
    ),
    StoreRejected: (500, "the store cannot hold this change, and nothing of it was stored; the log has the reason", {}),
}
"""Errors with a fixed answer, a kind of another before it; their own text goes to the log only."""

_CLOSING = (
    "this manager stops, takes the lead or hands it over; whether it took this request is not known: look before you"
    " ask again"
)

UNAUTHORIZED_HINT = (
    "send Authorization: Bearer with a token of this manager; an unknown, expired or revoked one is refused: an admin"
    " makes another by `panguard manager access create` or `access rotate`"
)
"""Member `hint` of every 401, the same for each reason."""

_FRAMEWORK_ERRORS = {404: "Not found", 405: "this path does not know that method", 400: "the request is malformed"}


def answer_for(error: Exception) -> Response | None:
    """Return the answer to a known error; None for an unexpected one, which must become a 500."""
    if isinstance(error, TooManyRequests):
        return fail(429, str(error), error.headers)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return fail(status, str(error))
    for kind, (status, sentence, headers) in _FIXED_ANSWERS.items():
        if isinstance(error, kind):
            return fail(status, sentence, headers, **({"hint": UNAUTHORIZED_HINT} if kind is Unauthorized else {}))
    return None


def closing_answer() -> Response:
    """Return the answer to a request that the server cancels because it closes."""
    return fail(503, _CLOSING, {"Retry-After": "2"})


def internal_error(request_id: str) -> Response:
    """Return the 500 answer with only the request id, by which the reason is found in the log."""
    return fail(500, f"the manager failed on this request; its log names the reason under {request_id}")


def error_response(error: Exception, *, method: str, path: str, request_id: str) -> Response:
    """Return the answer to any error; an unexpected error is logged under the request id."""
    response = answer_for(error)
    if response is None:
        log.error("request_failed", exc_info=error, method=method, path=path, request_id=request_id)
        response = internal_error(request_id)
    return response


async def on_manager_error(request: Request, error: Exception) -> Response:
    """Exception handler for the manager's own errors."""
    answer = answer_for(error)
    if answer is None:
        raise error
    if isinstance(error, (StoreUnavailable, CommitPending, StoreRejected)):
        log.warning("request_deferred", path=request.url.path, reason=str(error))
    return answer


async def on_validation_error(_request: Request, error: Exception) -> Response:
    """Exception handler for invalid parameters: 400 with the parameter's name, never its value."""
    if not isinstance(error, RequestValidationError):
        raise error
    first: dict[str, Any] = error.errors()[0]
    return fail(400, f"{first['loc'][-1]}: {complaint(first)}")


async def on_framework_error(request: Request, error: Exception) -> Response:
    """Exception handler for the router's errors: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:  # noqa: PLR2004 -- the status itself
        headers["Allow"] = ", ".join(allowed_methods(request.app, request.url.path))
    sentence = _FRAMEWORK_ERRORS.get(error.status_code, "the request is refused")
    return fail(error.status_code, sentence, headers)


def add_error_map(app: FastAPI) -> None:
    """Register the exception handlers; the outermost middleware turns any other one into a 500."""
    app.add_exception_handler(ManagerError, on_manager_error)
    app.add_exception_handler(SchemaError, on_manager_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_framework_error)


_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_UNDOCUMENTED = {
    "/": {"GET"},
    "/docs": {"GET"},
    "/openapi.json": {"GET"},
    "/health": {"HEAD"},
    "/health/live": {"HEAD"},
    "/health/ready": {"HEAD"},
}
"""Methods that are served but not in the OpenAPI document."""


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods of the literal route `path`, or else of the templates that match it."""
    described = app.openapi()["paths"]
    found = (
        [described[path]] if path in described else [each for name, each in described.items() if _matches(name, path)]
    )
    return sorted(set(_UNDOCUMENTED.get(path, ())).union(*map(_methods, found)))


def _matches(template: str, path: str) -> bool:
    pieces = re.split(r"\{[^}]+\}", template)
    return re.fullmatch("[^/]+".join(re.escape(piece) for piece in pieces), path) is not None


def _methods(operations: Mapping[str, Any]) -> set[str]:
    return {method.upper() for method in operations if method in _METHODS}
