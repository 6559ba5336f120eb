"""The sentence for people in documents and CloudEvents that programs read."""

from collections.abc import Sequence

from manager.domain.notifications.event import Event
from manager.domain.notifications.message import Line, Message, Plain, Quoted
from manager.notifications.rendering.dialects import PLAIN
from manager.notifications.rendering.subjects import addresses_of, hosts_of

_MEMBERS = (("user", ", user "), ("scope", ", scope "), ("reason", ": "))
"""Texts of an event's data that the sentence names, each with the words before it."""

_COUNTED = ("threats_reported", "blocks_added")
"""Events whose title is a plural: the sentence begins with their number."""

_NAMED = 3
"""The maximum number of hosts and of addresses in a sentence."""


def machine_text(message: Message) -> str:
    """Return a message in plain text; of an event its title, number, hosts, and what its data name, on one line."""
    event = message.event
    return PLAIN.render(message).whole if event is None else PLAIN.line(_sentence(event, message.title))


def _sentence(event: Event, title: Line) -> Line:
    data, line = event.data, title
    number = _number(data.get("count"))
    if event.name in _COUNTED and number is not None:
        line = (Plain(f"{number} "), *line) if number != 1 else (Plain(f"1 {event.name.replace('s_', ' ')}"),)
    line += _list(" on ", hosts_of(event))
    addresses = addresses_of(event)
    value = data.get("value")
    if addresses:
        line += _list(", " if isinstance(value, str) or event.name == "blocks_added" else " from ", addresses)
    elif isinstance(value, str) and value:
        line += (Plain(", "), Quoted(value))
    agents = _number(data.get("agents"))
    if agents is not None:
        line += (Plain(f", {agents} {'agent' if agents == 1 else 'agents'}"),)
    revision = _number(data.get("revision"))
    if revision is not None:
        line += (Plain(f", revision {revision}"),)
    for key, words in _MEMBERS:
        text = data.get(key)
        if isinstance(text, str) and text:
            line += (Plain(words), Quoted(text))
    return line


def _list(words: str, names: Sequence[str]) -> Line:
    """Return some names after words; nothing where there is none."""
    line: Line = ()
    for index, name in enumerate(names[:_NAMED]):
        line += (Plain(", " if index else words), Quoted(name))
    more = len(names) - _NAMED
    return (*line, Plain(f" and {more} more")) if more > 0 else line


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
