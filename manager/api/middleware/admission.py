"""Admission control: authentication and rate limit of every request (the contract, section 3)."""

import math
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace

from starlette.types import Scope

from manager.api import authentication
from manager.api.authentication import Caller, Credentials
from manager.api.errors import TooManyRequests
from manager.api.middleware.client_address import ClientAddresses, Headers
from manager.api.middleware.operator_addresses import OperatorAddressRecorder
from manager.api.middleware.rate_limits import ReportBudgets, SlidingWindow
from manager.domain.budget import Budget
from manager.engine.origin import Origin

_BEARER = b"bearer "
_BASIC = b"basic "
_FEEDS = "/api/feeds/"
"""Routes that also take a token as the password of basic authentication, for clients that know nothing else."""
_UNLIMITED = ("/health", "/health/live", "/health/ready")
_REGISTER = "/api/agents/register"
_EVENTS = "/events"
_ACCESS_FACTOR = 10
"""An access token's limit as a multiple of an agent's: a command reads a list of a large fleet page by page."""

_LEAST_LIFE = 10
"""Heartbeats and polls a minute that each of several processes takes: an agent sends two or three."""

_HEARTBEAT = "/heartbeat"
_POLL = "/api/policy/agent/"


class Admission:
    """Identifies callers and limits their request rate.

    Each agent has three budgets: `limit` requests per minute for heartbeats and policy polls, the same number for all
    other requests, and the budget of its reports, the same as for MQTT agents. So a burst of reports does not block
    heartbeats. An access token has ten times `limit`; admins of the whole fleet have no limit.

    Args:
        credentials: identifies bearer tokens.
        addresses: resolves client addresses.
        limit: requests per minute of each agent, and of each address without a valid credential; 0 for no limits.
        reports: reports and bytes a second of each agent.
        clock: monotonic seconds.
        sharers: returns the number of processes that serve agents, among which the budgets of heartbeats and reports
            are divided; each process takes 10 heartbeats and polls a minute at least.
        operators: gets the addresses of people's requests; None for nobody.
    """

    def __init__(
        self,
        credentials: Credentials,
        addresses: ClientAddresses,
        limit: int,
        reports: Budget,
        clock: Callable[[], float] = time.monotonic,
        *,
        sharers: Callable[[], int] = lambda: 1,
        operators: OperatorAddressRecorder | None = None,
    ) -> None:
        self._sharers = sharers
        self._shared_by = 1
        self._report_budget = reports
        self._operators = operators
        self._credentials = credentials
        self._addresses = addresses
        self._clock = clock
        self._limit = limit
        self._life = SlidingWindow(limit)
        self._other = SlidingWindow(limit)
        self._access = SlidingWindow(limit * _ACCESS_FACTOR)
        self._reports = ReportBudgets(reports)

    def admit(
        self,
        path: str,
        client: tuple[str, int] | None,
        headers: Headers,
        signed_in: Caller | None = None,
        *,
        token_digest: bytes | None = None,
    ) -> Caller | None:
        """Return the caller, None for an unknown one.

        Args:
            path: the request's path.
            client: the peer's address and port.
            headers: the request's headers.
            signed_in: the caller whose session the console's cookie names, if there is one.
            token_digest: the SHA-256 of the bearer token in the headers, where it is known already.

        Raises:
            TooManyRequests: this agent, or this address, exceeded its limit.
        """
        digest = token_digest or _given_digest(path, headers)
        caller = signed_in if digest is None else self._credentials.identify_digest(digest)
        if caller is None:
            if self._limit and not self._is_unlimited(path, client, headers):
                key = self._addresses.rate_limit_key(self._addresses.address(client, headers))
                self._refuse_over_limit(self._other, key)
        elif caller.agent_id is not None:
            if self._limit:
                self._limit_agent(caller.agent_id, path)
        else:
            if self._limit and not caller.is_admin:
                self._refuse_over_limit(self._access, caller.name)
            if self._operators is not None:  # after the limit: a refused request makes no command of the engine
                self._operators.record(caller, self._addresses.address(client, headers))
        return caller

    def charge_reports(self, caller: Caller | None, reports: int, size: int) -> None:
        """Charge an agent's report budget for an admitted request, which was charged for one report at admission.

        The agent may get into debt by it.
        """
        if self._limit and caller is not None and caller.agent_id is not None:
            self._reports.charge(caller.agent_id, max(0, reports - 1), size, self._clock())

    def origin(self, scope: Scope, headers: Headers, caller: Caller | None, request_id: bytes) -> Origin:
        """Return the actor with its role, address and request id for audit records."""
        actor = caller.name if caller is not None else "anonymous"
        role = None if caller is None or caller.role is None else str(caller.role)
        return Origin(actor, self._addresses.address(scope["client"], headers) or None, request_id.decode(), role)

    def _divide(self, sharers: int) -> None:
        """Divide the budgets of heartbeats and reports among a number of processes."""
        self._shared_by, whole = sharers, self._report_budget
        self._life.use_limit(min(self._limit, max(_LEAST_LIFE, math.ceil(self._limit / sharers))))
        self._reports.use_budget(replace(whole, messages=whole.messages / sharers, bytes=whole.bytes / sharers))

    def _limit_agent(self, agent_id: str, path: str) -> None:
        if (sharers := self._sharers()) != self._shared_by:
            self._divide(sharers)
        if path.endswith(_EVENTS):
            wait = self._reports.wait(agent_id, self._clock())
            if wait:
                raise self._reports.refusal(wait)
            self._reports.charge(agent_id, 1, 0, self._clock())
        else:
            is_life = path.endswith(_HEARTBEAT) or path.startswith(_POLL)
            self._refuse_over_limit(self._life if is_life else self._other, agent_id)

    def _refuse_over_limit(self, window: SlidingWindow, key: str) -> None:
        wait = math.ceil(window.wait(key, self._clock()))
        if wait:
            sentence = f"at most {window.limit} requests a minute are taken; try again in {wait} s"
            raise TooManyRequests(sentence, window.limit, wait)

    def _is_unlimited(self, path: str, client: tuple[str, int] | None, headers: Headers) -> bool:
        """Return whether an unauthenticated request is exempt: health checks, and authorized registrations."""
        if path != _REGISTER:
            return path in _UNLIMITED
        token = bearer(headers)
        if token is None:
            return self._addresses.is_trusted(self._addresses.address(client, headers))
        return self._credentials.enrollment(token) is not None


def _given_digest(path: str, headers: Headers) -> bytes | None:
    """Return the digest of the token in the headers, which a feed's client may give as a password."""
    token = bearer(headers)
    if token is None and path.startswith(_FEEDS):
        token = basic_password(headers)
    return None if token is None else authentication.token_digest(token)


def bearer(headers: Headers) -> str | None:
    """Return the bearer token of the Authorization header; None without one."""
    given = headers.get(b"authorization")
    if given is None or given[:7].lower() != _BEARER:
        return None
    return given[7:].strip().decode("latin-1") or None


def basic_password(headers: Headers) -> str | None:
    """Return the password of basic authentication in the Authorization header; None without one."""
    given = headers.get(b"authorization")
    if given is None or given[:6].lower() != _BASIC:
        return None
    try:
        pair = b64decode(given[6:].strip(), validate=True)
    except ValueError:
        return None
    return pair.partition(b":")[2].decode("latin-1") or None
