"""Subscription index: finds the subscribers of a topic without visiting filters that do not match."""

from collections.abc import Mapping

_Grants = dict[str, int]


class _Node:
    """One level of the wildcard filters; `+` and `#` are children like any other level name."""

    __slots__ = ("children", "grants")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.grants: _Grants = {}

    def collect(self, levels: list[str], depth: int, found: _Grants) -> None:
        """Add the grants of every filter below this node that matches the levels from `depth` on."""
        rest = self.children.get("#")
        if rest is not None:
            _merge(found, rest.grants)
        if depth == len(levels):
            _merge(found, self.grants)
            return
        for name in (levels[depth], "+"):
            child = self.children.get(name)
            if child is not None:
                child.collect(levels, depth + 1, found)


def _merge(found: _Grants, grants: _Grants) -> None:
    for client_id, qos in grants.items():
        if found.get(client_id, -1) < qos:
            found[client_id] = qos


class SubscriptionIndex:
    """Granted QoS by filter and client: exact filters in a dictionary, wildcard filters in a tree beside it."""

    def __init__(self) -> None:
        self._exact: dict[str, _Grants] = {}
        self._wildcards = _Node()
        self._filters: dict[str, set[str]] = {}

    def add(self, client_id: str, topic_filter: str, qos: int) -> None:
        """Grant a valid filter to a client; replaces an existing grant of the filter."""
        self._filters.setdefault(client_id, set()).add(topic_filter)
        if is_wildcard(topic_filter):
            node = self._wildcards
            for level in topic_filter.split("/"):
                node = node.children.setdefault(level, _Node())
            node.grants[client_id] = qos
        else:
            self._exact.setdefault(topic_filter, {})[client_id] = qos

    def remove(self, client_id: str, topic_filter: str) -> None:
        """Remove one filter of a client; an unknown one is ignored."""
        filters = self._filters.get(client_id, set())
        if topic_filter not in filters:
            return
        filters.remove(topic_filter)
        if not filters:
            del self._filters[client_id]
        if is_wildcard(topic_filter):
            self._remove_wildcard(client_id, topic_filter)
        else:
            grants = self._exact[topic_filter]
            del grants[client_id]
            if not grants:
                del self._exact[topic_filter]

    def _remove_wildcard(self, client_id: str, topic_filter: str) -> None:
        path: list[tuple[_Node, str]] = []
        node = self._wildcards
        for level in topic_filter.split("/"):
            path.append((node, level))
            node = node.children[level]
        del node.grants[client_id]
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.grants or child.children:
                break
            del parent.children[level]

    def remove_client(self, client_id: str) -> None:
        """Remove all filters of a client."""
        for topic_filter in list(self._filters.get(client_id, ())):
            self.remove(client_id, topic_filter)

    def match(self, topic: str) -> Mapping[str, int]:
        """Return the clients whose filters match a topic, each once, with the highest QoS granted.

        The result may be the index's own dictionary: it is valid until the next change.
        """
        exact = self._exact.get(topic, {})
        found: _Grants = {}
        self._wildcards.collect(topic.split("/"), 0, found)
        if not found:
            return exact
        _merge(found, exact)
        return found


MAX_LEVELS = 32
"""The maximum number of levels in topics and filters: the contract needs six, and trees are walked recursively."""

_SHARED = "$share/"


def is_topic(topic: str) -> bool:
    """Return whether a topic is valid for publishing; `$` topics are reserved for brokers."""
    return (
        bool(topic)
        and not topic.startswith("$")
        and not any(character in topic for character in "+#\0")
        and topic.count("/") < MAX_LEVELS
    )


def is_wildcard(topic_filter: str) -> bool:
    """Return whether a filter contains a wildcard."""
    return "+" in topic_filter or "#" in topic_filter


def is_filter(topic_filter: str) -> bool:
    """Return whether a filter is valid; shared subscriptions are refused."""
    if not topic_filter or "\0" in topic_filter or topic_filter.startswith(_SHARED):
        return False
    levels = topic_filter.split("/")
    if len(levels) > MAX_LEVELS or "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or not is_wildcard(level) for level in levels)
