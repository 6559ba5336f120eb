"""People who use the API of an engine's manager, and the addresses of their requests."""

import hashlib

from manager.domain.access import Role
from manager.engine.commands.access_requests import CreateAccess, NewAccess, RecordOperatorAddress
from tests.support.engine import Bench


def person(bench: Bench, name: str, *organizations: str, expires_at: float | None = None) -> bytes:
    """Return the digest of a new token of a responder, in all organizations or some."""
    request = CreateAccess("test", name, Role.RESPONDER, organizations, expires_at)
    made: NewAccess = bench.ask(request)
    return digest_of(made)


def digest_of(made: NewAccess) -> bytes:
    """Return the digest of a token that was created or rotated."""
    return hashlib.sha256(made.text.encode()).digest()


def request_from(bench: Bench, address: str, *organizations: str) -> None:
    """Record a request of the admin, or of a person with a token for some organizations."""
    name = "-".join(("person", *organizations))
    known = bench.fleet.access.get(name)
    digest = None
    if organizations:
        digest = person(bench, name, *organizations) if known is None else known.digest
    bench.ask(RecordOperatorAddress(address, digest))
