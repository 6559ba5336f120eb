"""The reconnect loop: registers the guard where needed, opens one session after another, and retries with backoff."""

import random
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from agent.connection.identity import IdentityFile
from agent.connection.presence_messages import PresenceMessages
from agent.connection.registration import (
    Accepted,
    CredentialRejected,
    Outcome,
    Refused,
    RegistrationAttempt,
    Unanswered,
)
from agent.connection.session import Session, SessionListener
from agent.errors import EnrollmentError, StorageError
from agent.link.link import Closed, Dialer, Event, Link, Post
from agent.logs import EventLog

_log = EventLog("connection")

# Seconds: a session that lasted so long resets the backoff.
_LASTING = 10.0
_NEVER = float("inf")
_RANDOM = random.SystemRandom()
# Seconds to wait for the DISCONNECT to be sent; without it the broker would publish the last will.
_FAREWELL = 1.0
# Rejections that a retry with the same token cannot change; the last two are HTTP's. A conflict is retried, because it
# ends with the other instance; an outdated or malformed registration is built again.
_FINAL = frozenset({"bad_proof", "unknown_token", "expired_token", "used_token", "unauthorized", "forbidden"})


class Phase(StrEnum):
    """The phases of a connection."""

    WAITING = "waiting"
    REGISTERING = "registering"
    CONNECTING = "connecting"
    ONLINE = "online"


