"""The audit log, protected against changes by triggers. A store in PostgreSQL revokes these rights instead."""

from peewee import BigAutoField, Database, DoubleField, Model, SqliteDatabase, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class AuditEntryTable(Model):
        id = BigAutoField()
        at = DoubleField(index=True)
        actor = TextField()
        action = TextField()
        target = TextField()
        address = TextField(null=True)
        request_id = TextField(null=True)
        before = TextField(null=True)
        after = TextField(null=True)

        class Meta:
            database = db
            table_name = "audit_entry"
            legacy_table_names = False

    db.create_tables([AuditEntryTable])
    if isinstance(db, SqliteDatabase):
        for change in ("UPDATE", "DELETE"):
            db.execute_sql(
                f"CREATE TRIGGER audit_entry_no_{change.lower()} BEFORE {change} ON audit_entry "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END"
            )
