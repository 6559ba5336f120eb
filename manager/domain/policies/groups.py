"""Policy groups: select agents by tags and site; their policies apply between organization and agent, by priority."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_PLACEMENTS_CACHED = 10_000


class Placement(NamedTuple):
    """The facts about an agent that choose its policy groups: organization, site and tags."""

    organization_id: str
    site: str | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions on an agent, all of which must hold; an empty one is no condition.

    Attributes:
        tags_all: The agent has all of these tags.
        tags_any: The agent has at least one of these tags.
        sites: The agent is at one of these sites.
    """

    tags_all: frozenset[str] = frozenset()
    tags_any: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()

    def matches(self, placement: Placement) -> bool:
        """Return whether an agent meets all conditions."""
        tags = placement.tags
        return (
            self.tags_all <= tags
            and (not self.tags_any or not self.tags_any.isdisjoint(tags))
            and (not self.sites or placement.site in self.sites)
        )


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """One group: its name, selector and priority, and the organization whose agents it selects; None for all."""

    name: str
    selector: Selector
    priority: int
    organization_id: str | None = None

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> "PolicyGroup":
        """Build a group from its document, as JSON values in wire names."""
        selector = document.get("selector", {})
        tags_all, tags_any, sites = (frozenset(selector.get(key, ())) for key in ("tagsAll", "tagsAny", "sites"))
        return cls(name, Selector(tags_all, tags_any, sites), document["priority"], document.get("organization"))

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sort key: fleet-wide groups first, then by priority; a later group takes precedence."""
        return self.organization_id is not None, self.priority, self.name

    @property
    def example(self) -> Placement:
        """The placement of an agent that the group selects, with as few tags as possible."""
        tags = self.selector.tags_all | frozenset(sorted(self.selector.tags_any)[:1])
        return Placement(self.organization_id or "", next(iter(sorted(self.selector.sites)), None), tags)

    def selects(self, placement: Placement) -> bool:
        """Return whether an agent belongs to the group."""
        return self.organization_id in {None, placement.organization_id} and self.selector.matches(placement)


class PolicyGroups:
    """All groups, in the order in which their policies apply."""

    def __init__(self) -> None:
        self._groups: dict[str, PolicyGroup] = {}
        self._ordered: list[PolicyGroup] = []
        self._cached: dict[Placement, tuple[str, ...]] = {}

    def load(self, groups: Iterable[PolicyGroup]) -> None:
        """Replace all groups."""
        self._groups = {group.name: group for group in groups}
        self._sort()

    def set(self, group: PolicyGroup) -> None:
        """Add a group, or replace the one of its name."""
        self._groups[group.name] = group
        self._sort()

    def remove(self, name: str) -> None:
        """Remove a group."""
        del self._groups[name]
        self._sort()

    def copy(self) -> "PolicyGroups":
        """Return a copy; a change of it does not change this one."""
        copied = PolicyGroups()
        copied.load(self._groups.values())
        return copied

    @property
    def organizations(self) -> frozenset[str]:
        """The organizations that have groups of their own."""
        return frozenset(group.organization_id for group in self._ordered if group.organization_id is not None)

    def names_in(self, organization_id: str) -> list[str]:
        """Return the names of the groups that may select agents of an organization."""
        return [group.name for group in self._ordered if group.organization_id in {None, organization_id}]

    @property
    def sites(self) -> frozenset[str]:
        """The sites that groups select."""
        return frozenset(site for group in self._ordered for site in group.selector.sites)

    @property
    def tags(self) -> frozenset[str]:
        """The tags that groups select."""
        return frozenset(tag for group in self._ordered for tag in group.selector.tags_all | group.selector.tags_any)

    def find(self, name: str) -> PolicyGroup | None:
        """Return the group of this name."""
        return self._groups.get(name)

    def rival(self, group: PolicyGroup) -> str | None:
        """Return the other group that has the priority of `group` in its organization, or fleet-wide; None if none."""
        place = group.organization_id, group.priority
        rivals = (each.name for each in self._ordered if (each.organization_id, each.priority) == place)
        return next((name for name in rivals if name != group.name), None)

    def of(self, placement: Placement) -> tuple[str, ...]:
        """Return the names of an agent's groups in the order in which they apply; computed once for each placement."""
        found = self._cached.get(placement)
        if found is None:
            if len(self._cached) >= _PLACEMENTS_CACHED:
                self._cached.clear()
            found = tuple(group.name for group in self._ordered if group.selects(placement))
            self._cached[placement] = found
        return found

    def _sort(self) -> None:
        self._ordered = sorted(self._groups.values(), key=lambda group: group.order)
        self._cached.clear()
