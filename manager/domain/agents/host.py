"""The host that an agent's registration describes; as the agent record, without the header of the cyclic collector."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from manager.domain.agents.shared_values import sharing


class Traits(Struct, frozen=True, gc=False):
    """The part of a host's description that many hosts have alike; a fleet has one object of equal ones."""

    os: str
    arch: str
    version: str
    site: str | None = None
    """The site from the enrollment token or an operator; it chooses policy groups."""
    tags: tuple[str, ...] = ()
    """Tags from the enrollment token or an operator; they choose policy groups."""
    reported_tags: tuple[str, ...] = ()
    """Tags that the agent states itself; they choose nothing."""
    reported_site: str | None = None
    """The site that the agent states itself; it chooses nothing."""


def _length_of_traits(traits: Traits) -> int:
    chosen = traits.os, traits.arch, traits.version, traits.site or "", traits.reported_site or ""
    return sum(map(len, (*chosen, *traits.tags, *traits.reported_tags)))


_shared_traits = sharing(_length_of_traits)


class Host(Struct, frozen=True, gc=False):
    """The host's description in the agent's registration."""

    hostname: str
    traits: Traits
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ip: str | None = None

    @classmethod
    def of(
        cls,
        hostname: str,
        os: str,
        arch: str,
        version: str,
        *,
        site: str | None = None,
        tags: tuple[str, ...] = (),
        addresses: tuple[str, ...] = (),
        gateways: tuple[str, ...] = (),
        ip: str | None = None,
        reported_tags: tuple[str, ...] = (),
        reported_site: str | None = None,
    ) -> "Host":
        """Return a host with these members, and those of `Traits`."""
        traits = _shared_traits(Traits(os, arch, version, site, tags, reported_tags, reported_site))
        return cls(hostname, traits, addresses, gateways, ip)

    def changed(self, **traits: Any) -> "Host":
        """Return the host with other values of some traits."""
        return replace(self, traits=_shared_traits(replace(self.traits, **traits)))

    @property
    def os(self) -> str:
        """The operating system."""
        return self.traits.os

    @property
    def arch(self) -> str:
        """The architecture of the processor."""
        return self.traits.arch

    @property
    def version(self) -> str:
        """The guard's version."""
        return self.traits.version

    @property
    def site(self) -> str | None:
        """The site, as in `Traits`."""
        return self.traits.site

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags, as in `Traits`."""
        return self.traits.tags

    @property
    def reported_tags(self) -> tuple[str, ...]:
        """The reported tags, as in `Traits`."""
        return self.traits.reported_tags

    @property
    def reported_site(self) -> str | None:
        """The reported site, as in `Traits`."""
        return self.traits.reported_site

    @property
    def correlation_site(self) -> str | None:
        """The site within which the host's private addresses are compared: the stated one where there is no other."""
        return self.site or self.reported_site
