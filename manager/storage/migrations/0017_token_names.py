"""Names, rates and rotation of enrollment tokens, and tokens whose agents are ephemeral."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    for column in (
        "name TEXT",
        "rate INTEGER",
        "ephemeral BOOLEAN NOT NULL DEFAULT FALSE",
        "rotated_at DOUBLE PRECISION",
    ):
        db.execute_sql(f"ALTER TABLE enrollment_token ADD COLUMN {column}")
