"""The names under which a manager sends messages."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelIdentity:
    """The sender of a channel's messages.

    Attributes:
        channel: The name of the channel.
        manager_id: The id of the manager's store.
        version: The manager's release.
        hostname: The manager's host.
    """

    channel: str
    manager_id: str
    version: str
    hostname: str

    @property
    def source(self) -> str:
        """The source of its CloudEvents: with their id it is unique."""
        return f"urn:panguard:{self.manager_id}"
