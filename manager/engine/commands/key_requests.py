"""Requests about the signing key: read its state, rotate it, roll the rotation back."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """Read the state of the signing key. Answered by a record."""

    needs_transaction: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class RotateKeys:
    """Replace the signing key. Answered by the state after it; Conflict if it cannot be done."""

    author: str
    compromised: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class RollBackKeys:
    """Make the former signing key the active one again. Answered by the state after it, or Conflict."""

    author: str
    dry_run: bool = False
