"""Adds vouched evidence of reports, health and enforcement of agents, and acceptance apart from immunity."""

from peewee import BigIntegerField, Database, DoubleField, TextField
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: Database) -> None:
    for table, column, type_ in (
        ("threat", "vouched", "BIGINT NOT NULL DEFAULT 0"),
        ("incident_member", "vouched", "BOOLEAN NOT NULL DEFAULT FALSE"),
        ("agent", "sources", "TEXT NOT NULL DEFAULT '[]'"),
    ):
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} {type_}")  # copies no row, however large the table
    migrator.migrate(
        migrator.rename_column("incident_response", "immunity", "acceptance"),
        migrator.add_column("incident_response", "immunity", TextField(null=True)),
        migrator.add_column("emergency_entry", "number", BigIntegerField(null=True)),
        migrator.add_column("agent", "health", TextField(null=True)),
        migrator.add_column("agent", "enforcement", TextField(null=True)),
        migrator.add_column("agent", "mode_wanted", TextField(null=True)),
        migrator.add_column("agent", "trial_seconds_left", DoubleField(null=True)),
        migrator.add_column("agent", "enforced", TextField(null=True)),
    )
    # A store in use goes on as before, until its operator chooses; a new one asks for vouched reports.
    used = db.execute_sql("SELECT count(*) FROM agent").fetchone()[0]
    chosen = "unchosen" if used else "vouched"
    db.execute_sql(f"INSERT INTO meta (key, value) VALUES ('organization_response', '{chosen}')")
