"""The interface `Responder`: carries out measures by a firewall or quarantine, or only records them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.errors import GuardError

Kind = Literal["ip", "domain", "file_hash"]

EnforcementKind = Literal["nftables", "route", "simulated", "impossible"]
"""The means by which measures are carried out; the last two carry out none."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One blocked address, domain or file hash.

    Attributes:
        kind: The kind of `value`.
        value: An address or CIDR, a domain, or a file's hash, in normal form.
        reason: The reason, for people.
        expires_at: The end in epoch seconds; None for none.
        incident_id: The incident that led to it, if one did.
    """

    kind: Kind
    value: str
    reason: str | None = None
    expires_at: float | None = None
    incident_id: str | None = None


class ResponderError(GuardError):
    """A measure failed; the text says why."""


class Responder(Protocol):
    """Carries out measures. All calls are idempotent: the last one counts.

    `expires_at` is for responders that can end a measure by themselves, should the guard die; while it lives it lifts
    what has expired. Every call raises `ResponderError` if it fails, and then nothing of it was done.
    """

    @property
    def enforcement(self) -> EnforcementKind:
        """The means by which measures are carried out."""
        ...

    def block_address(self, measure: Measure) -> None:
        """Drop the traffic from and to an address or CIDR."""
        ...

    def unblock_address(self, value: str) -> None:
        """Let the traffic pass again."""
        ...

    def block_domain(self, measure: Measure) -> None:
        """Keep the host from reaching a domain."""
        ...

    def unblock_domain(self, value: str) -> None:
        """Let the host reach it again."""
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
            ResponderError: at the end; then nothing of it was done.
        """
        ...

    def in_force(self) -> Iterable[Measure]:
        """Return the current measures, those of earlier runs included."""
        ...
