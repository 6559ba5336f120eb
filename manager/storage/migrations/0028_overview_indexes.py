"""Indexes from which the overview counts agents by operating system and open incidents, without sorting or scanning."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql("CREATE INDEX agent_by_os ON agent (os) WHERE removed_at IS NULL AND os >= ''")
    db.execute_sql("CREATE INDEX incident_open ON incident (organization_id) WHERE closed_at IS NULL")
