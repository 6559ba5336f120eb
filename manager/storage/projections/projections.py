"""What follows the stored threats, piece by piece: counts and slices, each with the last threat that it has.

A piece is written in a transaction that commits threats, together with how far its follower has come. So each follower
has every threat once, whatever happens in between, and what it lacks is short: queries read that from the threats.
"""

from collections.abc import Callable, Mapping

from peewee import Database

from manager.storage.threat_index.bitmaps import SLICE

Write = Callable[[int, int], None]
"""Writes what follows from the threats from one sequence to another."""


class Projections:
    """Has followers come after, in the writer's transaction and on its connection.

    Args:
        database: the writer's database.
        counts: followers that must have a threat before it is pruned, by name.
        slices: those that need not.
        piece: how many threats are written at a time; a slice has as many.
    """

    def __init__(
        self, database: Database, counts: Mapping[str, Write], slices: Mapping[str, Write], piece: int = SLICE
    ) -> None:
        self._database = database
        self._piece = piece
        self._counts = counts
        self._write = {**counts, **slices}
        param = database.param
        self._set_sql = (
            f"INSERT INTO threat_follower (name, last) VALUES ({param}, {param}) "
            "ON CONFLICT (name) DO UPDATE SET last = excluded.last"
        )

    def follow(self, stored: int) -> None:
        """Write pieces that are whole: one, and as many more as keep up with so many threats that were stored."""
        lowest, highest = self._extent()
        last = self._last()
        for _ in range(1 + len(self._write) * stored // self._piece):
            name = min(last, key=last.__getitem__)
            first = max(last[name] + 1, lowest)
            if highest - first + 1 < self._piece:
                return
            last[name] = first + self._piece - 1
            self._advance(name, first, last[name])

    def let_go(self, pruned: int) -> None:
        """Have what counts come as far as a sequence, before the threats up to it are deleted."""
        lowest, _ = self._extent()
        for name, last in self._last().items():
            first = max(last + 1, lowest)
            if first <= pruned and name in self._counts:
                self._advance(name, first, pruned)
            elif first <= pruned:
                self._database.execute_sql(self._set_sql, (name, pruned))

    def start_again(self) -> None:
        """Begin at the beginning where no threat is left: the next one is the first again."""
        if self._extent() == (0, 0):
            self._database.execute_sql("UPDATE threat_follower SET last = 0")

    def _advance(self, name: str, first: int, last: int) -> None:
        self._write[name](first, last)
        self._database.execute_sql(self._set_sql, (name, last))

    def _extent(self) -> tuple[int, int]:
        (lowest,) = self._database.execute_sql("SELECT min(sequence) FROM threat").fetchone()
        (highest,) = self._database.execute_sql("SELECT max(sequence) FROM threat").fetchone()
        return lowest or 0, highest or 0

    def _last(self) -> dict[str, int]:
        found = dict(self._database.execute_sql("SELECT name, last FROM threat_follower").fetchall())
        return {name: found.get(name, 0) for name in self._write}
