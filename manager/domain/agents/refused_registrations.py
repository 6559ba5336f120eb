"""Refused registrations of the last day, which show operators the hosts that cannot enter the fleet."""

from collections import OrderedDict
from dataclasses import dataclass

from manager.domain.agents.agent import Door

KEPT_FOR = 86_400.0
"""Seconds after its last refusal for which a host is shown."""

_MAX_HOSTS = 200
_LONGEST_REASON = 256


@dataclass(frozen=True, slots=True)
class RefusedHost:
    """Refused registrations of one host for one reason. Times are seconds since 1970.

    Attributes:
        hostname: as the host wrote it; None if the registration could not be read.
        organization_id: the organization that it named; None for none.
        door: the door it came by.
        origin: client address over HTTP, client id over MQTT.
        reason: the error message in the answer to the host.
        count: number of refusals.
        first_at: time of the first one.
        last_at: time of the last one.
    """

    hostname: str | None
    organization_id: str | None
    door: Door
    origin: str
    reason: str
    count: int
    first_at: float
    last_at: float


class RefusedRegistrations:
    """Counts refusals by host and reason; bounded, because anybody may send registrations. In memory only."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[tuple[str, str | None, str], RefusedHost] = OrderedDict()

    def record(
        self, hostname: str | None, organization_id: str | None, *, door: Door, origin: str, reason: str, at: float
    ) -> None:
        """Count a refusal; beyond 200 hosts the one with the oldest refusal is dropped.

        A host that cannot be named counts under its origin over HTTP, and over MQTT under its reason alone, because
        its client id is new each time.
        """
        reason = reason[:_LONGEST_REASON]
        key = hostname or (origin if door is Door.HTTP else ""), organization_id, reason
        known = self._hosts.pop(key, None)
        count, first_at = (1, at) if known is None else (known.count + 1, known.first_at)
        self._hosts[key] = RefusedHost(hostname, organization_id, door, origin, reason, count, first_at, at)
        if len(self._hosts) > _MAX_HOSTS:
            self._hosts.popitem(last=False)

    def forget(self, hostname: str, organization_id: str) -> None:
        """Drop the refusals of a host that has entered the fleet."""
        for key, host in list(self._hosts.items()):
            if host.hostname == hostname and host.organization_id in {None, organization_id}:
                del self._hosts[key]

    def current(self, now: float) -> list[RefusedHost]:
        """Return the refusals of the last day, the newest first; safe from any thread."""
        found = [host for host in list(self._hosts.values()) if now - host.last_at < KEPT_FOR]
        return found[::-1]
