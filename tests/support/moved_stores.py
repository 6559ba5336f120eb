"""Stores of stopped managers that a test moves to PostgreSQL, and the rows of both sides."""

import functools
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.response.manual_blocks import FLEET
from manager.engine.commands.block_requests import AddBlocks, NewBlock
from manager.engine.commands.requests import RemoveAgent, SetPolicy
from manager.engine.ports import PruneOrder
from manager.storage import tables
from manager.storage.postgresql.address import DatabaseAddress
from schemas import topics
from tests.support.engine import Bench


def key_file_of(bench_directory: Path) -> None:
    """Write the key file that opens the secrets of a bench's store."""
    path = bench_directory / "manager.key"
    path.touch(0o600)
    path.write_text(bytes(32).hex())


def stopped_manager(directory: Path, reports: int = 60) -> Path:
    """Make the data directory of a manager that stored reports of four agents, and return it.

    One agent was removed, some threats were pruned, there are incidents, blocks, a policy and a dead letter.
    """
    shutil.copytree(_template(reports).name, directory)
    return directory


@functools.cache
def _template(reports: int) -> tempfile.TemporaryDirectory[str]:
    kept = tempfile.TemporaryDirectory()
    directory = Path(kept.name)
    bench = Bench(directory)
    bench.database.execute_sql("PRAGMA synchronous = off")
    token = bench.token(name="first")
    agents = [bench.enroll(f"host-{number}", token) for number in range(4)]
    for number in range(reports):
        agent = agents[number % len(agents)]
        evidence = {"sourceIp": f"203.0.113.{number % 7}", "fileHash": "a" * 64 if number % 5 == 0 else None}
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"r-{number:05}", **evidence))
        if number % 100 == 0:
            bench.pass_time(1)
    bench.pass_time(30)
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "alice"))
    bench.ask(AddBlocks(FLEET, (NewBlock("198.51.100.9", 900.0, "r"),), "alice"))
    bench.receive(topics.THREATS, agents[0].agent_id, b"\xff\x00 no message")
    bench.ask(RemoveAgent(agents[3].agent_id, "alice"))
    bench.pass_time(5)
    old = bench.wall + 1
    bench.store.prune(PruneOrder(bench.wall, old, 0, 0, 0, 0, 0, threats=reports // 6, ids=0, rows=0))
    bench.store.close()
    key_file_of(directory)
    return kept


def store_rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a SQLite store by table, with the columns in the order of their names, sorted as text."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        found = {
            name: _rows(database.execute(f'SELECT * FROM "{name}"'))
            for name in (each._meta.table_name for each in tables.ALL)
        }
    ids = {(*row,) for row in found["stored_id"]}  # agent_number, digest, received_at, threat_id
    for row in _dicts(path, "threat"):
        ids.add((row["agent_number"], row["digest"], row["received_at"], row["threat_id"]))
    found["stored_id"] = sorted(ids, key=str)
    found["meta"] = [row for row in found["meta"] if row[0] != "moved_to"]
    return found


def database_rows(address: DatabaseAddress) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a PostgreSQL database in the same form, without the progress of its own decisions."""
    with psycopg.connect(address.url) as connection:
        found = {
            name: _rows(connection.execute(f'SELECT * FROM "{name}"'.encode()))
            for name in (each._meta.table_name for each in tables.ALL)
        }
    found["meta"] = [row for row in found["meta"] if row[0] != "decided_sequences"]
    return found


def _rows(cursor: Any) -> list[tuple[Any, ...]]:
    names = ["received_at" if each[0] == "stored_at" else each[0] for each in cursor.description]
    places = sorted(range(len(names)), key=names.__getitem__)
    return sorted((tuple(_plain(row[place]) for place in places) for row in cursor.fetchall()), key=str)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _dicts(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f'SELECT * FROM "{table}"')]
