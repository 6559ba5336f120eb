"""The grammar of topic names and topic filters (MQTT 3.1.1, 4.7), as far as the broker serves it."""

MAX_LEVELS = 32
"""Deeper names and filters are refused: the contract needs six levels, and trees are walked recursively."""

_SHARED = "$share/"


def is_topic(topic: str) -> bool:
    """Return whether a message may be published to this name; `$` names are the broker's own, and it has none."""
    return (
        bool(topic)
        and not topic.startswith("$")
        and not any(mark in topic for mark in "+#\0")
        and topic.count("/") < MAX_LEVELS
    )


def is_wildcard(topic_filter: str) -> bool:
    """Return whether a filter can match more than its own name."""
    return "+" in topic_filter or "#" in topic_filter


def is_filter(topic_filter: str) -> bool:
    """Return whether this filter can be subscribed to; shared subscriptions are refused, not granted and ignored."""
    if not topic_filter or "\0" in topic_filter or topic_filter.startswith(_SHARED):
        return False
    levels = topic_filter.split("/")
    if len(levels) > MAX_LEVELS or "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or not is_wildcard(level) for level in levels)
