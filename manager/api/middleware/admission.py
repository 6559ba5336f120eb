"""Admission control: authentication and rate limit of every request (the contract, section 3)."""

import math
import time
from collections import OrderedDict, deque

from starlette.types import Scope

from manager.api.authentication import Caller, Credentials
from manager.api.errors import TooManyRequests
from manager.api.middleware.client_address import ClientAddresses, Headers
from manager.engine.origin import Origin

_BEARER = b"bearer "
_UNLIMITED = ("/health", "/health/live", "/health/ready")
_REGISTER = "/api/agents/register"


class Admission:
    """Identifies callers and limits their request rate.

    Args:
        credentials: identifies bearer tokens.
        addresses: resolves client addresses.
        limit: requests per minute of each agent, and of each address without a valid credential; 0 for no limit.
    """

    def __init__(self, credentials: Credentials, addresses: ClientAddresses, limit: int) -> None:
        self._credentials = credentials
        self._addresses = addresses
        self._limit = SlidingWindow(limit) if limit else None

    def admit(self, path: str, client: tuple[str, int] | None, headers: Headers) -> Caller | None:
        """Return the caller, None for an unknown one; `client` is the peer's address and port.

        Raises:
            TooManyRequests: this agent, or this address, exceeded its limit.
        """
        token = bearer(headers)
        caller = self._credentials.identify(token) if token is not None else None
        limit = self._limit
        if limit is None or (caller is not None and caller.is_admin):
            return caller
        if caller is not None and caller.agent_id is not None:
            key = caller.agent_id
        elif self._is_unlimited(path, client, headers, token):
            return caller
        else:
            key = self._addresses.rate_limit_key(self._addresses.address(client, headers))
        wait = limit.wait(key, time.monotonic())
        if wait:
            raise TooManyRequests(limit.limit, max(1, math.ceil(wait)))
        return caller

    def origin(self, scope: Scope, headers: Headers, caller: Caller | None, request_id: bytes) -> Origin:
        """Return the actor, address and request id for audit records."""
        actor = caller.name if caller is not None else "anonymous"
        return Origin(actor, self._addresses.address(scope["client"], headers) or None, request_id.decode())

    def _is_unlimited(self, path: str, client: tuple[str, int] | None, headers: Headers, token: str | None) -> bool:
        """Return whether an unauthenticated request is exempt: health checks, and registrations that are let in."""
        if path != _REGISTER:
            return path in _UNLIMITED
        if token is None:
            return self._addresses.is_trusted(self._addresses.address(client, headers))
        return self._credentials.enrollment(token) is not None


def bearer(headers: Headers) -> str | None:
    """Return the bearer token of the Authorization header; None without one."""
    given = headers.get(b"authorization")
    if given is None or given[:7].lower() != _BEARER:
        return None
    return given[7:].strip().decode("latin-1") or None


MINUTE = 60.0
_MAX_KEYS = 100_000


class SlidingWindow:
    """Rate limit by key: at most `limit` requests within any `window` seconds.

    Memory is bounded: beyond `max_keys`, the key that was idle longest is forgotten.

    Args:
        limit: requests of one key within `window`.
        window: seconds.
        max_keys: keys that are remembered.
    """

    def __init__(self, limit: int, window: float = MINUTE, max_keys: int = _MAX_KEYS) -> None:
        self.limit = limit
        self._window = window
        self._max_keys = max_keys
        self._recent: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of remembered keys."""
        return len(self._recent)

    def wait(self, key: str, now: float) -> float:
        """Count a request and return 0 if it is allowed, else return the seconds until the next one is.

        A refused request does not count, so waiting always helps. `now` is monotonic.
        """
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = deque(maxlen=self.limit)
            if len(self._recent) > self._max_keys:
                self._recent.popitem(last=False)
        if len(recent) == self.limit and now - recent[0] < self._window:
            return self._window - (now - recent[0])
        recent.append(now)
        self._recent.move_to_end(key)
        return 0.0
