"""Tags that agents state themselves in a column of their own, and what an operator set of an agent."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    for column in ("reported_tags", "operator_set"):
        db.execute_sql(f"ALTER TABLE agent ADD COLUMN {column} TEXT NOT NULL DEFAULT '[]'")
    db.execute_sql("ALTER TABLE agent ADD COLUMN registered_in TEXT")
    # Only tags that the enrollment token fixed stay: a token with tags replaced those that the agent stated.
    db.execute_sql(
        "UPDATE agent SET reported_tags = tags, tags = '[]' WHERE NOT EXISTS ("
        "SELECT 1 FROM enrollment_token WHERE enrollment_token.token_id = agent.token_id "
        "AND enrollment_token.tags = agent.tags AND enrollment_token.tags <> '[]')"
    )
