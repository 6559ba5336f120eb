"""Retained messages in a topic tree, which finds the matches of a filter without visiting others."""

from collections.abc import Iterator

from manager.broker.delivery.message import Message
from manager.broker.delivery.subscription_index import is_wildcard


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None

    def all_messages(self) -> Iterator[Message]:
        """Yield the messages of this node and all nodes below."""
        if self.message is not None:
            yield self.message
        for child in self.children.values():
            yield from child.all_messages()

    def matching(self, levels: list[str], depth: int) -> Iterator[Message]:
        """Yield the messages below this node whose topics match a filter's levels from `depth` on."""
        if depth == len(levels):
            if self.message is not None:
                yield self.message
            return
        level = levels[depth]
        if level == "#":
            yield from self.all_messages()
        elif level == "+":
            for child in self.children.values():
                yield from child.matching(levels, depth + 1)
        elif level in self.children:
            yield from self.children[level].matching(levels, depth + 1)


class RetainedMessages:
    """The newest retained message of each topic."""

    def __init__(self) -> None:
        self._by_topic: dict[str, Message] = {}
        self._tree = _Node()

    def __len__(self) -> int:
        return len(self._by_topic)

    def keep(self, message: Message) -> None:
        """Replace the topic's retained message; an empty payload clears it (MQTT 3.1.1, 3.3.1.3)."""
        if not message.payload:
            self._clear(message.topic)
            return
        self._by_topic[message.topic] = message
        node = self._tree
        for level in message.topic.split("/"):
            node = node.children.setdefault(level, _Node())
        node.message = message

    def _clear(self, topic: str) -> None:
        if self._by_topic.pop(topic, None) is None:
            return
        path: list[tuple[_Node, str]] = []
        node = self._tree
        for level in topic.split("/"):
            path.append((node, level))
            node = node.children[level]
        node.message = None
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.message is not None or child.children:
                break
            del parent.children[level]

    def matching(self, topic_filter: str) -> list[Message]:
        """Return the messages whose topics match a valid filter, each once."""
        if is_wildcard(topic_filter):
            return list(self._tree.matching(topic_filter.split("/"), 0))
        message = self._by_topic.get(topic_filter)
        return [] if message is None else [message]
