"""The responder that stores measures and enforces none: for hosts without a fence, and for simulated enforcement."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from agent.respond.responder import EnforcementKind, Measure, ResponderError
from agent.storage.database import Database


class RecordingResponder:
    """Stores measures without enforcing them; see `agent.respond.responder.Responder`.

    Args:
        database: The guard's database.
        simulated: The operator asked for a simulation; else enforcement counts as impossible.
    """

    def __init__(self, database: Database, *, simulated: bool = False) -> None:
        self._database = database
        self.enforcement: EnforcementKind = "simulated" if simulated else "impossible"

    def block_address(self, measure: Measure) -> None:
        """Record it."""
        self._set(measure)

    def unblock_address(self, value: str) -> None:
        """Forget it."""
        self._lift("ip", value)

    def block_domain(self, measure: Measure) -> None:
        """Record it."""
        self._set(measure)

    def unblock_domain(self, value: str) -> None:
        """Forget it."""
        self._lift("domain", value)

    def quarantine_hash(self, measure: Measure) -> None:
        """Record it."""
        self._set(measure)

    def release_hash(self, value: str) -> None:
        """Forget it."""
        self._lift("file_hash", value)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Record in one transaction."""
        try:
            with self._database.transaction():
                yield
        except sqlite3.Error as error:
            raise ResponderError(f"nothing could be recorded: {error}") from error

    def in_force(self) -> Iterable[Measure]:
        """Return the recorded measures."""
        rows = self._database.connection.execute("SELECT kind, value, reason, expires_at, incident_id FROM measures")
        return [Measure(*row) for row in rows]

    def _set(self, measure: Measure) -> None:
        row = (measure.kind, measure.value, measure.reason, measure.expires_at, measure.incident_id)
        self._write("INSERT OR REPLACE INTO measures VALUES (?, ?, ?, ?, ?)", row)

    def _lift(self, kind: str, value: str) -> None:
        self._write("DELETE FROM measures WHERE kind = ? AND value = ?", (kind, value))

    def _write(self, statement: str, row: tuple[object, ...]) -> None:
        try:
            self._database.connection.execute(statement, row)
        except sqlite3.Error as error:
            raise ResponderError(f"it could not be recorded: {error}") from error
