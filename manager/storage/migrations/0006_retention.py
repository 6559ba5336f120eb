"""Retention for every growing table; plain names for the tables of projections."""

from peewee import BigIntegerField, Database, SqliteDatabase
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql("ALTER TABLE threat_follower RENAME TO projection_progress")
    db.execute_sql("ALTER TABLE threat_mark RENAME TO threat_bitmap")
    db.execute_sql("ALTER TABLE threat_bitmap RENAME COLUMN marks TO bits")
    migrator.migrate(
        migrator.add_column("agent", "last_sequence", BigIntegerField(null=True)),
        migrator.drop_index("stored_id", "storedidtable_received_at"),
    )
    db.execute_sql(
        "UPDATE agent SET last_sequence = coalesce((SELECT max(sequence) FROM threat), 0) WHERE removed_at IS NOT NULL"
    )
    if isinstance(db, SqliteDatabase):
        db.execute_sql("DROP TRIGGER audit_entry_no_delete")
        db.execute_sql(
            "CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry "
            "WHEN OLD.at >= (SELECT max(at) FROM audit_entry) - 7776000 "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to for 90 days'); END"
        )
