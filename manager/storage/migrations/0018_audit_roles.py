"""The role of the token by which an audited change was made."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql("ALTER TABLE audit_entry ADD COLUMN role TEXT")
