"""Threats that a person recognized as their own doing, such as a login after mistyped passwords."""

from peewee import CompositeKey, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class RecognizedThreatTable(Model):
        threat_id = TextField()
        agent_id = TextField()
        at = DoubleField(index=True)
        author = TextField()
        note = TextField(null=True)

        class Meta:
            database = db
            table_name = "recognized_threat"
            primary_key = CompositeKey("threat_id", "agent_id")

    db.create_tables([RecognizedThreatTable])
