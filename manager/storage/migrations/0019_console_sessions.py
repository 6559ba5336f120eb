"""Sessions of the console, by the SHA-256 of their cookie, with the SHA-256 of the token that each stands for."""

from peewee import BlobField, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class ConsoleSessionTable(Model):
        id = TextField(primary_key=True)
        token_digest = BlobField()
        opened_at = DoubleField()
        used_at = DoubleField()

        class Meta:
            database = db
            table_name = "console_session"
            legacy_table_names = False

    db.create_tables([ConsoleSessionTable])
