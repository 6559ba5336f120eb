"""The named SQL statements: complete, valid on the schema, and in agreement with the rows that the code gives them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from peewee import Database
from psycopg import Connection

from manager.domain.agents.agent import Agent, Door, InForce, Reason, RegistrationStamp, State, Vitals, credential_of
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.host import Host
from manager.engine.batch import Changes
from manager.storage import tables
from manager.storage.statements import SQL, Statements, load_statements
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated
from tests.support.postgresql import Postgresql

STORAGE = Path(SQL).parent
INGEST = STORAGE.parent / "ingest"
SYSTEMS = sorted(path.name for path in SQL.iterdir())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "store.db"
    database = open_migrated(path)
    tables.database.initialize(database)
    yield database
    database.close()


@pytest.fixture(scope="module")
def postgresql_reader(postgresql_cluster: Postgresql) -> Iterator[Connection[Any]]:
    address = postgresql_cluster.create_migrated()
    with psycopg.connect(address.url, autocommit=True) as connection:
        yield connection
    postgresql_cluster.drop(address)


def _agent() -> Agent:
    host = Host.of(
        "a",
        "os",
        "arch",
        "v",
        site="site",
        tags=("t",),
        addresses=("192.0.2.1",),
        gateways=("192.0.2.2",),
        ip="192.0.2.3",
    )
    return Agent(
        number=7, agent_id="ag-1", organization_id="acme", host=host, credential=credential_of(bytes(32)),
        token_id="tok", door=Door.HTTP, registered_at=1.0, state=State.STALE, state_since=2.0,
        reason=Reason.SILENCE, session=3, heartbeat_sequence=4, last_heartbeat=5.0, clock=ClockOffset(6.0, 7.0, 8),
        stamp=RegistrationStamp(9.0, b"digest", b"reply"),
        vitals=Vitals(10.0, 11.0, 12.0, "mode", 13, 14, 15, 16, 17, 18),
        in_force=InForce.of(19, "digest", "state", error="error", blocklist_sequence=20, applied_at=21.0),
    )  # fmt: skip


def named_in_code(system: str) -> set[str]:
    """Return the names of a system's statements in the code; a name with a placeholder is a pattern."""
    names: set[str] = set()
    stems = "|".join(sorted({name.split(".")[0] for each in SYSTEMS for name in load_statements(each)}))
    for file in (*STORAGE.rglob("*.py"), *INGEST.rglob("*.py")):
        folder = file.relative_to(STORAGE).parts[0] if file.is_relative_to(STORAGE) else ""
        if folder == system or folder not in SYSTEMS:
            names.update(re.findall(rf'"((?:{stems})\.[a-z_]+(?:\{{[a-z_.]+\}})?)"', file.read_text("utf-8")))
    return names


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_code_and_the_files_name_the_same_statements(system: str) -> None:
    """Each statement of each database system is used, and each name in the code has a statement."""
    patterns = {re.compile(re.sub(r"\\\{.*\\\}", "[a-z_]+", re.escape(name))): name for name in named_in_code(system)}
    statements = load_statements(system)
    unused = [name for name in statements if not any(pattern.fullmatch(name) for pattern in patterns)]
    missing = [name for pattern, name in patterns.items() if not any(map(pattern.fullmatch, statements))]
    assert (unused, missing) == ([], [])


@pytest.mark.postgresql
@pytest.mark.parametrize("name", load_statements("postgresql"))
def test_postgresql_prepares_each_statement(postgresql_reader: Connection[Any], name: str) -> None:
    """Every statement fits the schema that the migrations make, and is a single one."""
    text = load_statements("postgresql")[name]
    assert text.count(";") == 1
    assert text.endswith(";")
    names = set(re.findall(r"%\(([a-z_]+)\)s", text))
    params: Any = dict.fromkeys(names) if names else [None] * text.count("%s")
    assert postgresql_reader.execute(f"EXPLAIN {text}", params).fetchall()


@pytest.mark.parametrize("name", load_statements("sqlite"))
def test_sqlite_prepares_each_statement(database: Database, name: str) -> None:
    """Every statement fits the schema that the migrations make, and is a single one."""
    sql = load_statements("sqlite")[name]
    assert sql.endswith(";")
    names = set(re.findall(r":([a-z_]+)", sql))
    params: Any = dict.fromkeys(names) if names else [None] * sql.count("?")
    assert database.execute_sql(f"EXPLAIN {sql}", params).fetchall()


def test_rows_that_nobody_read_to_the_end_outlive_their_database(database: Database) -> None:
    """An iterator that is left, and collected once the database is closed, ends without an error."""
    store = PeeweeStore(database, bytes(32))
    store.commit(Changes(agents={"ag-1": _agent()}))
    rows = Statements(database).each("agents.load")
    assert next(rows)
    database.close()
    rows.close()  # type: ignore[attr-defined]


def test_an_agent_comes_back_as_it_was_written(database: Database) -> None:
    """Every column of an agent's row has its place, in the insert, in the update and in the load."""
    agent = _agent()
    store = PeeweeStore(database, bytes(32))
    store.commit(Changes(agents={"ag-1": replace(agent, session=1, vitals=Vitals())}))
    store.commit(Changes(agents={"ag-1": agent}))
    assert store.load().agents == [agent]
