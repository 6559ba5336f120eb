"""The schema: what the migrations make, and what they do to a store that already holds something."""

import json
from pathlib import Path

import pytest
from peewee import SqliteDatabase
from playhouse.migrations import Runner
from playhouse.schema_diff import diff_models

from manager.engine.batch import Changes, ThreatRow
from manager.errors import SetupError
from manager.storage import tables
from manager.storage.connection import open_reader, open_store
from manager.storage.migrate import MIGRATIONS, migrate
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore


def test_the_migrations_create_the_models_tables(tmp_path: Path) -> None:
    """All migrations together create exactly the tables, columns and indexes of the models."""
    path = tmp_path / "store.db"
    database = open_store(path)
    tables.database.initialize(database)
    applied = migrate(database, path)
    assert applied == sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py"))
    assert not diff_models(database, list(tables.ALL))
    assert migrate(database, path) == []
    database.close()


def _insert_older(database: SqliteDatabase, row: ThreatRow, later: set[str]) -> None:
    """Insert a threat into an older schema, without the columns that came later."""
    older = {name: value for name, value in row._asdict().items() if name not in later}
    sql = f"INSERT INTO threat ({', '.join(older)}) VALUES ({', '.join('?' * len(older))})"
    database.execute_sql(sql, tuple(older.values()))


@pytest.mark.parametrize(("agents", "choice"), [(0, "vouched"), (1, "unchosen")])
def test_a_store_in_use_keeps_the_reach_of_its_blocks(tmp_path: Path, agents: int, choice: str) -> None:
    """A store with agents goes on counting any of them until somebody chooses; a new one asks for vouched reports."""
    path = tmp_path / "store.db"
    database = open_store(path)
    Runner(database, str(MIGRATIONS)).up("0009_indicator_evidence")
    for number in range(agents):
        database.execute_sql(
            "INSERT INTO agent (number, agent_id, organization_id, hostname, os, arch, version, tags, addresses, "
            "gateways, door, registered_at, state, state_since, reason, session, heartbeat_sequence, clock_session, "
            "events_processed, events_total, threats_detected, actions_executed, policy_version, blocklist_sequence) "
            "VALUES (?, 'ag-1', 'acme', 'a', 'o', 'x', '1', '[]', '[]', '[]', 'mqtt', 0, 'online', 0, 'birth', 1, 0, "
            "1, 0, 0, 0, 0, 0, 0)",
            (number,),
        )
    migrate(database, path)
    stored = database.execute_sql("SELECT value FROM meta WHERE key = 'organization_response'").fetchone()
    assert stored == (choice,)
    database.close()


@pytest.mark.parametrize(
    ("token_tags", "tags", "reported"),
    [(None, [], ["web"]), ([], [], ["web"]), (["web"], ["web"], []), (["db"], [], ["web"])],
)
def test_only_tags_that_the_token_fixed_stay_assigned(
    tmp_path: Path, token_tags: list[str] | None, tags: list[str], reported: list[str]
) -> None:
    """Tags of an older store become reported ones, unless the agent's enrollment token has exactly these."""
    path = tmp_path / "store.db"
    database = open_store(path)
    Runner(database, str(MIGRATIONS)).up("0014_manual_blocks")
    if token_tags is not None:
        database.execute_sql(
            "INSERT INTO enrollment_token (token_id, proof_key, created_at, tags, uses) VALUES ('t', x'00', 0, ?, 1)",
            (json.dumps(token_tags),),
        )
    database.execute_sql(
        "INSERT INTO agent (number, agent_id, organization_id, hostname, os, arch, version, tags, addresses, "
        "gateways, door, token_id, registered_at, state, state_since, reason, session, heartbeat_sequence, "
        "clock_session, events_processed, events_total, threats_detected, actions_executed, policy_version, "
        "blocklist_sequence) VALUES (1, 'ag-1', 'acme', 'a', 'o', 'x', '1', '[\"web\"]', '[]', '[]', 'mqtt', 't', 0, "
        "'online', 0, 'birth', 1, 0, 1, 0, 0, 0, 0, 0, 0)"
    )
    migrate(database, path)
    stored = database.execute_sql("SELECT tags, reported_tags, operator_set FROM agent").fetchone()
    assert [json.loads(column) for column in stored] == [tags, reported, []]
    database.close()


@pytest.mark.parametrize(
    ("token_site", "operator_set", "reported"),
    [(None, "[]", "berlin"), ("bonn", "[]", "berlin"), ("berlin", "[]", None), (None, '["site"]', None)],
)
def test_agents_keep_the_site_that_they_are_at(
    tmp_path: Path, token_site: str | None, operator_set: str, reported: str | None
) -> None:
    """One that neither the token nor an operator named is shown as stated, too."""
    path = tmp_path / "store.db"
    database = _store_of(path, "0017_token_names")
    database.execute_sql(
        "INSERT INTO enrollment_token (token_id, proof_key, created_at, tags, uses, site) VALUES "
        "('t', x'00', 0, '[]', 1, ?)",
        (token_site,),
    )
    database.execute_sql("UPDATE agent SET site = 'berlin', token_id = 't', operator_set = ?", (operator_set,))
    migrate(database, path)
    assert database.execute_sql("SELECT site, reported_site FROM agent").fetchone() == ("berlin", reported)
    database.close()


