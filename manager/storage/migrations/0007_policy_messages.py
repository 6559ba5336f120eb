"""A message with each policy revision: why it was made, in its author's words."""

from peewee import Database, TextField
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: Database) -> None:  # noqa: ARG001 -- every step has both
    migrator.migrate(migrator.add_column("policy_revision", "message", TextField(null=True)))
