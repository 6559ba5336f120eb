"""What a broker keeps of one client: its filters, and what it has not acknowledged yet."""

from asyncio import Transport
from dataclasses import dataclass, field

from manager.mqtt_packets import publish_packet
from tests.support.hostile.packets import Message

_LAST_MID = 0xFFFF


@dataclass
class Session:
    """One client's session; `transport` is its connection while it has one."""

    clean: bool
    transport: Transport | None = None
    filters: dict[str, int] = field(default_factory=dict)
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    mid: int = 0

    def deliver(self, message: Message, granted: int) -> None:
        """Send a message to the client; one of QoS 1 is kept until it is acknowledged."""
        if not min(message.qos, granted):
            self._send(message, 0)
        elif self.transport is not None or not self.clean:
            self.mid = self.mid % _LAST_MID + 1
            self.unacknowledged[self.mid] = message
            self._send(message, self.mid)

    def resume(self) -> None:
        """Send what is not acknowledged once more."""
        for mid, message in self.unacknowledged.items():
            self._send(message, mid)

    def granted(self, topic: str) -> int | None:
        """Return the QoS that the client wants a topic with; None if it wants none of it."""
        return max((qos for pattern, qos in self.filters.items() if matches(pattern, topic)), default=None)

    def _send(self, message: Message, mid: int) -> None:
        if self.transport is not None:
            self.transport.write(publish_packet(message.topic, message.payload, mid, retained=message.retained))


def matches(pattern: str, topic: str) -> bool:
    """Return whether a filter matches a topic."""
    wanted, levels = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(each in ("+", level) for each, level in zip(wanted, levels, strict=True))
