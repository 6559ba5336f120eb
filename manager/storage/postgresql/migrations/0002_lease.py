"""The lease of the manager that leads, and the managers of the database."""

from peewee import PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

OLDEST = 2

# `epoch` is part of a key: taking the lease waits for the transactions that lock the key, renewing it does not.
_TABLES = """
CREATE TABLE lease (
    id smallint PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL,
    holder text COLLATE "C",
    beat bigint NOT NULL,
    since double precision NOT NULL,
    UNIQUE (id, epoch)
) WITH (fillfactor = 10);
INSERT INTO lease (id, epoch, holder, beat, since) VALUES (1, 0, NULL, 0, 0);

CREATE TABLE manager (
    id text COLLATE "C" PRIMARY KEY,
    hostname text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    broker text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    features text[] NOT NULL,
    role text COLLATE "C" NOT NULL,
    seen_at double precision NOT NULL
) WITH (fillfactor = 50);
"""


def up(_migrator: SchemaMigrator, db: PostgresqlDatabase) -> None:
    db.connection().execute(_TABLES)
