"""Who this guard is: its secret, what the manager named it, and the counter of its sessions, kept in one file."""

import json
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import StorageError
from agent.storage.files import write_private
from schemas import codes
from schemas.identifiers import AgentId, ClientId, OrganizationId
from schemas.keys import SECRET_LENGTH, AgentKeys, new_secret, public_sign_key

_FILE = "identity.json"


class PendingRegistration(BaseModel):
    """A registration that was sent and not answered yet: sent again byte for byte, it gets the same answer."""

    model_config = ConfigDict(frozen=True)

    client_id: ClientId
    payload: str


class _StoredToken(BaseModel):
    """What a registration over HTTP gave."""

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
    pending: PendingRegistration | None = None
    http: _StoredToken | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a manager made of this guard: over MQTT it has a `sign_key`, over HTTP a `token`.

    Attributes:
        agent_id: The name that it gave.
        organization_id: The organization that the guard belongs to.
        sign_key: The manager's public signing key, base64url: pinned, nobody else's word counts. Empty over HTTP, where
            the connection itself proves who speaks.
        token: The bearer token that the manager gave; empty over MQTT.
    """

    agent_id: str
    organization_id: str
    sign_key: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """The guard's identity as it stands in the file, with what it is `enrolled` as. `IdentityFile` changes it."""

    secret: bytes
    connection: str
    session: int = 0
    enrolled: Enrolled | None = None
    pending: PendingRegistration | None = None

    def __repr__(self) -> str:
        """Never show the secret."""
        return f"Identity({self.enrolled}, session={self.session})"

    @property
    def keys(self) -> AgentKeys:
        """The keys that come from the secret."""
        return AgentKeys.derive(self.secret)

    @property
    def mqtt_client_id(self) -> str:
        """The client id at the broker: kept, and half of it random, for who knows it can take over the connection.

        Raises:
            ValueError: no manager has named this guard yet.
        """
        if self.enrolled is None:
            raise ValueError("a guard has no client id before it is enrolled")
        return f"{self.enrolled.agent_id}-{self.connection}"


class IdentityFile:
    """The identity in a data directory; each change is on the disk before it is used.

    What a guard became over MQTT and what it became over HTTP are kept side by side: neither is taken for the other.

    Args:
        directory: The data directory, which the caller owns.
        over_http: Which of the two counts as `enrolled`.

    Raises:
        StorageError: the file is damaged or cannot be written.
    """

    def __init__(self, directory: Path, *, over_http: bool = False) -> None:
        self._path = directory / _FILE
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
        """The identity as it is now."""
        return self._identity

    def enroll(self, enrolled: Enrolled, known_session: int) -> None:
        """Keep what the manager answered, and stay above the last session that it knows."""
        session = max(self._identity.session, known_session)
        self._save(replace(self._identity, enrolled=enrolled, session=session, pending=None))

    def await_answer(self, pending: PendingRegistration | None) -> None:
        """Keep a registration until it is answered; None when it was."""
        if pending != self._identity.pending:
            self._save(replace(self._identity, pending=pending))

    def raise_session(self, above: int = 0) -> int:
        """Count one more connect and return its session: higher than any before it, and than `above`."""
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
        "secret": codes.encode(identity.secret),
        "connection": identity.connection,
        "session": identity.session,
        "agent_id": by_mqtt and by_mqtt.agent_id,
        "organization_id": by_mqtt and by_mqtt.organization_id,
        "sign_key": by_mqtt and by_mqtt.sign_key,
        "pending": identity.pending and identity.pending.model_dump(),
        "http": by_http
        and {"agent_id": by_http.agent_id, "organization_id": by_http.organization_id, "token": by_http.token},
    }
    return json.dumps(fields, indent=2).encode() + b"\n"


def _secret(stored: _Stored) -> bytes:
    secret = codes.decode(stored.secret)
    if len(secret) != SECRET_LENGTH:
        raise ValueError("the secret has another length")
    return secret


def _enrolled(stored: _Stored) -> Enrolled | None:
    if stored.agent_id and stored.organization_id and stored.sign_key:
        return Enrolled(stored.agent_id, stored.organization_id, stored.sign_key)
    return None


def _enrolled_over_http(stored: _Stored) -> Enrolled | None:
    http = stored.http
    return None if http is None else Enrolled(http.agent_id, http.organization_id, token=http.token)
