"""Subjects of an event: the addresses and hosts that its data name, whatever the event is."""

from collections.abc import Iterator, Mapping
from typing import Any

from manager.domain.correlation.indicators import normal_address
from manager.domain.notifications.event import Event

_MOST = 20
"""The maximum number of addresses and of hosts."""


def addresses_of(event: Event) -> list[str]:
    """Return the addresses that an event is about, in normal form; no networks."""
    found = (normal_address(text) for text in _texts(event.data, "sourceIp", "value", "values"))
    return list(dict.fromkeys(address.value for address in found if address is not None))[:_MOST]


def hosts_of(event: Event) -> list[str]:
    """Return the hostnames of the agents that an event is about: text from outside."""
    named = [event.hostname] if event.hostname else []
    return list(dict.fromkeys([*named, *_texts(event.data, "hostname")]))[:_MOST]


def _texts(data: Mapping[str, Any], *names: str) -> Iterator[str]:
    """Yield the texts of some members, of the data and of each of its threats."""
    threats = data.get("threats")
    for part in (data, *(threats if isinstance(threats, list) else ())):
        for name in names if isinstance(part, Mapping) else ():
            value = part.get(name)
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and each:
                    yield each
