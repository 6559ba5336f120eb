"""Requests about access tokens, the console's sessions, and the addresses of people."""

from dataclasses import dataclass, field
from typing import ClassVar

from manager.domain.access import AccessToken, Role


@dataclass(frozen=True, slots=True)
class CreateAccess:
    """Create an access token. Answered by a `NewAccess`; Conflict if a live token has the name.

    `organizations` is empty for all; `expires_at` is in seconds since 1970, None means without limit.
    """

    author: str
    name: str
    role: Role
    organizations: tuple[str, ...] = ()
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class RotateAccess:
    """Replace the text of an access token. Answered by a `NewAccess`; NotFound if no live token has the name.

    Without `expires_at` the token keeps its lifetime, counted from now.
    """

    author: str
    name: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class RevokeAccess:
    """Revoke an access token. Answered by its name; NotFound if there is none."""

    author: str
    name: str


@dataclass(frozen=True, slots=True)
class NewAccess:
    """A created or rotated access token; `text` is shown only once."""

    name: str
    text: str = field(repr=False)
    token: AccessToken


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a session of the console. Answered by its `ConsoleSession`.

    `session_id` is the SHA-256 of its cookie in hexadecimal, `token_digest` that of the token's text.
    """

    author: str
    session_id: str
    token_digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CloseSession:
    """End a session of the console. Answered by its id; one that has ended already is no error."""

    author: str
    session_id: str


@dataclass(frozen=True, slots=True)
class RecordRefusedSignIns:
    """Tell of an address that reached the limit of wrong tokens at the console. Answered by None."""

    address: str
    count: int


@dataclass(frozen=True, slots=True)
class RecordOperatorAddress:
    """Record the address of a person's request to the API, which is never blocked from then on. Answered by None.

    `digest` is the SHA-256 of the access token's text, None for the admin token; one that is not accepted any more
    records nothing.
    """

    needs_transaction: ClassVar[bool] = False

    address: str
    digest: bytes | None = field(default=None, repr=False)
