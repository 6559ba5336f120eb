"""Succession of the manager's signing key: links signed by both keys, and the keys that a guard trusts by them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, StringConstraints

from schemas import message_codes
from schemas.errors import KeyMaterialError
from schemas.keys import public_sign_key
from schemas.model import Timestamp, WireModel, utc

PERIOD = 30 * 86_400
"""Seconds from a rotation to its end: a guard changes over to the successor, and takes the former key's messages."""

MOST_LINKS = 16
"""The number of links that ManagerKeys has at most."""

_KEPT = 64

PublicKey = Annotated[str, StringConstraints(min_length=43, max_length=43)]
Signature = Annotated[str, StringConstraints(min_length=86, max_length=86)]


class Succession(WireModel):
    """One link: `successor` takes the place of `predecessor`, and both keys have signed it.

    Both signatures cover `statement`. A guard that has the link takes the predecessor's messages until `until`, unless
    it is `compromised`.
    """

    number: Annotated[int, Field(ge=1, le=2**53)]
    predecessor: PublicKey
    successor: PublicKey
    issued_at: Timestamp
    until: Timestamp
    compromised: bool = False
    predecessor_signature: Signature
    successor_signature: Signature

    @property
    def ends_at(self) -> float:
        """The end of the succession, in seconds since 1970."""
        return self.until.timestamp()


def statement(link: Succession) -> bytes:
    """Return the bytes that both keys of a link sign."""
    issued, until = int(link.issued_at.timestamp()), int(link.until.timestamp())
    return (
        f"succession\0{link.number}\0{link.predecessor}\0{link.successor}\0{issued}\0{until}\0{int(link.compromised)}"
    ).encode()


def signed_link(
    predecessor: Ed25519PrivateKey,
    successor: Ed25519PrivateKey,
    *,
    number: int,
    now: float,
    compromised: bool = False,
    period: float = PERIOD,
) -> Succession:
    """Return a link that begins now (seconds since 1970), signed by both keys."""
    unsigned = Succession(
        number=number,
        predecessor=_public(predecessor),
        successor=_public(successor),
        issued_at=utc(int(now)),
        until=utc(int(now) + int(period)),
        compromised=compromised,
        predecessor_signature="A" * 86,
        successor_signature="A" * 86,
    )
    text = statement(unsigned)
    return unsigned.model_copy(
        update={
            "predecessor_signature": message_codes.to_base64url(predecessor.sign(text)),
            "successor_signature": message_codes.to_base64url(successor.sign(text)),
        }
    )


def is_signed(link: Succession) -> bool:
    """Return whether both keys of a link have signed it, and it lasts no longer than allowed."""
    if not 0 <= link.until.timestamp() - link.issued_at.timestamp() <= PERIOD:
        return False
    text = statement(link)
    try:
        public_sign_key(link.predecessor).verify(message_codes.from_base64url(link.predecessor_signature), text)
        public_sign_key(link.successor).verify(message_codes.from_base64url(link.successor_signature), text)
    except (InvalidSignature, KeyMaterialError, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The signing keys that a guard trusts: the pinned one, and its successors. Times are seconds since 1970.

    Attributes:
        root: the key that the enrollment token named.
        links: the links from it, each on the successor of the one before; their numbers rise.
        ended: the numbers of links whose end was reached once; a clock that is set back does not revive their
            predecessors.
    """

    root: str
    links: tuple[Succession, ...] = ()
    ended: frozenset[int] = frozenset()

    @property
    def current(self) -> str:
        """The newest key, which alone signs ManagerKeys and registration replies."""
        return self.links[-1].successor if self.links else self.root

    @property
    def number(self) -> int:
        """The number of the newest link; 0 without one."""
        return self.links[-1].number if self.links else 0

    def knows(self, key: str) -> bool:
        """Return whether a key is, or was, one of these."""
        return key == self.root or any(key == link.successor for link in self.links)

    def accepted(self, now: float) -> tuple[str, ...]:
        """Return the keys whose messages count now: the current one, then the predecessors that have not ended."""
        latest = {link.predecessor: link for link in self.links}
        former = [
            key
            for key, link in latest.items()
            if key != self.current and not link.compromised and link.number not in self.ended and now < link.ends_at
        ]
        return (self.current, *former)

    def signer(self, topic: str, payload: bytes, now: float) -> Ed25519PublicKey | None:
        """Return the accepted key that has signed a message on a topic below the root; None if none has."""
        for text in self.accepted(now):
            key = public_sign_key(text)
            if message_codes.has_signature(key, topic, payload):
                return key
        return None

    def at(self, now: float) -> "TrustedKeys":
        """Return these keys with the ends that are reached now."""
        ended = self.ended | {link.number for link in self.links if now >= link.ends_at}
        return self if ended == self.ended else replace(self, ended=ended)

    def followed(self, links: Iterable[Succession], now: float) -> "TrustedKeys":
        """Return the keys after these links, as far as they continue the chain; others change nothing.

        A link counts if its number is above all before it, its predecessor is the current key, it has not ended, and
        both of its keys have signed it.
        """
        trusted = self.at(now)
        for link in sorted(links, key=lambda each: each.number):
            if (
                link.number > trusted.number
                and link.predecessor == trusted.current != link.successor
                and now < link.ends_at
                and is_signed(link)
            ):
                kept = (*trusted.links, link)[-_KEPT:]
                trusted = replace(trusted, root=kept[0].predecessor, links=kept)
        return trusted

    def refusal(self, links: Iterable[Succession], now: float) -> str | None:
        """Return the reason why links lead to another key than the current one; None if they do not."""
        newest = max(links, key=lambda each: each.number, default=None)
        if newest is None or newest.successor == self.current or newest.number <= self.number:
            return None
        if now >= newest.ends_at:
            return "succession_ended"
        return "succession_unchained"


def _public(key: Ed25519PrivateKey) -> str:
    return message_codes.to_base64url(key.public_key().public_bytes_raw())