@pytest.mark.parametrize("release", sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py"))[:-1])
def test_an_older_store_is_backed_up_and_migrated(tmp_path: Path, release: str) -> None:
    """A store of any earlier schema keeps its rows, and a copy of it is written beside it."""
    path = tmp_path / "store.db"
    database = open_store(path)
    Runner(database, str(MIGRATIONS)).up(release)
    database.execute_sql("INSERT INTO meta (key, value) VALUES ('kept', 'yes')")
    tables.database.initialize(database)
    pending = migrate(database, path)
    assert not diff_models(database, list(tables.ALL))
    assert database.execute_sql("SELECT value FROM meta WHERE key = 'kept'").fetchone() == ("yes",)
    database.close()
    backup = tmp_path / f"store.db.before-{pending[0]}"
    assert backup.stat().st_mode & 0o777 == 0o600
    copy = SqliteDatabase(str(backup))
    assert copy.execute_sql("SELECT value FROM meta WHERE key = 'kept'").fetchone() == ("yes",)
    copy.close()


def _store_of(path: Path, release: str) -> SqliteDatabase:
    """Return a store of an earlier schema with one agent."""
    database = open_store(path)
    Runner(database, str(MIGRATIONS)).up(release)
    tables.database.initialize(database)
    database.execute_sql(
        "INSERT INTO agent (number, agent_id, organization_id, hostname, os, arch, version, tags, addresses, "
        "gateways, door, registered_at, state, state_since, reason, session, heartbeat_sequence, clock_session, "
        "events_processed, events_total, threats_detected, actions_executed, policy_version, blocklist_sequence) "
        "VALUES (1, 'ag-1', 'acme', 'a', 'o', 'x', '1', '[]', '[]', '[]', 'mqtt', 0, 'online', 0, 'birth', 1, 7, 1, "
        "0, 5, 0, 0, 0, 0)"
    )
    return database


def test_counts_are_carried_over_and_threats_are_counted_once(tmp_path: Path) -> None:
    """Counts of an earlier schema, of pruned threats too, stay the same; new threats are added to them."""
    path = tmp_path / "store.db"
    database = _store_of(path, "0004_audit")
    now = 1_800_000_000.0
    for dimension, bucket, value in (
        ("kind", now // 3600 * 3600, "high brute force"),
        ("agent", now // 86_400 * 86_400, "1"),
        ("source", now // 86_400 * 86_400, "192.0.2.1"),
    ):
        database.execute_sql("INSERT INTO threat_count VALUES (?, ?, 'acme', ?, 5, ?)", (dimension, bucket, value, now))
    row = ThreatRow(1, "t", bytes(16), now, now, True, "brute force", "high", 90.0, None, "192.0.2.1", None, "{}")
    _insert_older(database, row, {"ignored", "vouched"})
    migrate(database, path)
    PeeweeStore(database, bytes(32)).commit(Changes(threats=[row._replace(threat_id="u")]))
    reader = open_reader(path)
    for organizations in (None, ("acme",)):
        found = StoreQueries(reader).threat_summary(now=now, period="7d", organizations=organizations)
        assert (found["byType"], found["highCount"]) == ({"brute force": 6}, 6)
        assert [line["count"] for line in found["topAgents"] + found["topSourceIps"]] == [6, 6]
        shorter = StoreQueries(reader).threat_summary(now=now, period="1h", organizations=organizations)
        assert (shorter["total"], shorter["topSourceIps"][0]["count"]) == (2, 2)
    reader.close()
    database.close()


def test_each_migration_has_a_number_of_its_own() -> None:
    """Two with one number would run in the order of their names, which says nothing."""
    numbers = [int(path.name.split("_", 1)[0]) for path in sorted(MIGRATIONS.glob("[0-9]*.py"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """A store with a migration that this release does not have is refused with the remedy."""
    path = tmp_path / "store.db"
    database = open_store(path)
    tables.database.initialize(database)
    migrate(database, path)
    database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
    with pytest.raises(SetupError, match="newer release"):
        migrate(database, path)
    database.close()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    """The error names the file and the remedy."""
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database, however long it may go on" * 100)
    with pytest.raises(SetupError, match="backup"):
        open_store(path)


def test_evidence_of_stored_threats_is_carried_over(tmp_path: Path) -> None:
    """Logins and system paths in the documents of an earlier schema become rows; malformed ones are left out."""
    path = tmp_path / "store.db"
    database = _store_of(path, "0008_ignored_indicators")
    now = 1_800_000_000.0
    documents = [
        {"threat": {"evidence": {"sourceIp": "203.0.113.9", "lastLogin": now - 60}}},
        {"threat": {"evidence": {"fileHash": "a" * 64, "filePath": "/bin/ls"}}},
        {"threat": {"evidence": ["lastLogin"]}, "lastLogin": 1},
        {"threat": {"evidence": {"sourceIp": "203.0.113.8"}}},
    ]
    rows = [
        ThreatRow(
            1, f"t-{number}", bytes(16), now, now, True, "x", "high", 90.0, None, None, None, json.dumps(document)
        )
        for number, document in enumerate(documents)
    ]
    for row in rows:
        _insert_older(database, row, {"vouched"})
    migrate(database, path)
    found = [
        (indicator.value, *observed) for indicator, observed in PeeweeStore(database, bytes(32)).archive.evidence()
    ]
    assert found == [("203.0.113.9", now, now - 60, "ag-1", None), ("a" * 64, now, None, "", "/bin/ls")]
    database.close()
