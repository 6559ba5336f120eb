"""Registration over MQTT with an enrollment token, at the first start and after restarts."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from agent.clock import Clock
from agent.connection.identity import Enrolled, PendingRegistration
from agent.connection.key_succession import followed
from agent.connection.registration import Accepted, Outcome, Refused, Unanswered
from agent.host import HostFacts
from agent.link.link import Account, Event, Link, MessageReceived, Opened
from agent.logs import EventLog
from agent.settings import GuardSettings
from schemas import limits, message_codes
from schemas.decoding import DecodeError, decode
from schemas.errors import KeyMaterialError
from schemas.keys import EnrollmentToken, public_sign_key, seal
from schemas.model import utc
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.succession import TrustedKeys
from schemas.topics import MANAGER_KEYS, REGISTRATION, REGISTRATION_REPLY

_log = EventLog("enroll")

_EVERYBODY = "registration"


@dataclass(frozen=True, slots=True)
class RegistrationFields:
    """The content of a registration.

    Attributes:
        token: The enrollment token, with the manager's signing key.
        trusted: The signing keys that are trusted by it: the token's, and what this guard knows of its successors.
        secret: The guard's secret.
        facts: The host facts.
        organization: The requested organization, if any.
        site: The site.
        tags: The tags.
    """

    token: EnrollmentToken
    secret: bytes
    facts: HostFacts
    organization: str | None = None
    site: str | None = None
    tags: tuple[str, ...] = ()
    trusted: TrustedKeys | None = None

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"RegistrationFields({self.facts.hostname}, {self.token!r})"


class MqttRegistration:
    """One registration attempt: one client id and one payload, repeated byte for byte until the manager answers.

    Args:
        fields: The content.
        settings: Timeout and number of attempts.
        clock: The host's clocks.
        started: When the guard was started, on the monotonic clock.
        keep: Stores the registration; called before it is first sent.
        pending: An unanswered registration of an earlier run, to send instead of a new one.
    """

    def __init__(
        self,
        *,
        fields: RegistrationFields,
        settings: GuardSettings,
        clock: Clock,
        started: float,
        keep: Callable[[PendingRegistration], None],
        pending: PendingRegistration | None = None,
    ) -> None:
        self._fields = fields
        self._settings = settings
        self._clock = clock
        self._started = started
        self._trusted = fields.trusted or TrustedKeys(fields.token.sign_key)
        self._keep = keep
        self._client_id = pending.client_id if pending else secrets.token_hex(16)
        self._payload = pending.payload.encode() if pending else None
        self.resumed = pending is not None
        self._sent = 0
        self.due = float("inf")

    @property
    def account(self) -> Account:
        """The public registration account, under this registration's own client id."""
        return Account(self._client_id, _EVERYBODY, _EVERYBODY, {"clientId": self._client_id})

    def handle(self, link: Link, event: Event, now: float) -> Outcome | None:
        """Handle a link event; return the outcome, or None while it is open."""
        match event:
            case Opened():
                self._sent = 0
                self.due = now + self._settings.registration_timeout
                link.subscribe(REGISTRATION_REPLY, MANAGER_KEYS)  # subscribe to the reply first: it may arrive at once
            case MessageReceived(row, payload) if row is MANAGER_KEYS:
                return self._keys(link, payload, now)
            case MessageReceived(row, payload) if row is REGISTRATION_REPLY:
                return self._answer(payload)
        return None

    def tick(self, link: Link, now: float) -> Outcome | None:
        """Send the registration again, or give up, when the deadline has passed."""
        if now < self.due:
            return None
        if self._sent == 0:
            return Unanswered("no manager has announced its keys at this broker; see that the manager is connected")
        if self._sent >= self._settings.registration_attempts:
            return Unanswered("the manager has not answered the registration; see that it is connected to its broker")
        self._send(link, now)
        return None

    def _keys(self, link: Link, payload: bytes, now: float) -> Outcome | None:
        self._trusted, keys = followed(self._trusted, payload, self._clock.wall())
        if self._sent:
            return None  # a rotation between the registration and its reply is followed
        if keys is None:
            return Unanswered(
                "this broker's manager is not the one that issued the token, or its signing key was replaced more than"
                " 30 days ago; take a token of today from it"
            )
        try:
            if self._payload is None:
                self._payload = self._registration(keys.seal_key)
                self._keep(PendingRegistration(client_id=self._client_id, payload=self._payload.decode()))
        except KeyMaterialError as error:
            return Unanswered(f"the manager's keys cannot be read: {error}")
        self._send(link, now)
        return None

    def _registration(self, seal_key: str) -> bytes:
        fields, now = self._fields, self._clock.monotonic()
        registration = Registration(
            hostname=fields.facts.hostname,
            os=fields.facts.os,
            arch=fields.facts.arch,
            version=fields.facts.version,
            organization_id=fields.organization,
            client_id=self._client_id,
            site=fields.site,
            tags=list(fields.tags),
            addresses=list(fields.facts.addresses),
            gateways=list(fields.facts.gateways),
            sent_at=utc(self._clock.wall()),
            uptime=max(0.0, now - self._started),
            token_id=fields.token.token_id,
            sealed_secret=seal(seal_key, fields.secret, self._client_id),
        )
        topic = REGISTRATION.below_root(self._client_id)
        return message_codes.with_proof(fields.token.proof_key, topic, registration.body())

    def _send(self, link: Link, now: float) -> None:
        if self._payload is None:
            return
        self._sent += 1
        self.due = now + self._settings.registration_timeout
        link.publish(REGISTRATION, self._payload)
        _log.info("registration_sent", client_id=self._client_id, attempt=self._sent)

    def _answer(self, payload: bytes) -> Outcome | None:
        topic = REGISTRATION_REPLY.below_root(self._client_id)
        if not message_codes.has_signature(public_sign_key(self._trusted.current), topic, payload):
            _log.warning("registration_reply_ignored", reason="its signature is not the manager's")
            return None
        answer = _read(payload)
        if answer is None or answer.client_id != self._client_id:
            _log.warning("registration_reply_ignored", reason="it does not answer this registration")
            return None
        if isinstance(answer, Rejection):
            if self._payload is None or answer.digest != message_codes.payload_digest(self._payload):
                _log.warning("registration_reply_ignored", reason="the registration was changed on its way")
                return None
            return Refused(answer.error, answer.reason)
        enrolled = Enrolled(answer.agent_id, answer.organization_id).trusting(self._trusted)
        return Accepted(enrolled, answer.session)


def _read(payload: bytes) -> RegistrationReply | Rejection | None:
    try:
        return decode(RegistrationReply, payload, limits.MESSAGE_LIMIT)
    except DecodeError:
        pass  # not this answer; try the other one
    try:
        return decode(Rejection, payload, limits.MESSAGE_LIMIT)
    except DecodeError:
        return None
