"""The sentence for people in documents and CloudEvents that programs read."""

from manager.domain.notifications.message import Line, Message, Plain, Quoted
from manager.notifications.rendering.dialects import PLAIN

_NAMED = (("sourceIp", " from "), ("user", ", user "), ("value", ", "), ("reason", ": "))
"""Members of an event's data that the sentence names, each with the words before it."""


def machine_text(message: Message) -> str:
    """Return a message in plain text; of an event its title, the host, and what its data name, on one line."""
    event = message.event
    if event is None:
        return PLAIN.render(message).whole
    line: Line = message.title
    if event.hostname:
        line += (Plain(" on "), Quoted(event.hostname))
    for key, words in _NAMED:
        value = event.data.get(key)
        if isinstance(value, str) and value:
            line += (Plain(words), Quoted(value))
    return PLAIN.line(line)
