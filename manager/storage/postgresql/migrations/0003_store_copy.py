"""The copy of a SQLite store into this database: whose it is, and how far it is."""

from peewee import PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

OLDEST = 2

_TABLES = """
CREATE TABLE store_copy (
    id smallint PRIMARY KEY CHECK (id = 1),
    copy_id text COLLATE "C" NOT NULL,
    store_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    begun_at double precision NOT NULL,
    completed_at double precision
);

CREATE TABLE store_copy_progress (
    table_name text COLLATE "C" PRIMARY KEY,
    last_key text COLLATE "C" NOT NULL,
    row_count bigint NOT NULL,
    digest bytea NOT NULL,
    is_copied boolean NOT NULL
);
"""


def up(_migrator: SchemaMigrator, db: PostgresqlDatabase) -> None:
    db.connection().execute(_TABLES)
