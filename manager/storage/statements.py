"""Named SQL statements: loads `sql/<system>/*.sql` and executes them on a database by name.

Statements are written in the dialect of the database system, so another system has its own files with the same names.
`agents.upsert` is the statement that follows the line `-- name: upsert` in `agents.sql`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from peewee import (  # type: ignore[attr-defined]  # the stubs leave the wrapper out that playhouse uses
    Database,
    PostgresqlDatabase,
    SqliteDatabase,
    __exception_wrapper__,
)

SQL = Path(__file__).parent / "sql"
_SYSTEMS: Mapping[type[Database], str] = {SqliteDatabase: "sqlite", PostgresqlDatabase: "postgresql"}
_NAME = "-- name: "

Params: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""Values in the order of the placeholders (`?` in SQLite, `%s` in PostgreSQL), or by name (`:name`, `%(name)s`)."""


def system_of(database: Database) -> str:
    """Return the name of a database's system, which is that of its folder of statements."""
    return next(name for kind, name in _SYSTEMS.items() if isinstance(database, kind))


@lru_cache
def load_statements(system: str) -> Mapping[str, str]:
    """Return a database system's statements by name, without their comments."""
    statements: dict[str, str] = {}
    for file in sorted((SQL / system).glob("*.sql")):
        _, *sections = file.read_text("utf-8").split(_NAME)
        for section in sections:
            name, *lines = section.splitlines()
            statements[f"{file.stem}.{name}"] = "\n".join(line for line in lines if not line.startswith("--")).strip()
    return statements


class Statements:
    """Executes named statements on one database.

    Args:
        database: its class determines which system's statements are executed.

    Raises:
        peewee.DatabaseError, peewee.InterfaceError: by any method, as the database reports it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load_statements(system_of(database))

    def rows(self, name: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Return all rows that a statement selects."""
        return list(self._database.execute_sql(self._sql[name], params).fetchall())

    def columns(self, name: str, params: Params = ()) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return the names of the columns that a statement selects, and all rows."""
        cursor = self._database.execute_sql(self._sql[name], params)
        return tuple(column[0] for column in cursor.description), cursor.fetchall()

    def values(self, names: Sequence[str], params: Params = ()) -> tuple[Any, ...]:
        """Return the values of statements that select one value each, computed by one statement.

        Args:
            names: those of the statements.
            params: for all of them, by name.
        """
        selected = ", ".join(f"({self._sql[name].removesuffix(';')})" for name in names)
        (found,) = self._database.execute_sql(f"SELECT {selected}", params).fetchall()
        return tuple(found)

    def rows_of_each(self, name: str, params: Iterable[Params]) -> list[list[tuple[Any, ...]]]:
        """Return the rows that a statement selects with each of several parameters, which are sent at once."""
        return self.rows_of_all([(name, each) for each in params])

    def rows_of_all(self, questions: Sequence[tuple[str, Params]]) -> list[list[tuple[Any, ...]]]:
        """Return the rows that each of some statements selects, given by their names and parameters.

        PostgreSQL is sent all of them at once, for each wait for an answer takes longer than the statement.
        """
        if not questions or system_of(self._database) == "sqlite":
            return [self.rows(name, params) for name, params in questions]
        with __exception_wrapper__:
            connection = self._database.connection()
            with connection.pipeline():
                cursors = [connection.execute(self._sql[name], params) for name, params in questions]
                return [cursor.fetchall() for cursor in cursors]

    def each(self, name: str, params: Params = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that a statement selects, reading each on demand; may be left before its end."""
        for row in self._database.execute_sql(self._sql[name], params):  # noqa: UP028 -- would close the cursor
            yield row

    def execute(self, name: str, params: Params = ()) -> int:
        """Execute a statement that changes rows; return how many it changed."""
        return int(self._database.execute_sql(self._sql[name], params).rowcount)

    def execute_many(self, name: str, rows: Iterable[Sequence[Any]]) -> int:
        """Execute a statement for each row; return how many rows it changed.

        Building a query for each row would take most of a batch's time; sqlite3 reads plain tuples faster than named
        ones.
        """
        with __exception_wrapper__:
            cursor = self._database.cursor()
            cursor.executemany(self._sql[name], map(tuple, rows))
            return int(cursor.rowcount)
