"""The schema of a new database: the tables that SQLite's first 29 migrations make; threats are in partitions."""

from pathlib import Path

from peewee import PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

OLDEST = 1

_BASELINE = Path(__file__).parent / "baseline"


def up(_migrator: SchemaMigrator, db: PostgresqlDatabase) -> None:
    for name in ("agents", "threats", "projections", "incidents", "protection", "operators", "notifications"):
        db.connection().execute((_BASELINE / f"{name}.sql").read_text("utf-8"))
