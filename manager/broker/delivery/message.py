"""One application message inside the broker."""

from typing import NamedTuple

_OVERHEAD = 64


class Message(NamedTuple):
    """A publication; shared by all sessions whose queues hold it."""

    topic: str
    payload: bytes
    qos: int
    """The publisher's, 0 to 2; a subscriber gets the lower of it and the QoS granted."""

    @property
    def cost(self) -> int:
        """Bytes counted against a client's queue: payload, topic, and a share of bookkeeping."""
        return len(self.payload) + len(self.topic) + _OVERHEAD
