"""Manual blocks: addresses and networks that a person blocks, in the fleet, an organization, a group or on an agent."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from ipaddress import ip_network
from typing import Literal, NamedTuple

from manager.domain.networks import Network, embedded_ipv4, network_of, overlap
from manager.domain.response.never_block import WIDEST
from manager.domain.response.settings import ResponderSettings
from manager.errors import Conflict, Invalid

ManualScope = Literal["fleet", "organization", "group", "agent"]


class ManualHolder(NamedTuple):
    """The hosts that a manual block is for: the whole fleet (`target` is empty), an organization, a group, or an agent.

    A group's block holds for the agents that its selector matches at the time.
    """

    scope: ManualScope
    target: str = ""


FLEET = ManualHolder("fleet")


@dataclass(frozen=True, slots=True)
class ManualBlock:
    """One live manual block, as it is stored. Times are seconds since 1970.

    Args:
        id: its id; `DELETE /api/blocks/:id` names it.
        holder: the hosts that it is for.
        organization_id: the organization of these hosts; empty for the whole fleet, and for a fleet-wide group.
        value: an address or CIDR in normal form.
        reason: one sentence of the person who added it.
        added_by: who added it.
        created_at: when it was put in force.
        expires_at: when it ends; the guard enforces that, too.
        overrides: the never-block rule that it overrides; None where it overrides none.
        number: the first version of the agent's policy, or sequence of the blocklist, with it; None until it has one.
    """

    id: str
    holder: ManualHolder
    organization_id: str
    value: str
    reason: str
    added_by: str
    created_at: float
    expires_at: float
    overrides: str | None = None
    number: int | None = None


class ManualBlocks:
    """Live manual blocks by id, holder and value. A holder has one block for a value; a new one replaces it.

    Args:
        settings: the room in a blocklist and in an agent's own policy.
    """

    def __init__(self, settings: ResponderSettings) -> None:
        self._settings = settings
        self._by_id: dict[str, ManualBlock] = {}
        self._held: dict[ManualHolder, dict[str, ManualBlock]] = {}
        self._about: dict[str, set[ManualHolder]] = {}
        self._ends: list[tuple[float, str]] = []
        self._embedding: dict[str, Network] = {}
        self._prefixes: Counter[tuple[int, int]] = Counter()

    def __len__(self) -> int:
        """Return the number of live blocks."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[ManualBlock]:
        """Yield the live blocks."""
        return iter(self._by_id.values())

    def load(self, blocks: Iterable[ManualBlock]) -> None:
        """Add blocks from the store; the next `expire` removes expired ones."""
        for block in blocks:
            self._keep(block)

    def get(self, block_id: str) -> ManualBlock | None:
        """Return the live block with this id."""
        return self._by_id.get(block_id)

    def holders(self) -> Iterable[ManualHolder]:
        """Return the holders that have a block."""
        return self._held.keys()

    def list_of(self, holder: ManualHolder) -> Iterable[ManualBlock]:
        """Return a holder's own blocks."""
        return self._held.get(holder, {}).values()

    def of_agent(self, agent_id: str, groups: Iterable[str]) -> dict[str, ManualBlock]:
        """Return the blocks in an agent's own policy by value: its own first, then its groups', while there is room.

        Of two blocks for one value the later to end counts.
        """
        found = dict(self._held.get(ManualHolder("agent", agent_id), {}))
        for name in groups:
            for value, block in self._held.get(ManualHolder("group", name), {}).items():
                if value in found or len(found) < self._settings.agent_manual_blocks:
                    found[value] = later(found.get(value), block)
        return found

    def in_organization(self, organization_id: str) -> dict[str, ManualBlock]:
        """Return the blocks in an organization's blocklist by value: its own and the fleet's, the later to end."""
        found = dict(self._held.get(FLEET, {}))
        for value, block in self._held.get(ManualHolder("organization", organization_id), {}).items():
            found[value] = later(found.get(value), block)
        return found

    def find_in_organization(self, organization_id: str, value: str) -> ManualBlock | None:
        """Return the block of a value in an organization's blocklist: its own or the fleet's, the later to end."""
        fleet = self._held.get(FLEET, {}).get(value)
        own = self._held.get(ManualHolder("organization", organization_id), {}).get(value)
        return fleet if own is None else later(fleet, own)

    def find(self, holder: ManualHolder, value: str) -> ManualBlock | None:
        """Return a holder's own block of a value."""
        return self._held.get(holder, {}).get(value)

    def list_about(self, value: str) -> list[ManualBlock]:
        """Return all holders' blocks of exactly this address or CIDR."""
        return [self._held[holder][value] for holder in sorted(self._about.get(value, ()))]

    def list_covering(self, network: Network) -> list[ManualBlock]:
        """Return all holders' blocks that contain every address of a network, the narrowest first."""
        found: list[ManualBlock] = []
        for prefix in range(network.prefixlen, WIDEST[network.version] - 1, -1):
            if self._prefixes[network.version, prefix]:  # else no value is made: agents state hundreds of addresses
                found += self.list_about(written(network.supernet(new_prefix=prefix)))
        return found

    def list_embedding(self, network: Network) -> list[ManualBlock]:
        """Return all holders' blocks of IPv6 networks that stand for an address of an IPv4 network (NAT64, 6to4)."""
        return [self._by_id[block_id] for block_id, inner in self._embedding.items() if overlap(inner, network)]

    def list_overlapping(self, network: Network) -> list[ManualBlock]:
        """Return all holders' blocks that share an address with a network."""
        found = self.list_covering(network)
        if network.prefixlen < network.max_prefixlen:
            known = {block.id for block in found}
            found += [block for block in self if block.id not in known and _is_within(block.value, network)]
        return found

    def taken_in_organization(self, organization_id: str) -> int:
        """Return the number of places that manual blocks take in an organization's blocklist."""
        own = self._held.get(ManualHolder("organization", organization_id), ())
        return len(own) + len(self._held.get(FLEET, ()))

    def count_new(self, holder: ManualHolder, values: Iterable[str]) -> int:
        """Return the number of different values that a holder has no block for yet."""
        held = self._held.get(holder, {})
        return sum(value not in held for value in set(values))

    def room(self, holder: ManualHolder) -> int:
        """Return the number of further blocks that a holder may have."""
        return max(0, self._most(holder) - self._taken(holder))

    def check_room(self, holder: ManualHolder, values: Iterable[str]) -> None:
        """Check that further blocks of a holder find room.

        Raises:
            Conflict: they do not; the text says how many blocks there may be.
        """
        more, taken, most = self.count_new(holder, values), self._taken(holder), self._most(holder)
        if taken + more > most:
            own = holder.scope in {"agent", "group"}
            place = f"on one {holder.scope}" if own else "in an organization's blocklist"
            raise Conflict(
                f"{taken} manual blocks are in force here and {more} would be added; at most {most} may be {place}:"
                " lift some, or block networks instead of single addresses"
            )

    def _most(self, holder: ManualHolder) -> int:
        """Return the number of places for manual blocks where a holder's blocks are kept."""
        of_agent, of_organization = self._settings.agent_manual_blocks, self._settings.organization_manual_blocks
        return of_agent if holder.scope in {"agent", "group"} else of_organization

    def _taken(self, holder: ManualHolder) -> int:
        """Return the number of these places that are taken."""
        taken = len(self._held.get(holder, {}))
        if holder.scope == "fleet":
            others = (len(blocks) for other, blocks in self._held.items() if other.scope == "organization")
            taken += max(others, default=0)
        elif holder.scope == "organization":
            taken += len(self._held.get(FLEET, ()))
        return taken

    def add(self, block: ManualBlock) -> ManualBlock | None:
        """Add a block; return the one that it replaces: the holder's own of the same value."""
        replaced = self._held.get(block.holder, {}).get(block.value)
        if replaced is not None:
            self.remove(replaced)
        self._keep(block)
        return replaced

    def reassign(self, block: ManualBlock, organization_id: str) -> ManualBlock:
        """Give a live block to another organization, because its holder is in that one now; return it as it is then."""
        reassigned = replace(block, organization_id=organization_id)
        self._by_id[block.id] = self._held[block.holder][block.value] = reassigned
        return reassigned

    def remove(self, block: ManualBlock) -> None:
        """Remove a live block."""
        del self._by_id[block.id]
        self._embedding.pop(block.id, None)
        self._count_prefix(block, -1)
        del self._held[block.holder][block.value]
        if not self._held[block.holder]:
            del self._held[block.holder]
        self._about[block.value].discard(block.holder)
        if not self._about[block.value]:
            del self._about[block.value]
        if len(self._ends) > 2 * len(self._by_id) + 64:
            self._ends = [(each.expires_at, each.id) for each in self._by_id.values()]
            heapify(self._ends)

    def next_expiry(self) -> float | None:
        """Return the time of the next expiry, in seconds since 1970; None without blocks."""
        while self._ends and self._ends[0][1] not in self._by_id:
            heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def expire(self, now: float) -> list[ManualBlock]:
        """Remove and return the blocks that have expired by now."""
        gone = []
        while (due := self.next_expiry()) is not None and due <= now:
            block = self._by_id[heappop(self._ends)[1]]
            self.remove(block)
            gone.append(block)
        return gone

    def _keep(self, block: ManualBlock) -> None:
        self._by_id[block.id] = block
        self._held.setdefault(block.holder, {})[block.value] = block
        self._about.setdefault(block.value, set()).add(block.holder)
        heappush(self._ends, (block.expires_at, block.id))
        self._count_prefix(block, 1)
        network = network_of(block.value)
        embedded = embedded_ipv4(network) if network is not None else None
        if embedded is not None:
            self._embedding[block.id] = embedded

    def _count_prefix(self, block: ManualBlock, number: int) -> None:
        network = network_of(block.value)
        if network is not None:
            self._prefixes[network.version, network.prefixlen] += number


