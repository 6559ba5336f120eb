"""Manual blocks beside emergency entries: who added each, and the never-block rule that it overrides."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    for column in ("added_by", "overrides"):
        db.execute_sql(f"ALTER TABLE emergency_entry ADD COLUMN {column} TEXT")
    db.execute_sql('CREATE INDEX "emergency_entry_value" ON "emergency_entry" ("value")')
