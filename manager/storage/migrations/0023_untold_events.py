"""Events that tell of an intrusion, kept beyond the bound of the event table until their channels have taken them."""

from peewee import BigIntegerField, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class UntoldEventTable(Model):
        sequence = BigIntegerField(primary_key=True)
        at = DoubleField()
        name = TextField()
        severity = TextField()
        organization_id = TextField(null=True)
        site = TextField(null=True)
        alerting = TextField()
        document = TextField()

        class Meta:
            database = db
            table_name = "untold_event"

    db.create_tables([UntoldEventTable])