def later(one: ManualBlock | None, other: ManualBlock) -> ManualBlock:
    """Return the block that ends later."""
    return one if one is not None and one.expires_at >= other.expires_at else other


def manual_value(text: str) -> str:
    """Return the normal form of an address or CIDR that a person blocks: an address without its prefix length.

    Raises:
        Invalid: it is neither, or a CIDR with bits beside its prefix; the text says what to write.
    """
    given = text.strip()
    network = network_of(given) if "%" not in given else None
    if network is None:
        raise Invalid(f"{text[:64]!r} is no address and no CIDR: write 203.0.113.9 or 203.0.113.0/24")
    try:
        ip_network(given)
    except ValueError:
        raise Invalid(f"{given} has bits set beside its prefix: {network} is the network, {given.partition('/')[0]} the"
                      " address") from None  # fmt: skip
    return written(network)


def written(network: Network) -> str:
    """Return a network as blocks name it: a single address without its prefix length."""
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def covering_values(network: Network) -> Iterator[str]:
    """Yield the values of all blocks that would cover a network, the narrowest first."""
    for prefix in range(network.prefixlen, WIDEST[network.version] - 1, -1):
        yield written(network.supernet(new_prefix=prefix))


def _is_within(value: str, network: Network) -> bool:
    inner = network_of(value)
    if inner is None or inner.version != network.version:
        return False
    return inner.prefixlen >= network.prefixlen and inner.supernet(new_prefix=network.prefixlen) == network
