"""The interface `Responder`: carries out measures by a firewall or quarantine, or only records them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.errors import GuardError

Kind = Literal["ip", "domain", "file_hash"]

EnforcementKind = Literal["nftables", "simulated", "impossible"]
"""The means of carrying out measures; the last two enforce none."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One blocked address, domain or file hash.

    Attributes:
        kind: The kind of `value`.
        value: An address or CIDR, a domain, or a file's hash, in normal form.
        reason: The reason, for people.
        expires_at: The end in epoch seconds; None for none.
        incident_id: The incident that caused it, if any.
    """

    kind: Kind
    value: str
    reason: str | None = None
    expires_at: float | None = None
    incident_id: str | None = None


class ResponderError(GuardError):
    """A measure failed; the message says why."""


class Responder(Protocol):
    """Carries out measures. All calls are idempotent; the last call for a value counts.

    `expires_at` is for responders that can end a measure themselves if the guard dies; a running guard lifts expired
    measures. Every call raises `ResponderError` if it fails, and then has no effect.
    """

    @property
    def enforcement(self) -> EnforcementKind:
        """The means of carrying out measures."""
        ...

    def block_address(self, measure: Measure) -> None:
        """Drop the traffic from and to an address or CIDR."""
        ...

    def unblock_address(self, value: str) -> None:
        """Remove the block of an address or CIDR."""
        ...

    def block_domain(self, measure: Measure) -> None:
        """Block the host's access to a domain."""
        ...

    def unblock_domain(self, value: str) -> None:
        """Remove the block of a domain."""
        ...

    def quarantine_hash(self, measure: Measure) -> None:
        """Quarantine files with this content (SHA-256; other hashes only alert)."""
        ...

    def release_hash(self, value: str) -> None:
        """End the quarantine of this content."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Batch the calls inside the block into one change.

        Raises:
            ResponderError: raised at the end of the block; then no call in it had an effect.
        """
        ...

    def in_force(self) -> Iterable[Measure]:
        """Return the current measures, including those of earlier runs."""
        ...
