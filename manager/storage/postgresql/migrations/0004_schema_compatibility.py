"""The oldest migration that a release must know to work with the schema, and the newest one that each manager knows."""

from peewee import PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

OLDEST = 2

# A manager of a release that states no number made its row in a table of the second migration.
_TABLES = """
CREATE TABLE schema_compatibility (
    id smallint PRIMARY KEY CHECK (id = 1),
    oldest integer NOT NULL
);
INSERT INTO schema_compatibility (id, oldest) VALUES (1, 2);

ALTER TABLE manager ADD COLUMN migration integer NOT NULL DEFAULT 2;
"""


def up(_migrator: SchemaMigrator, db: PostgresqlDatabase) -> None:
    db.connection().execute(_TABLES)