class Backoff:
    """Exponential backoff with full jitter, which spreads the reconnects of a fleet.

    The delay after the n-th failure is uniform in 0 … min(cap, base x 2^(n-1)).

    Args:
        base: The maximum delay after the first failure, in seconds.
        cap: The maximum delay of all, in seconds.
        uniform: Returns a random number between two bounds.
    """

    def __init__(self, base: float, cap: float, uniform: Callable[[float, float], float] = _RANDOM.uniform) -> None:
        self._base = base
        self._cap = cap
        self._uniform = uniform
        self._failures = 0

    def next_delay(self) -> float:
        """Count one failure and return the seconds to wait."""
        ceiling = min(self._cap, self._base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._uniform(0.0, ceiling)

    def reset(self) -> None:
        """Reset the count of failures after a lasting connection."""
        self._failures = 0


class Connector:
    """Opens one link after another: registrations at the start and after refused credentials, and sessions.

    Args:
        dial: Opens links.
        identity: The guard's identity.
        apply: Starts a registration attempt; None for a guard without a token.
        liveness: Builds presence messages.
        connect_timeout: Seconds until a session must be open.
        post: Takes link events.
        listener: Is notified of sessions.
        ignored: Counts rejected messages by reason.
        backoff: The delays after failures.
    """

    def __init__(
        self,
        *,
        dial: Dialer,
        identity: IdentityFile,
        apply: Callable[[], RegistrationAttempt] | None,
        liveness: PresenceMessages,
        connect_timeout: float,
        post: Post,
        listener: SessionListener,
        ignored: Counter[str],
        backoff: Backoff,
    ) -> None:
        self._dial = dial
        self._identity = identity
        self._apply = apply
        self._liveness = liveness
        self._connect_timeout = connect_timeout
        self._post = post
        self._listener = listener
        self._ignored = ignored
        self._backoff = backoff
        self._link: Link | None = None
        self._stage: RegistrationAttempt | Session | None = None
        self._deadline = 0.0
        self._must_register = apply is not None
        self._closed = False
        self._trouble: str | None = None

    @property
    def phase(self) -> Phase:
        """The current phase."""
        if self._stage is None:
            return Phase.WAITING
        if not isinstance(self._stage, Session):
            return Phase.REGISTERING
        return Phase.CONNECTING if self._stage.online_since is None else Phase.ONLINE

    @property
    def trouble(self) -> str | None:
        """The reason why the guard is not online; None while it is, and before the first failure."""
        return None if self.phase is Phase.ONLINE else self._trouble

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock."""
        if self._closed:
            return _NEVER
        if self._stage is None or isinstance(self._stage, Session):
            return self._deadline
        return min(self._deadline, self._stage.due)

    def tick(self, now: float) -> None:
        """Run the steps that are due.

        Raises:
            EnrollmentError: the manager rejected the guard for good.
        """
        if now < self.due:
            return
        try:
            self._act(now)
        except StorageError as error:
            self._retry(str(error), now)

    def _act(self, now: float) -> None:
        if self._stage is None:
            self._begin(now)
        elif now >= self._deadline:
            self._retry("no answer in time", now)
        elif not isinstance(self._stage, Session) and self._link is not None:
            self._registered(self._stage, self._stage.tick(self._link, now), now)

    def handle(self, link: Link, event: Event, now: float) -> None:
        """Handle a link event; events of earlier links are ignored.

        Raises:
            EnrollmentError: the manager rejected the guard for good.
        """
        if link is not self._link or self._stage is None:
            return
        try:
            self._take(link, event, now)
        except StorageError as error:
            self._retry(str(error), now)

    def _take(self, link: Link, event: Event, now: float) -> None:
        if isinstance(event, Closed):
            self._lost(event, now)
        elif isinstance(self._stage, Session):
            self._in_session(self._stage, self._stage.handle(link, event, now), now)
        elif self._stage is not None:
            self._registered(self._stage, self._stage.handle(link, event, now), now)

    def sign_off(self) -> tuple[Link, int] | None:
        """Publish `offline`; return the link and the message's number, or None without an open session."""
        if not isinstance(self._stage, Session) or self._stage.online_since is None or self._link is None:
            return None
        number = self._stage.sign_off(self._link)
        return None if number is None else (self._link, number)

    def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        self._drop(patience=_FAREWELL)

    def _begin(self, now: float) -> None:
        self._deadline = now + self._connect_timeout
        identity = self._identity.identity
        if self._must_register and self._apply is not None:
            self._stage = self._apply()
            self._link = self._dial(self._stage.account, None, self._post)
        elif identity.enrolled is not None:
            self._identity.raise_session()
            self._stage = Session(
                self._identity.identity, identity.enrolled, self._liveness, self._listener, self._ignored
            )
            self._link = self._dial(self._stage.account, self._stage.will, self._post)

    def _lost(self, event: Closed, now: float) -> None:
        reason = event.reason
        if event.unauthorized and isinstance(self._stage, Session):
            self._must_register = self._apply is not None
            if self._apply is None:
                reason = (
                    f"{reason}: this agent was removed at the manager, or another guard registered with its hostname;"
                    " start this guard with an enrollment token, in the second case also with another --hostname"
                )
        self._retry(reason, now, at_least=event.retry_after)

    def _in_session(self, session: Session, surpass: int | None, now: float) -> None:
        if session.online_since is not None:
            self._deadline, self._trouble = _NEVER, None
        enrolled = self._identity.identity.enrolled
        if surpass is not None:
            self._identity.raise_session(above=surpass)
            self._retry(f"the fleet has heard of session {surpass} of this agent", now)
        elif enrolled is not None and enrolled.organization_id != session.organization_id:
            self._retry(f"this agent was moved to organization {enrolled.organization_id}", now)

    def _registered(self, stage: RegistrationAttempt, outcome: Outcome | None, now: float) -> None:
        match outcome:
            case None:
                self._deadline = max(self._deadline, stage.due + 1.0)
            case Accepted(enrolled, session):
                self._identity.enroll(enrolled, session)
                self._must_register = False
                _log.info("registered", agent_id=enrolled.agent_id, organization_id=enrolled.organization_id)
                self._drop()
                self._begin(now)
            case Refused(error, reason):
                self._identity.await_answer(None)
                self._turned_away(error, reason, fresh=not stage.resumed, now=now)
            case Unanswered(reason):
                self._go_on_or_retry(reason, now)
            case CredentialRejected(reason):
                _log.info("registering_again", reason=reason)
                self._drop()
                self._begin(now)

    def _turned_away(self, error: str, reason: str, *, fresh: bool, now: float) -> None:
        if self._identity.identity.enrolled is None and fresh and error in _FINAL:
            self._drop()
            raise EnrollmentError(error, reason)
        _log.warning("registration_refused", error=error, reason=reason)
        self._go_on_or_retry(reason, now)

    def _go_on_or_retry(self, reason: str, now: float) -> None:
        """Retry the registration; a guard that is enrolled already opens a session instead."""
        self._must_register = self._identity.identity.enrolled is None
        self._retry(reason, now)

    def _retry(self, reason: str, now: float, at_least: float = 0.0) -> None:
        stage, session = self._stage, None
        if isinstance(stage, Session):
            session = stage.number
            if stage.online_since is not None and now - stage.online_since >= _LASTING:
                self._backoff.reset()
        self._drop()
        delay = at_least + self._backoff.next_delay()
        self._deadline = now + delay
        self._trouble = reason
        _log.warning("not_connected", reason=reason, session=session, retry_in=round(delay, 2))

    def _drop(self, patience: float = 0.0) -> None:
        link, stage = self._link, self._stage
        self._link = self._stage = None
        if link is not None:
            link.close(patience)
        if isinstance(stage, Session):
            stage.end()
