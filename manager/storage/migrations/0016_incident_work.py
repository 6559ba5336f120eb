"""Work of people on incidents, and the indexes that find an incident by its value and its audit entries."""

from peewee import AutoField, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class IncidentWorkTable(Model):
        id = AutoField()
        incident_id = TextField(index=True)
        at = DoubleField()
        author = TextField()
        action = TextField()
        note = TextField(null=True)

        class Meta:
            database = db
            table_name = "incident_work"

    db.create_tables([IncidentWorkTable])
    db.execute_sql('CREATE INDEX "incident_value_opened_at" ON "incident" ("value", "opened_at")')
    db.execute_sql('CREATE INDEX "audit_entry_target" ON "audit_entry" ("target")')
