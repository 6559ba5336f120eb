"""Successors of the manager's signing keys: links signed by both keys, kept in the manifest, which root owns."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fence import ed25519
from fence.manifest import Manifest
from fence.request_verification import UntrustedRequest

PERIOD = 30 * 86_400
"""Seconds after which a link is followed no more, and the predecessor's messages are refused."""

_MOST = 64
_MOST_NUMBER = 2**53
_STATE = "successions"
_UNCHAINED = (
    "the succession does not continue the key that this host trusts: run `panguard guard install` with an enrollment"
    " token of today"
)
_ENDED = (
    "the succession has ended: see that this host's clock is right, and run `panguard guard install` with an enrollment"
    " token of today"
)


class Link(NamedTuple):
    """One rotation: `successor` takes the place of `predecessor`; times are seconds since 1970.

    `ended` says that its end was reached once: a clock that is set back does not revive the predecessor.
    """

    number: int
    predecessor: bytes
    successor: bytes
    until: int
    compromised: bool
    ended: bool = False


class _Given(NamedTuple):
    """A link of any origin, with what its two keys are said to have signed."""

    link: Link
    statement: bytes
    signatures: tuple[bytes, bytes]


_Chains = dict[bytes, list[Link]]
"""The links by the key that the first of them begins at; each begins at the successor of the one before."""


class Successions:
    """The keys that count for this host: those of fence.conf, and their successors. Times are seconds since 1970.

    Args:
        roots: the keys in fence.conf.
        manifest: keeps the links.
    """

    def __init__(self, roots: Sequence[bytes], manifest: Manifest) -> None:
        self._roots = roots
        self._manifest = manifest
        self._chains = _read(manifest.state(_STATE))

    def family(self, key: bytes) -> bytes:
        """Return the first key of the chain that a key is in; the key itself if it is in none."""
        return _family(self._chains, key)

    def is_trusted(self, key: bytes) -> bool:
        """Return whether a key of fence.conf is in the same chain."""
        return any(self.family(root) == self.family(key) for root in self._roots)

    @property
    def current(self) -> list[bytes]:
        """The newest key of each key in fence.conf."""
        return list(dict.fromkeys(self._newest(root) for root in self._roots))

    def accepted(self, now: float) -> list[bytes]:
        """Return the keys whose messages count now."""
        self._note_ends(now)
        keys = dict.fromkeys(self.current)
        for root in self._roots:
            latest = {link.predecessor: link for link in self._after(root)}
            keys |= {key: None for key, link in latest.items() if not (link.compromised or link.ended)}
        return list(keys)

    def follow(self, given: Any, now: float) -> bool:
        """Follow the links that continue a chain, and keep them; return whether any did.

        The key in fence.conf may be younger than the guard's: links that do not continue a chain, or have ended, are
        passed over. They are a refusal only where no link after them is followed or known.

        Args:
            given: links as ManagerKeys has them, of any origin.
            now: the time.

        Raises:
            UntrustedRequest: no link continues a chain, those that do have ended, or one is malformed or not signed.
            ManifestError: the links could not be kept; nothing is followed.
        """
        self._note_ends(now)
        if not isinstance(given, list) or len(given) > _MOST:
            raise UntrustedRequest(f"successions takes a list of at most {_MOST} links")
        chains = {root: list(chain) for root, chain in self._chains.items()}
        refusals: set[str] = set()
        for each in sorted(map(_parsed, given), key=lambda each: each.link.number):
            root = _family(chains, each.link.predecessor)
            chain = chains.get(root, [])
            if not chain or each.link.number > chain[-1].number:
                refusal = self._refusal(chains, each.link, now)
                if refusal is not None:
                    refusals.add(refusal)
                    continue
                _check_signatures(each)
                chains[root] = [*chain, each.link]
            refusals.clear()
        if chains != self._chains:
            self._manifest.change([], [], {_STATE: _written(chains)})
            self._chains = chains
            return True
        if refusals:
            raise UntrustedRequest(_ENDED if _ENDED in refusals else _UNCHAINED)
        return False

    def _refusal(self, chains: _Chains, link: Link, now: float) -> str | None:
        """Return the reason why a link with a new number is passed over; None if it continues a trusted chain."""
        root = _family(chains, link.predecessor)
        newest = chains[root][-1].successor if chains.get(root) else root
        if link.predecessor != newest or not any(_family(chains, key) == root for key in self._roots):
            return _UNCHAINED
        return _ENDED if now >= link.until else None

    def _newest(self, key: bytes) -> bytes:
        chain = self._after(key)
        return chain[-1].successor if chain else key

    def _after(self, key: bytes) -> list[Link]:
        """Return the links that begin at a key of fence.conf."""
        chain = self._chains.get(self.family(key), [])
        first = next((number for number, link in enumerate(chain) if link.predecessor == key), len(chain))
        return chain[first:]

    def _note_ends(self, now: float) -> None:
        """Keep that links have ended, whether or not the manifest can be written."""
        ended = {
            root: [link._replace(ended=link.ended or now >= link.until) for link in chain]
            for root, chain in self._chains.items()
        }
        if ended != self._chains:
            self._chains = ended
            self._manifest.withdraw([], {_STATE: _written(ended)})


def _family(chains: _Chains, key: bytes) -> bytes:
    for root, chain in chains.items():
        if key == root or any(key == link.successor for link in chain):
            return root
    return key


def _check_signatures(given: _Given) -> None:
    keys = given.link.predecessor, given.link.successor
    pairs = zip(keys, given.signatures, strict=True)
    if not all(ed25519.verify(key, signature, given.statement) for key, signature in pairs):
        raise UntrustedRequest("the succession is not signed by both keys")


def _parsed(given: Any) -> _Given:
    try:
        issued, until = _second(given["issuedAt"]), _second(given["until"])
        names = str(given["predecessor"]), str(given["successor"])
        predecessor, successor = (_raw(name) for name in names)
        number, compromised = given["number"], given.get("compromised", False)
        signatures = _raw(str(given["predecessorSignature"])), _raw(str(given["successorSignature"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UntrustedRequest(f"a succession cannot be read: {error}"[:200]) from error
    whole = type(number) is int and 0 < number <= _MOST_NUMBER and isinstance(compromised, bool)
    if not (whole and 0 <= until - issued <= PERIOD and predecessor != successor):
        raise UntrustedRequest("a succession has members that do not fit")
    text = f"succession\0{number}\0{names[0]}\0{names[1]}\0{issued}\0{until}\0{int(compromised)}"
    return _Given(Link(number, predecessor, successor, until, compromised), text.encode(), signatures)


def _second(text: Any) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time has no zone")
    return int(moment.timestamp())


def to_base64url(raw: bytes) -> str:
    """Return bytes as unpadded base64url, the form of a key in fence.conf and in tokens."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if to_base64url(raw) != text:
        raise ValueError("a key or signature is not canonical base64url")
    return raw


def _written(chains: _Chains) -> str:
    return json.dumps(
        {
            root.hex(): [
                [link.number, link.predecessor.hex(), link.successor.hex(), link.until, link.compromised, link.ended]
                for link in chain[-_MOST:]
            ]
            for root, chain in chains.items()
        }
    )


def _read(text: str | None) -> _Chains:
    return {
        bytes.fromhex(root): [
            Link(number, bytes.fromhex(predecessor), bytes.fromhex(successor), until, compromised, ended)
            for number, predecessor, successor, until, compromised, ended in chain
        ]
        for root, chain in json.loads(text or "{}").items()
    }
