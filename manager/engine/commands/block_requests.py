"""Requests about blocks: add manual blocks, lift all blocks of an address."""

from dataclasses import dataclass, field

from manager.domain.response.feed import FeedPart
from manager.domain.response.manual_blocks import ManualBlock, ManualHolder


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A manual block to add: an address or CIDR as given, its duration in seconds, and the reason."""

    value: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class AddBlocks:
    """Add manual blocks for one holder, all or none. Answered by a `BlocksAdded`.

    `force` overrides the never-block rules that a person may override; `dry_run` only checks. Invalid if a value is no
    address, Conflict if a never-block rule refuses one or there is no room, NotFound if the agent or group is unknown.
    """

    holder: ManualHolder
    blocks: tuple[NewBlock, ...]
    author: str
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class RefusedBlock:
    """A manual block that cannot be added: its place in the request, its value as given, and why."""

    index: int
    value: str
    reason: str
    can_be_forced: bool = False


@dataclass(frozen=True, slots=True)
class BlocksAdded:
    """The added manual blocks; for a dry run those that would be added, and all refused ones.

    `exempt` has, by value, the organizations that their own rules keep a block from: their hosts do not carry it out.
    `new` counts the blocks that replace none, `room` the places for such blocks that there were before.
    """

    blocks: tuple[ManualBlock, ...]
    refused: tuple[RefusedBlock, ...] = ()
    exempt: dict[str, tuple[str, ...]] = field(default_factory=dict)
    new: int = 0
    room: int = 0


@dataclass(frozen=True, slots=True)
class LiftAddress:
    """Lift every block within an address or CIDR, in one organization or all. Answered by a `Lifted`.

    Guards with a fence also end blocks that they decided by themselves. Conflict if a wider block or a policy document
    blocks it still.
    """

    value: str
    author: str
    organization_id: str | None = None


@dataclass(frozen=True, slots=True)
class Lifted:
    """The result of a lift.

    Attributes:
        value: The address or CIDR in normal form.
        block_ids: The blocks that were lifted.
        incident_ids: The incidents that respond no more.
        until: The time until which no guard blocks it, in seconds since 1970.
        agents: The number of agents that are asked to end blocks of their own.
        not_reached: The number of them that may keep such a block: not online, over HTTP, or without a fence.
    """

    value: str
    block_ids: tuple[str, ...]
    incident_ids: tuple[str, ...]
    until: float
    agents: int
    not_reached: int


@dataclass(frozen=True, slots=True)
class ReadFeed:
    """Read the blocks of the fleet and of organizations; None for all of them. Answered by a `FeedContent`."""

    organization_ids: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class FeedContent:
    """The blocks of a feed.

    Attributes:
        shared: The end of each block of the whole fleet by address or CIDR, in seconds since 1970 or infinity.
        parts: The organizations' own blocks, each with what their never lists and allowlists have.
    """

    shared: dict[str, float]
    parts: tuple[FeedPart, ...]
