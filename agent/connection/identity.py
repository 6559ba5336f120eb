"""The guard's identity file: its secret, its agentId, and its session counter."""

import json
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import StorageError
from agent.storage.files import write_private
from schemas import message_codes
from schemas.identifiers import AgentId, ClientId, OrganizationId
from schemas.keys import SECRET_LENGTH, AgentKeys, new_secret, public_sign_key
from schemas.succession import Succession, TrustedKeys

IDENTITY = "identity.json"
"""The file name of the identity in the data directory."""


class PendingRegistration(BaseModel):
    """An unanswered registration; repeating it byte for byte returns the same answer."""

    model_config = ConfigDict(frozen=True)

    client_id: ClientId
    payload: str


class _StoredToken(BaseModel):
    """The result of a registration over HTTP."""

    model_config = ConfigDict(frozen=True)

    agent_id: AgentId
    organization_id: OrganizationId
    token: str


class _Stored(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True)

    secret: str
    connection: ClientId
    session: Annotated[int, Field(ge=0)] = 0
    agent_id: AgentId | None = None
    organization_id: OrganizationId | None = None
    sign_key: str | None = None
    successions: list[Succession] = []
    ended_successions: list[int] = []
    pending: PendingRegistration | None = None
    http: _StoredToken | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The result of a registration: over MQTT it has a `sign_key`, over HTTP a `token`.

    Attributes:
        agent_id: The agent's id.
        organization_id: Its organization.
        sign_key: The manager's public signing key, base64url, pinned. Empty over HTTP, where the connection
            authenticates the manager.
        token: The bearer token that the manager gave; empty over MQTT.
        successions: The rotations of the pinned key that this guard has followed.
        ended: The numbers of those whose end was reached.
    """

    agent_id: str
    organization_id: str
    sign_key: str = ""
    token: str = field(default="", repr=False)
    successions: tuple[Succession, ...] = ()
    ended: frozenset[int] = frozenset()

    @property
    def trusted(self) -> TrustedKeys | None:
        """The signing keys that this guard trusts; None over HTTP."""
        return TrustedKeys(self.sign_key, self.successions, self.ended) if self.sign_key else None

    def trusting(self, trusted: TrustedKeys) -> "Enrolled":
        """Return the registration with other signing keys."""
        return replace(self, sign_key=trusted.root, successions=trusted.links, ended=trusted.ended)


@dataclass(frozen=True, slots=True)
class Identity:
    """The content of the identity file. `IdentityFile` changes it."""

    secret: bytes
    connection: str
    session: int = 0
    enrolled: Enrolled | None = None
    pending: PendingRegistration | None = None

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"Identity({self.enrolled}, session={self.session})"

    @property
    def keys(self) -> AgentKeys:
        """The keys derived from the guard's secret."""
        return AgentKeys.derive(self.secret)

    @property
    def mqtt_client_id(self) -> str:
        """The MQTT client id: constant, with a random half, so that no other client can guess it and take it over.

        Raises:
            ValueError: the guard is not registered.
        """
        if self.enrolled is None:
            raise ValueError("a guard has no client id before it is enrolled")
        return f"{self.enrolled.agent_id}-{self.connection}"


