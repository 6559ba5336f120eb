"""The gate that every request passes: who asks, and whether it has asked too often (the contract, section 3)."""

import math
import time
from collections import OrderedDict, deque

from starlette.types import Scope

from manager.api.credentials import Caller, Credentials
from manager.api.errors import TooManyRequests
from manager.api.middleware.peers import Headers, Peers
from manager.engine.origin import Origin

_BEARER = b"bearer "
_UNLIMITED = ("/health", "/health/live", "/health/ready")
_REGISTER = "/api/agents/register"


class Gate:
    """Identifies callers and counts their requests.

    Args:
        credentials: who a bearer is.
        peers: where requests come from.
        limit: requests a minute for each agent, and for each address without a valid credential; 0 for no limit.
    """

    def __init__(self, credentials: Credentials, peers: Peers, limit: int) -> None:
        self._credentials = credentials
        self._peers = peers
        self._limit = RateLimit(limit) if limit else None

    def admit(self, path: str, client: tuple[str, int] | None, headers: Headers) -> Caller | None:
        """Return who asks, None if that is not known; `client` is the peer's address and port.

        Raises:
            TooManyRequests: this agent, or this address, has asked too often.
        """
        token = bearer(headers)
        caller = self._credentials.identify(token) if token is not None else None
        limit = self._limit
        if limit is None or (caller is not None and caller.is_admin):
            return caller
        if caller is not None and caller.agent_id is not None:
            identity = caller.agent_id
        elif self._is_free(path, client, headers, token):
            return caller
        else:
            identity = self._peers.identity(self._peers.address(client, headers))
        wait = limit.wait(identity, time.monotonic())
        if wait:
            raise TooManyRequests(limit.limit, max(1, math.ceil(wait)))
        return caller

    def origin(self, scope: Scope, headers: Headers, caller: Caller | None, request_id: bytes) -> Origin:
        """Return what the audit log says of where a request comes from."""
        actor = caller.name if caller is not None else "anonymous"
        return Origin(actor, self._peers.address(scope["client"], headers) or None, request_id.decode())

    def _is_free(self, path: str, client: tuple[str, int] | None, headers: Headers, token: str | None) -> bool:
        """Return whether a request without an identity of its own is free: health, and registrations let in by more."""
        if path != _REGISTER:
            return path in _UNLIMITED
        if token is None:
            return self._peers.is_trusted(self._peers.address(client, headers))
        return self._credentials.enrollment(token) is not None


def bearer(headers: Headers) -> str | None:
    """Return the token of a request's Authorization header; None if there is none, or none of that scheme."""
    given = headers.get(b"authorization")
    if given is None or given[:7].lower() != _BEARER:
        return None
    return given[7:].strip().decode("latin-1") or None


MINUTE = 60.0
_MOST_KEPT = 100_000


class RateLimit:
    """Counts requests by identity, over a window that slides.

    Memory is bounded: beyond so many identities, the one that was silent longest is forgotten.

    Args:
        limit: requests that one identity may make within `window` seconds.
        window: seconds.
        most_kept: identities that are remembered.
    """

    def __init__(self, limit: int, window: float = MINUTE, most_kept: int = _MOST_KEPT) -> None:
        self.limit = limit
        self._window = window
        self._most_kept = most_kept
        self._recent: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many identities are remembered."""
        return len(self._recent)

    def wait(self, identity: str, now: float) -> float:
        """Take a request into account; return 0 if it may pass, else the seconds until the next one may.

        A request that may not pass counts for nothing, so that waiting always helps. `now` is monotonic.
        """
        recent = self._recent.get(identity)
        if recent is None:
            recent = self._recent[identity] = deque(maxlen=self.limit)
            if len(self._recent) > self._most_kept:
                self._recent.popitem(last=False)
        if len(recent) == self.limit and now - recent[0] < self._window:
            return self._window - (now - recent[0])
        recent.append(now)
        self._recent.move_to_end(identity)
        return 0.0
