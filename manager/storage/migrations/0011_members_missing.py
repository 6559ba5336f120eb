"""A mark on responses whose incident grew while automatic response was frozen."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql("ALTER TABLE incident_response ADD COLUMN members_missing INTEGER NOT NULL DEFAULT 0")
