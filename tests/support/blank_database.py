"""A database of PostgreSQL with this release's schema and nothing else, restored after a test instead of made anew."""

from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql

_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
_FILLED = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    " AND pg_relation_size(oid) > 0"
)
_SEQUENCES = "SELECT sequencename, coalesce(last_value, start_value), last_value IS NOT NULL FROM pg_sequences"
_SHAPE = """
SELECT line FROM (
    SELECT concat_ws(' ', 'relation', relname, relkind, relacl, reloptions, relpersistence, relrowsecurity,
        pg_get_expr(relpartbound, oid)) AS line
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'column', relname, attname, atttypid, attnotnull, attidentity)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0
    UNION ALL
    SELECT concat_ws(' ', 'default', adrelid::regclass, adnum, pg_get_expr(adbin, adrelid)) FROM pg_attrdef
    UNION ALL
    SELECT concat_ws(' ', 'sequence', seqrelid::regclass, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle)
    FROM pg_sequence
    UNION ALL
    SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'extension', extname) FROM pg_extension
    UNION ALL
    SELECT concat_ws(' ', 'constraint', conname, conrelid::regclass, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'function', proname, proargtypes, prosrc) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'trigger', tgname, tgrelid::regclass, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(' ', 'setting', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast_temp)_'
    UNION ALL
    SELECT concat_ws(' ', 'database', datacl, datallowconn, datconnlimit) FROM pg_database
    WHERE datname = current_database()
) AS lines ORDER BY line
"""
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)

_WITHOUT_TRIGGERS = "SET LOCAL session_replication_role = replica"
"""The audit log has a trigger that refuses to empty it."""

_WITH_TRIGGERS = "SET LOCAL session_replication_role = DEFAULT"

_MOST_ROWS = 1000
"""More rows than a blank table has."""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class BlankDatabase:
    """The shape and the rows of a database that no test has used.

    Attributes:
        tables: The names of its tables.
        shape: What the catalogs say of its tables, columns, sequences, constraints, functions, settings and rights.
        sequences: Name, value and whether it was given out, of each sequence.
        rows: The rows of the tables that have any.
    """

    tables: frozenset[str]
    shape: Rows
    sequences: Rows
    rows: dict[str, Rows]

    @classmethod
    def of(cls, connection: psycopg.Connection) -> Self:
        """Read it."""
        tables = frozenset(_names(connection, _TABLES))
        rows = {name: _rows(connection, name) for name in _names(connection, _FILLED)}
        filled = {name: found for name, found in rows.items() if found}
        return cls(tables, connection.execute(_SHAPE).fetchall(), connection.execute(_SEQUENCES).fetchall(), filled)

    def restore(self, connection: psycopg.Connection) -> bool:
        """Make a used database blank again, and end its other sessions; return whether that is possible.

        Tables beyond its own are dropped. One that lacks a table, or differs in anything but rows, cannot be restored.
        """
        connection.execute(_END_OTHERS)
        surplus = [name for name in _names(connection, _TABLES) if name not in self.tables]
        if surplus:
            connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(_listed(surplus)))
        filled = _names(connection, _FILLED)
        used = [name for name in filled if _rows(connection, name, _MOST_ROWS) != self.rows.get(name, [])]
        if used:
            connection.execute(_WITHOUT_TRIGGERS)
            connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(_listed(used)))
            connection.execute(_WITH_TRIGGERS)
        for name, rows in self.rows.items():
            if _rows(connection, name) != rows:
                _insert(connection, name, rows)
        for name, value, given_out in self.sequences:
            connection.execute("SELECT setval(%s::regclass, %s, %s)", (name, value, given_out))
        return connection.execute(_SHAPE).fetchall() == self.shape


def _names(connection: psycopg.Connection, statement: str) -> list[str]:
    return [name for (name,) in connection.execute(statement).fetchall()]  # type: ignore[arg-type]


def _listed(names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _rows(connection: psycopg.Connection, name: str, limit: int | None = None) -> Rows:
    statement = sql.SQL("SELECT * FROM {} ORDER BY ctid LIMIT {}").format(sql.Identifier(name), sql.Literal(limit))
    return connection.execute(statement).fetchall()


def _insert(connection: psycopg.Connection, name: str, rows: Rows) -> None:
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(rows[0]))
    statement = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(name), marks)
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
