"""The manager's signing keys: the active one, those before it, and the links between them. Time is an argument."""

import json
from dataclasses import dataclass, replace
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.keys import ManagerKeyring
from schemas.succession import MOST_LINKS, Succession, signed_link

SIGNING_KEYS = "signing_keys"
"""Name of the sealed value that holds them in the store."""

SEED_LENGTH = 32
"""Random bytes of a signing key's seed."""


class FormerKey(NamedTuple):
    """A signing key that was active before.

    Attributes:
        public: the public key, base64url.
        seed: what it is derived from; None once it is useless.
        compromised: whether somebody else may have it.
    """

    public: str
    seed: bytes | None
    compromised: bool


class RotationError(Exception):
    """A rotation or rollback that cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The active seed, the former keys, oldest first, and the links that guards may still follow.

    Attributes:
        seed: the seed of the active key.
        former: the keys before, oldest first; a key that a rollback made active again is not among them.
        links: the links whose period has not ended, oldest first.
        number: the number of the newest link ever; 0 before the first rotation.
        is_rolled_back: whether the newest change was a rollback.
    """

    seed: bytes
    former: tuple[FormerKey, ...] = ()
    links: tuple[Succession, ...] = ()
    number: int = 0
    is_rolled_back: bool = False

    def __repr__(self) -> str:
        """Return a text without the seeds."""
        return f"SigningKeys({self.public}, number={self.number})"

    @property
    def public(self) -> str:
        """The active public key, base64url."""
        return ManagerKeyring(self.seed).sign_public

    def rotate(self, seed: bytes, now: float, *, compromised: bool = False) -> "SigningKeys":
        """Return the keys after a rotation to a new seed.

        Args:
            seed: 32 new random bytes.
            now: seconds since 1970.
            compromised: whether somebody else may have the active key: guards refuse it once they have the successor,
                and it cannot be rolled back to.

        Raises:
            RotationError: too many rotations are under way.
        """
        keys = self.at(now)
        if len(keys.links) >= MOST_LINKS:
            raise RotationError(
                f"{MOST_LINKS} rotations are within their 30 days: wait until {keys.links[0].until:%Y-%m-%d}"
            )
        link = _link(keys.seed, seed, number=keys.number + 1, now=now, compromised=compromised)
        former = FormerKey(keys.public, None if compromised else keys.seed, compromised)
        return SigningKeys(seed, (*keys.former, former), (*keys.links, link), link.number)

    def rollback(self, now: float) -> "SigningKeys":
        """Return the keys after the newest rotation is taken back, by a link in the other direction.

        Raises:
            RotationError: there is none, its period has ended, or the former key is compromised.
        """
        keys = self.at(now)
        if not keys.links or not keys.former:
            raise RotationError("no rotation is under way, so there is nothing to take back")
        last = keys.former[-1]
        if last.compromised or last.seed is None:
            raise RotationError("the former key was given up as compromised: rotate again instead")
        if keys.is_rolled_back:
            raise RotationError("the newest change is a rollback itself: rotate again instead")
        link = _link(keys.seed, last.seed, number=keys.number + 1, now=now)
        former = (*keys.former[:-1], FormerKey(keys.public, keys.seed, compromised=False))
        return SigningKeys(last.seed, former, (*keys.links, link), link.number, is_rolled_back=True)

    def at(self, now: float) -> "SigningKeys":
        """Return the keys as of now: links that have ended are gone, and with them the seeds of their predecessors."""
        links = tuple(link for link in self.links if now < link.ends_at)
        if len(links) == len(self.links):
            return self
        live = {link.predecessor for link in links}
        former = tuple(each if each.public in live else each._replace(seed=None) for each in self.former)
        return replace(self, links=links, former=former)

    def dump(self) -> bytes:
        """Return the keys as JSON, secrets included."""
        former = [
            {"public": each.public, "seed": each.seed and each.seed.hex(), "compromised": each.compromised}
            for each in self.former
        ]
        links = [link.model_dump(mode="json", by_alias=True) for link in self.links]
        state = {"number": self.number, "is_rolled_back": self.is_rolled_back}
        return json.dumps({"seed": self.seed.hex(), "former": former, "links": links, **state}).encode()

    @classmethod
    def load(cls, text: bytes) -> "SigningKeys":
        """Return the keys of a text that `dump` wrote.

        Raises:
            ValueError: the text is another.
        """
        try:
            found = json.loads(text)
            former = tuple(
                FormerKey(each["public"], each["seed"] and bytes.fromhex(each["seed"]), each["compromised"])
                for each in found["former"]
            )
            links = tuple(Succession.model_validate_json(json.dumps(each)) for each in found["links"])
            is_rolled_back = found.get("is_rolled_back", _returns(links))
            return cls(bytes.fromhex(found["seed"]), former, links, found["number"], is_rolled_back)
        except (KeyError, TypeError) as error:
            raise ValueError("these are no signing keys") from error


def _returns(links: tuple[Succession, ...]) -> bool:
    """Return whether the newest link leads back to a predecessor; for keys that were stored without the answer."""
    return any(link.predecessor == links[-1].successor for link in links[:-1])


def _link(before: bytes, after: bytes, *, number: int, now: float, compromised: bool = False) -> Succession:
    return signed_link(_sign_key(before), _sign_key(after), number=number, now=now, compromised=compromised)


def _sign_key(seed: bytes) -> Ed25519PrivateKey:
    return ManagerKeyring(seed).sign_key