class IdentityFile:
    """The identity in a data directory; each change is written to disk before it is used.

    The registrations over MQTT and over HTTP are stored side by side.

    Args:
        directory: The data directory, which the caller owns.
        over_http: Whether the HTTP registration is `enrolled`, else the MQTT one.

    Raises:
        StorageError: the file is damaged or cannot be written.
    """

    def __init__(self, directory: Path, *, over_http: bool = False) -> None:
        self._path = directory / IDENTITY
        self._over_http = over_http
        self._other: Enrolled | None = None
        self._identity = Identity(new_secret(), secrets.token_hex(16))
        found = self._read()
        if found is None:
            self._save(self._identity)
        else:
            by_mqtt, by_http = _enrolled(found), _enrolled_over_http(found)
            mine, self._other = (by_http, by_mqtt) if over_http else (by_mqtt, by_http)
            self._identity = Identity(_secret(found), found.connection, found.session, mine, found.pending)

    @property
    def identity(self) -> Identity:
        """The current identity."""
        return self._identity

    def enroll(self, enrolled: Enrolled, known_session: int) -> None:
        """Store a registration, and raise the session counter to the number known to the manager."""
        session = max(self._identity.session, known_session)
        self._save(replace(self._identity, enrolled=enrolled, session=session, pending=None))

    def enter_organization(self, organization_id: str) -> None:
        """Store the organization to which the manager has moved this agent.

        Raises:
            StorageError: the file cannot be written.
        """
        enrolled = self._identity.enrolled
        if enrolled is not None and enrolled.organization_id != organization_id:
            self._save(replace(self._identity, enrolled=replace(enrolled, organization_id=organization_id)))

    def trust(self, trusted: TrustedKeys) -> None:
        """Store the signing keys that this guard trusts after a rotation.

        Raises:
            StorageError: the file cannot be written.
        """
        enrolled = self._identity.enrolled
        if enrolled is not None and enrolled.trusted not in {None, trusted}:
            self._save(replace(self._identity, enrolled=enrolled.trusting(trusted)))

    def await_answer(self, pending: PendingRegistration | None) -> None:
        """Store an unanswered registration; None clears it."""
        if pending != self._identity.pending:
            self._save(replace(self._identity, pending=pending))

    def raise_session(self, above: int = 0) -> int:
        """Store and return the next session number, higher than all earlier ones and than `above`."""
        session = max(self._identity.session, above) + 1
        self._save(replace(self._identity, session=session))
        return session

    def _read(self) -> _Stored | None:
        try:
            stored = _Stored.model_validate_json(self._path.read_bytes())
            _secret(stored)
            if stored.sign_key:
                public_sign_key(stored.sign_key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(self._path, error.strerror or str(error)) from error
        except (ValidationError, ValueError) as error:
            raise StorageError(self._path, "it is damaged; restore it, or remove it and register again") from error
        return stored

    def _save(self, identity: Identity) -> None:
        mine, other = identity.enrolled, self._other
        by_mqtt, by_http = (other, mine) if self._over_http else (mine, other)
        write_private(self._path, _to_stored(identity, by_mqtt, by_http), durable=True)
        self._identity = identity


def _to_stored(identity: Identity, by_mqtt: Enrolled | None, by_http: Enrolled | None) -> bytes:
    fields = {
        "secret": message_codes.to_base64url(identity.secret),
        "connection": identity.connection,
        "session": identity.session,
        "agent_id": by_mqtt and by_mqtt.agent_id,
        "organization_id": by_mqtt and by_mqtt.organization_id,
        "sign_key": by_mqtt and by_mqtt.sign_key,
        "successions": [link.model_dump(mode="json", by_alias=True) for link in by_mqtt.successions] if by_mqtt else [],
        "ended_successions": sorted(by_mqtt.ended) if by_mqtt else [],
        "pending": identity.pending and identity.pending.model_dump(),
        "http": by_http
        and {"agent_id": by_http.agent_id, "organization_id": by_http.organization_id, "token": by_http.token},
    }
    return json.dumps(fields, indent=2).encode() + b"\n"


def _secret(stored: _Stored) -> bytes:
    secret = message_codes.from_base64url(stored.secret)
    if len(secret) != SECRET_LENGTH:
        raise ValueError("the secret has another length")
    return secret


def _enrolled(stored: _Stored) -> Enrolled | None:
    if stored.agent_id and stored.organization_id and stored.sign_key:
        return Enrolled(
            stored.agent_id,
            stored.organization_id,
            stored.sign_key,
            successions=tuple(stored.successions),
            ended=frozenset(stored.ended_successions),
        )
    return None


def _enrolled_over_http(stored: _Stored) -> Enrolled | None:
    http = stored.http
    return None if http is None else Enrolled(http.agent_id, http.organization_id, token=http.token)
