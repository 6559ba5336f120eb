"""One application message in the broker."""

from typing import NamedTuple

_OVERHEAD = 64


class Message(NamedTuple):
    """A publication; shared by all sessions whose queues hold it."""

    topic: str
    payload: bytes
    qos: int
    """The publisher's QoS, 0 to 2; a subscriber gets the lower of it and the granted QoS."""

    @property
    def cost(self) -> int:
        """The number of bytes that count against a client's queue: payload, topic, and overhead."""
        return len(self.payload) + len(self.topic) + _OVERHEAD
