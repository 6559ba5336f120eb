"""The manager's own secrets in the store, sealed with the key file."""

from peewee import BlobField, Database, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class SealedValueTable(Model):
        name = TextField(primary_key=True)
        value = BlobField()

        class Meta:
            database = db
            table_name = "sealed_value"

    db.create_tables([SealedValueTable])
