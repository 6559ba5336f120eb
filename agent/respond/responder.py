"""The interface of whatever carries a measure out: a firewall, a quarantine, or a record of what they would do."""

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
    """One thing that is blocked.

    Attributes:
        kind: What `value` is.
        value: An address or CIDR, a domain, or a file's hash, in normal form.
        reason: Why, for people.
        expires_at: Until when, in epoch seconds; None for good.
        incident_id: The incident that led to it, if one did.
    """

    kind: Kind
    value: str
    reason: str | None = None
    expires_at: float | None = None
    incident_id: str | None = None


class ResponderError(GuardError):
    """A measure could not be carried out; the text says why."""


class Responder(Protocol):
    """Carries measures out. All calls may be repeated: the last one counts.

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
        """Put files of this content away wherever they turn up (SHA-256; other hashes only alert)."""
        ...

    def release_hash(self, value: str) -> None:
        """Leave files of this content alone again."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Carry out what is called inside at once: ten thousand entries are one change, not ten thousand.

        Raises:
            ResponderError: at the end; then nothing of it was done.
        """
        ...

    def in_force(self) -> Iterable[Measure]:
        """Return what is carried out now, also by an earlier run of the guard."""
        ...
