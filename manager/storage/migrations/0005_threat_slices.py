"""Slices of the stored threats for the threat index, and counts in buckets of several lengths.

Counts of hours and days are copied; those of shorter buckets begin with the stored threats. The manager fills the
slices later.
"""

from peewee import (
    AutoField,
    BigIntegerField,
    BlobField,
    CompositeKey,
    Database,
    DoubleField,
    IntegerField,
    Model,
    SqliteDatabase,
    TextField,
)
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class ThreatKindCountTable(Model):
        seconds = IntegerField()
        bucket = BigIntegerField()
        organization_id = TextField()
        severity = TextField()
        type = TextField()
        count = BigIntegerField()
        last_seen = DoubleField()

        class Meta:
            database = db
            table_name = "threat_kind_count"
            primary_key = CompositeKey("seconds", "bucket", "organization_id", "severity", "type")
            without_rowid = isinstance(db, SqliteDatabase)

    class ThreatAgentCountTable(Model):
        seconds = IntegerField()
        bucket = BigIntegerField()
        agent_number = IntegerField()
        organization_id = TextField()
        count = BigIntegerField()
        last_seen = DoubleField()

        class Meta:
            database = db
            table_name = "threat_agent_count"
            primary_key = CompositeKey("seconds", "bucket", "agent_number")
            without_rowid = isinstance(db, SqliteDatabase)

    class ThreatSourceTable(Model):
        number = AutoField()
        address = TextField(unique=True)
        last_seen = DoubleField()

        class Meta:
            database = db
            table_name = "threat_source"

    class ThreatSourceCountTable(Model):
        seconds = IntegerField()
        bucket = BigIntegerField()
        source_number = IntegerField()
        organization_id = TextField()
        count = BigIntegerField()
        last_seen = DoubleField()

        class Meta:
            database = db
            table_name = "threat_source_count"
            primary_key = CompositeKey("seconds", "bucket", "source_number", "organization_id")
            without_rowid = isinstance(db, SqliteDatabase)

    class ThreatSliceTable(Model):
        first = BigIntegerField(primary_key=True)
        last = BigIntegerField()
        earliest = DoubleField()
        latest = DoubleField()
        agents = BlobField()
        places = BlobField()

        class Meta:
            database = db
            table_name = "threat_slice"

    class ThreatMarkTable(Model):
        first = BigIntegerField()
        dimension = TextField()
        value = TextField()
        marks = BlobField()

        class Meta:
            database = db
            table_name = "threat_mark"
            primary_key = CompositeKey("first", "dimension", "value")
            without_rowid = isinstance(db, SqliteDatabase)

    class ThreatFollowerTable(Model):
        name = TextField(primary_key=True)
        last = BigIntegerField()

        class Meta:
            database = db
            table_name = "threat_follower"

    db.create_tables(
        [
            ThreatKindCountTable, ThreatAgentCountTable, ThreatSourceTable, ThreatSourceCountTable, ThreatSliceTable,
            ThreatMarkTable, ThreatFollowerTable,
        ]
    )  # fmt: skip
    _carry_over(db)
    _count_short(db)
    for name in ("kinds", "agents", "sources"):
        db.execute_sql(
            f"INSERT INTO threat_follower (name, last) SELECT '{name}', coalesce(max(sequence), 0) FROM threat"
        )
    db.execute_sql("INSERT INTO threat_follower (name, last) VALUES ('slices', 0)")
    db.execute_sql("DROP TABLE threat_count")


def _carry_over(db: Database) -> None:
    """Copy the old counts: `kind` (severity, space, type) was counted by the hour, other dimensions by the day."""
    db.execute_sql(
        "INSERT INTO threat_kind_count (seconds, bucket, organization_id, severity, type, count, last_seen) "
        "SELECT 3600, bucket, organization_id, substr(value, 1, instr(value, ' ') - 1), "
        "substr(value, instr(value, ' ') + 1), count, last_seen FROM threat_count WHERE dimension = 'kind'"
    )
    db.execute_sql(
        "INSERT INTO threat_kind_count (seconds, bucket, organization_id, severity, type, count, last_seen) "
        "SELECT 86400, bucket / 86400 * 86400, organization_id, severity, type, sum(count), max(last_seen) "
        "FROM threat_kind_count GROUP BY 2, 3, 4, 5"
    )
    db.execute_sql(
        "INSERT INTO threat_agent_count (seconds, bucket, agent_number, organization_id, count, last_seen) "
        "SELECT 86400, bucket, CAST(value AS INTEGER), organization_id, count, last_seen FROM threat_count "
        "WHERE dimension = 'agent'"
    )
    db.execute_sql(
        "INSERT INTO threat_source (address, last_seen) SELECT value, max(last_seen) FROM threat_count "
        "WHERE dimension = 'source' GROUP BY value"
    )
    db.execute_sql(
        "INSERT INTO threat_source_count (seconds, bucket, source_number, organization_id, count, last_seen) "
        "SELECT 86400, bucket, number, organization_id, count, threat_count.last_seen FROM threat_count "
        "JOIN threat_source ON address = value WHERE dimension = 'source'"
    )


def _count_short(db: Database) -> None:
    """Count the threats of the last twelve hours in the new, shorter buckets."""
    agent, source = "JOIN agent ON agent.number = agent_number", "JOIN threat_source ON address = source_ip"
    for table, seconds, key, join in (
        ("threat_kind_count", 300, "organization_id, severity, type", agent),
        ("threat_agent_count", 3600, "agent_number, organization_id", agent),
        ("threat_agent_count", 21600, "agent_number, organization_id", agent),
        ("threat_source_count", 3600, "threat_source.number, organization_id", f"{agent} {source}"),
        ("threat_source_count", 21600, "threat_source.number, organization_id", f"{agent} {source}"),
    ):
        columns = key.replace("threat_source.number", "source_number")
        bucket = f"CAST(event_time / {seconds} AS INTEGER) * {seconds}"
        db.execute_sql(
            f"INSERT INTO {table} (seconds, bucket, {columns}, count, last_seen) "
            f"SELECT {seconds}, {bucket}, {key}, count(*), max(event_time) FROM threat {join} "
            "WHERE event_time >= (SELECT max(event_time) - 43200 FROM threat) "
            f"GROUP BY 2, {', '.join(str(3 + place) for place in range(key.count(',') + 1))}"
        )
