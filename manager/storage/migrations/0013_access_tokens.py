"""Access tokens of people and programs, by name, with the SHA-256 of their text."""

from peewee import BlobField, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class AccessTokenTable(Model):
        name = TextField(primary_key=True)
        digest = BlobField(unique=True)
        role = TextField()
        organizations = TextField(default="[]")
        created_at = DoubleField()
        rotated_at = DoubleField()
        expires_at = DoubleField(null=True)
        last_used_at = DoubleField(null=True)
        revoked_at = DoubleField(null=True)

        class Meta:
            database = db
            table_name = "access_token"
            legacy_table_names = False

    db.create_tables([AccessTokenTable])
