"""The databases of tests: one that a test used is blank for the next, and one that it changed is not used again."""

import psycopg
import pytest

from manager.storage.postgresql.address import DatabaseAddress
from tests.support.postgresql import Postgresql

pytestmark = pytest.mark.postgresql


def used(cluster: Postgresql, *statements: str) -> DatabaseAddress:
    """Return a database that was dropped after a test with these statements."""
    address = cluster.create_migrated()
    name = address.url.rsplit("/", 1)[1]
    for statement in statements:
        cluster.execute(statement, name)
    cluster.drop(address)
    return address


def test_rows_sequences_and_partitions_are_as_in_a_new_one(postgresql_cluster: Postgresql) -> None:
    """Any rows that a test wrote or removed are put right, however far it counted."""
    before = used(
        postgresql_cluster,
        "INSERT INTO meta VALUES ('left', 'behind')",
        "INSERT INTO audit_entry (at, actor, action, target) VALUES (1, 'admin', 'agent.removed', 'ag-1')",
        "UPDATE lease SET epoch = 7",
        "DELETE FROM projection_progress",
        "SELECT nextval('threat_sequence') FROM generate_series(1, 9)",
        "CREATE TABLE surplus ()",
    )
    after = postgresql_cluster.create_migrated()
    name = after.url.rsplit("/", 1)[1]
    try:
        assert after == before
        assert postgresql_cluster.execute("SELECT * FROM meta WHERE key = 'left'", name) == []
        assert postgresql_cluster.execute("SELECT * FROM audit_entry", name) == []
        with pytest.raises(psycopg.errors.RestrictViolation):
            postgresql_cluster.execute("TRUNCATE audit_entry", name)
        assert postgresql_cluster.execute("SELECT epoch FROM lease", name) == [(0,)]
        assert len(postgresql_cluster.execute("SELECT * FROM projection_progress", name)) > 1
        assert postgresql_cluster.execute("SELECT nextval('threat_sequence')", name) == [(1,)]
        assert postgresql_cluster.execute("SELECT 1 FROM pg_class WHERE relname = 'surplus'", name) == []
    finally:
        postgresql_cluster.drop(after)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER SEQUENCE threat_sequence MAXVALUE 10",
        "ALTER TABLE meta ADD COLUMN other text",
        "ALTER TABLE meta ALTER COLUMN value SET DEFAULT 'x'",
        "DROP TABLE console_session",
        "REVOKE ALL ON meta FROM panguard",
        "CREATE INDEX surplus ON meta (value)",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = on', current_database()); END $$",
    ],
)
def test_a_changed_one_is_not_used_again(postgresql_cluster: Postgresql, statement: str) -> None:
    """A schema, a setting or rights that differ end with the test."""
    changed = used(postgresql_cluster, statement)
    assert changed not in postgresql_cluster._spares
    name = changed.url.rsplit("/", 1)[1]
    assert postgresql_cluster.execute("SELECT 1 FROM pg_database WHERE datname = %s", params=(name,)) == []
