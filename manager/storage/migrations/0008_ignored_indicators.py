"""The indicators of a threat that were on the allowlist at its receipt; of those stored before, none is known."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    # The migrator would write every row of the largest table.
    db.execute_sql("ALTER TABLE threat ADD COLUMN ignored INTEGER NOT NULL DEFAULT 0")
