"""An index of the events on blocks that hurt, so that the first screen reads no other events."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql(
        "CREATE INDEX IF NOT EXISTS event_of_harm ON event (at) "
        "WHERE name IN ('block_cut_connections', 'block_ineffective', 'block_withdrawn')"
    )
