"""What the parts of the store write their rows by: one statement for many rows, on the writer's own connection."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Many(Protocol):
    """Writes rows by one statement."""

    def __call__(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute the statement for each row."""
        ...
