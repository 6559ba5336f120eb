"""Counts of threats that outlive the threats, filled from the stored threats; the overview reads them."""

from peewee import BigIntegerField, CompositeKey, Database, DoubleField, Model, SqliteDatabase, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class ThreatCountTable(Model):
        dimension = TextField()
        bucket = BigIntegerField()
        organization_id = TextField()
        value = TextField()
        count = BigIntegerField()
        last_seen = DoubleField()

        class Meta:
            database = db
            table_name = "threat_count"
            primary_key = CompositeKey("dimension", "bucket", "organization_id", "value")
            without_rowid = isinstance(db, SqliteDatabase)

    db.create_tables([ThreatCountTable])
    db.execute_sql("CREATE INDEX agent_at_a_glance ON agent (state, state_since, os) WHERE removed_at IS NULL")
    for dimension, seconds, value, condition in (
        ("kind", 3600, "severity || ' ' || type", "1 = 1"),
        ("agent", 86400, "CAST(agent_number AS TEXT)", "1 = 1"),
        ("source", 86400, "source_ip", "source_ip IS NOT NULL"),
    ):
        bucket = f"CAST(event_time / {seconds} AS INTEGER) * {seconds}"
        db.execute_sql(
            "INSERT INTO threat_count (dimension, bucket, organization_id, value, count, last_seen) "
            f"SELECT '{dimension}', {bucket}, organization_id, {value}, count(*), max(event_time) "
            "FROM threat JOIN agent ON agent.number = threat.agent_number "
            f"WHERE {condition} GROUP BY 2, 3, 4"
        )
