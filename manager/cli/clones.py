"""What people are told of an agent that lives more than once, and what to do about it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manager.cli.client import Record


def clone_text(clone: "Record") -> str:
    """Return the instances, by when they were started, and the way out."""
    started = " and ".join(clone["instances"])
    return f"started at {started}; keep one, give each other machine its own hostname and an empty data directory"
