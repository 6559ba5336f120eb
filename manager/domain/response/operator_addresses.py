"""Addresses of the people who use the API: never blocked while their last request is not older than 12 hours."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

from manager.domain.instant import Instant
from manager.domain.networks import Network, network_of, overlap

KEPT_FOR = 12 * 3600.0
"""Seconds after a person's last request for which its address is kept."""

MOST = 20
"""The most addresses of one token; a further one drops that of its least recent request."""

TextOf = Callable[[str], str | None]
"""Returns the id of the present text of a token by its name; None for one that is revoked, expired or unknown."""


class Operator(NamedTuple):
    """The token of a person: its name, the id of its text, and the organizations that it is for; None for all."""

    name: str
    text: str
    organizations: frozenset[str] | None = None

    def acts_in(self, organization_id: str) -> bool:
        """Return whether the token is for an organization."""
        return self.organizations is None or organization_id in self.organizations


@dataclass(slots=True)
class _Used:
    """The addresses of one token by the time of their last request (monotonic), the oldest first."""

    operator: Operator
    last: OrderedDict[str, float] = field(default_factory=OrderedDict)


class OperatorAddresses:
    """Addresses by the token that made their requests. Loopback addresses do not count.

    They count only as long as the token is accepted: they go when it is revoked, expires, or has another text. Each
    token has places of its own. The address of a person who is limited to some organizations counts only in these: no
    organization can shield an attacker from another one's blocklist.
    """

    def __init__(self) -> None:
        self._of_token: dict[str, _Used] = {}
        self._tokens_at: dict[str, set[str]] = {}
        self.changed = False
        """Whether an address came or went; whoever acts on it clears it."""

    def load(self, stored: str | None, now: Instant, text_of: TextOf) -> None:
        """Load what `stored_value` returned before a restart; an age that cannot be right counts as 0.

        Addresses of tokens that are not accepted any more, and those that an earlier release stored, are left out.
        """
        found = [each for each in json.loads(stored or "[]") if isinstance(each, dict)]
        for each in sorted(found, key=lambda item: float(item["at"])):
            age = max(0.0, now.wall - each["at"])
            if isfinite(age) and age < KEPT_FOR and text_of(each["token"]) == each["text"]:
                limits = each["organizations"]
                operator = Operator(each["token"], each["text"], None if limits is None else frozenset(limits))
                self._set(each["address"], operator, now.monotonic - age)

    def stored_value(self, now: Instant) -> str:
        """Return the addresses, their tokens and the times of their last requests as text."""
        offset = now.wall - now.monotonic
        return json.dumps(
            [
                {
                    "address": address,
                    "token": used.operator.name,
                    "text": used.operator.text,
                    "organizations": _listed(used.operator.organizations),
                    "at": round(at + offset, 3),
                }
                for used in self._of_token.values()
                for address, at in used.last.items()
            ]
        )

    def record(self, address: str, operator: Operator, now: Instant) -> bool:
        """Record a request of a person; return whether its address is new for the token."""
        network = network_of(address)
        if network is None or network.is_loopback or network.prefixlen != network.max_prefixlen:
            return False
        is_new = self._set(str(network.network_address), operator, now.monotonic)
        self.changed |= is_new
        return is_new

    def expire(self, now: Instant, text_of: TextOf) -> bool:
        """Drop addresses without a request for 12 hours, and those of tokens that are not accepted any more.

        Returns:
            Whether there was any.
        """
        gone = False
        for name, used in list(self._of_token.items()):
            is_accepted = text_of(name) == used.operator.text
            while used.last and (not is_accepted or now.monotonic - next(iter(used.last.values())) >= KEPT_FOR):
                self._drop_oldest(used)
                gone = self.changed = True
            if not used.last:
                del self._of_token[name]
        return gone

    def of_organization(self, organization_id: str) -> list[str]:
        """Return the addresses that count in an organization, sorted."""
        return sorted({address for used in self._acting_in(organization_id) for address in used.last})

    def holds(self, network: Network, organization_id: str) -> bool:
        """Return whether a network contains an address that counts in an organization."""
        if network.prefixlen == network.max_prefixlen:
            names = self._tokens_at.get(str(network.network_address), ())
            return any(self._of_token[name].operator.acts_in(organization_id) for name in names)
        found = (network_of(address) for used in self._acting_in(organization_id) for address in used.last)
        return any(own is not None and overlap(own, network) for own in found)

    def _acting_in(self, organization_id: str) -> Iterator[_Used]:
        return (used for used in self._of_token.values() if used.operator.acts_in(organization_id))

    def _set(self, value: str, operator: Operator, monotonic: float) -> bool:
        used = self._of_token.get(operator.name)
        if used is not None and used.operator != operator:  # the token has another text, or was made anew
            while used.last:
                self._drop_oldest(used)
        if used is None or used.operator != operator:
            used = self._of_token[operator.name] = _Used(operator)
        is_new = value not in used.last
        used.last[value] = monotonic
        used.last.move_to_end(value)
        self._tokens_at.setdefault(value, set()).add(operator.name)
        if len(used.last) > MOST:
            self._drop_oldest(used)
        return is_new

    def _drop_oldest(self, used: _Used) -> None:
        address, _ = used.last.popitem(last=False)
        names = self._tokens_at[address]
        names.discard(used.operator.name)
        if not names:
            del self._tokens_at[address]


def _listed(organizations: Iterable[str] | None) -> list[str] | None:
    return None if organizations is None else sorted(organizations)
