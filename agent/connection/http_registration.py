"""Registration over HTTP, with the guard's own token, an enrollment token, or no token."""

import json
import re
from collections.abc import Callable
from typing import Any

from agent.connection.identity import Enrolled, IdentityFile
from agent.connection.registration import Accepted, CredentialRejected, Outcome, Refused, Unanswered
from agent.host import HostFacts
from agent.link.http_exchange import CREATED, OK, sentence_of
from agent.link.link import Account, Event, Link, Opened, RegistrationAnswered
from schemas.identifiers import DEFAULT_ORGANIZATION, is_identifier
from schemas.keys import EnrollmentToken
from schemas.topics import REGISTRATION

_NEVER = float("inf")
_TOKEN = re.compile(r"[!-~]{1,512}")

_UNAUTHORIZED, _FORBIDDEN, _CONFLICT = 401, 403, 409
_REFUSALS = {400: "malformed", _UNAUTHORIZED: "unauthorized", _FORBIDDEN: "forbidden", _CONFLICT: "conflict"}
_NOT_TRUSTED = (
    "this manager registers no guard of this address without an enrollment token: give it one in"
    " PANGUARD_ENROLL_TOKEN or with --enroll-token-file"
)


class HttpRegistrations:
    """Starts registration attempts.

    A guard with a token of its own sends that one, so it may reconnect while it still counts as online, and keeps its
    token. A token that the manager rejected is not sent again.

    Args:
        identity: The guard's identity.
        token: The enrollment token; without one only a manager that trusts this network registers the guard.
        facts: Returns the current host facts.
        organization: The organization to register in, if named.
        site: The site.
        tags: The tags.
    """

    def __init__(
        self,
        *,
        identity: IdentityFile,
        token: EnrollmentToken | None,
        facts: Callable[[], HostFacts],
        organization: str | None = None,
        site: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        self._identity = identity
        self._token = "" if token is None else str(token)
        self._facts = facts
        self._organization = organization
        self._site = site
        self._tags = tags
        self._spurned = ""

    def __call__(self) -> "HttpRegistration":
        """Return the next registration."""
        known = self._identity.identity.enrolled
        own = known.token if known is not None and known.token != self._spurned else ""
        return HttpRegistration(self._body(), own or self._token, self._spurn if own else None)

    def _spurn(self, token: str) -> None:
        self._spurned = token

    def _body(self) -> bytes:
        facts = self._facts()
        fields = {
            "hostname": facts.hostname,
            "os": facts.os,
            "arch": facts.arch,
            "version": facts.version,
            "organizationId": self._organization,
            "site": self._site,
            "tags": list(self._tags) or None,
            "ip": facts.addresses[0] if facts.addresses else None,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


class HttpRegistration:
    """One registration over HTTP, sent once; the link repeats unanswered requests.

    Implements `agent.connection.registration.RegistrationAttempt`.

    Args:
        body: The request body.
        bearer: The bearer token; empty for none.
        spurn: Called with `bearer` if it is the guard's own and was rejected; the next attempt uses another one.
    """

    resumed = False
    due = _NEVER

    def __init__(self, body: bytes, bearer: str, spurn: Callable[[str], None] | None) -> None:
        self._body = body
        self._bearer = bearer
        self._spurn = spurn

    @property
    def account(self) -> Account:
        """The account of a client without an agentId."""
        return Account("", "", self._bearer, {})

    def handle(self, link: Link, event: Event, now: float) -> Outcome | None:
        """Handle a link event: send the registration when the link opens; return the outcome of the answer."""
        del now
        match event:
            case Opened():
                link.publish(REGISTRATION, self._body)
            case RegistrationAnswered(status, body):
                return self._answer(status, body)
        return None

    def tick(self, link: Link, now: float) -> Outcome | None:
        """Do nothing: requests have their own timeouts."""
        del link, now
        return None

    def _answer(self, status: int, body: bytes) -> Outcome:
        if status in (OK, CREATED):
            enrolled = _enrolled(body)
            return Accepted(enrolled, 0) if enrolled else Unanswered("what answered the registration is no manager")
        reason = sentence_of(body) or f"it answered {status}"
        if self._spurn is not None and status in (_UNAUTHORIZED, _FORBIDDEN, _CONFLICT):
            self._spurn(self._bearer)
            return CredentialRejected(reason)
        if status == _UNAUTHORIZED and not self._bearer:
            reason = _NOT_TRUSTED
        error = _REFUSALS.get(status)
        return Refused(error, reason) if error else Unanswered(f"the registration was answered {status}: {reason}")


def _enrolled(body: bytes) -> Enrolled | None:
    """Return the registration in an answer: `agentId` and `token` at its top level; None if they are missing."""
    try:
        answer: Any = json.loads(body)
        agent_id, token = answer["agentId"], answer["token"]
    except (ValueError, RecursionError, TypeError, LookupError):
        return None
    if not (isinstance(agent_id, str) and is_identifier("agentId", agent_id)):
        return None
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        return None
    record = answer.get("data")
    named = record.get("organizationId") if isinstance(record, dict) else None
    if not (isinstance(named, str) and is_identifier("organizationId", named)):
        named = DEFAULT_ORGANIZATION
    return Enrolled(agent_id, named, token=token)
