"""The console's cookie: finds the session that a request belongs to, and refuses what another page has sent.

A browser sends the cookie by itself, so it counts only where the browser says that a page of this very origin sent the
request, and a request that changes something must also carry the session's CSRF token, which no other page can read.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterator

from starlette.types import Scope

from manager.api.authentication import Caller, Credentials
from manager.api.errors import OtherOrigin
from manager.api.middleware.client_address import ClientAddresses, Headers

SESSION_PATH = "/api/session"
_NO_USE = frozenset({SESSION_PATH, "/api/events/stream"})
"""Paths that an open page requests by itself; such a request does not count as use."""

CSRF_HEADER = b"x-panguard-csrf"
BACKGROUND_HEADER = b"x-panguard-background"
"""Marks a request that a page makes by itself: it does not count as use, so an open page does not keep a session."""

_NAME = "panguard_session"
_SECURE_NAME = f"__Host-{_NAME}"
"""The name over TLS: browsers accept it only with `Secure`, for this host alone."""

_SECRET_BYTES = 32
_SAFE = frozenset({"GET", "HEAD"})


def new_secret() -> str:
    """Return the value of a new session's cookie: 256 random bits."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def session_id(secret: str) -> str:
    """Return the id under which the session of a cookie is stored."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_token(secret: str) -> str:
    """Return the CSRF token of a session's cookie."""
    return hmac.new(secret.encode("utf-8", "surrogateescape"), b"panguard csrf", hashlib.sha256).hexdigest()


def set_cookie(secret: str, *, secure: bool) -> str:
    """Return the header that sets a session's cookie; an empty secret removes it."""
    name = _SECURE_NAME if secure else _NAME
    age = "" if secret else "; Max-Age=0"
    return f"{name}={secret}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}{age}"


class CookieSessions:
    """Identifies callers by the console's cookie.

    Args:
        credentials: knows the sessions and their tokens.
        addresses: tells which peers are trusted proxies.
    """

    def __init__(self, credentials: Credentials, addresses: ClientAddresses) -> None:
        self._credentials = credentials
        self._addresses = addresses

    def is_secure(self, scope: Scope, headers: Headers) -> bool:
        """Return whether the browser speaks TLS, with this server or with a trusted proxy that says so."""
        if scope["scheme"] == "https":
            return True
        return self._addresses.is_proxy(scope["client"]) and headers.get(b"x-forwarded-proto") == b"https"

    def secret(self, scope: Scope, headers: Headers) -> str | None:
        """Return the cookie's value; None without one, or with several, of which another site set one."""
        name = _SECURE_NAME if self.is_secure(scope, headers) else _NAME
        found = [value for given, value in _cookies(scope) if given == name]
        return found[0] if len(found) == 1 and found[0] else None

    def is_same_origin(self, scope: Scope, headers: Headers) -> bool:
        """Return whether a page of this origin sent the request, by the browser's own word."""
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site == b"same-origin"
        scheme = b"https://" if self.is_secure(scope, headers) else b"http://"
        return headers.get(b"origin") == scheme + headers.get(b"host", b"")

    def caller(self, scope: Scope, headers: Headers) -> Caller | None:
        """Return the caller whose session the request belongs to; None without a live session of this origin.

        Raises:
            OtherOrigin: the request changes something and lacks the session's CSRF token.
        """
        is_sign_in = scope["path"] == SESSION_PATH and scope["method"] == "POST"
        if b"authorization" in headers or b"cookie" not in headers or is_sign_in:
            return None
        secret = self.secret(scope, headers)
        if secret is None or not self.is_same_origin(scope, headers):
            return None
        caller = self._credentials.identify_session(
            session_id(secret), is_use=BACKGROUND_HEADER not in headers and scope["path"] not in _NO_USE
        )
        if caller is None or scope["method"] in _SAFE:
            return caller
        if not hmac.compare_digest(headers.get(CSRF_HEADER, b""), csrf_token(secret).encode()):
            raise OtherOrigin
        return caller


def _cookies(scope: Scope) -> Iterator[tuple[str, str]]:
    for name, value in scope["headers"]:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                given, _, content = pair.strip().partition("=")
                yield given, content
