"""The site that an agent states itself in a column of its own; it chooses no policy group any more."""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql("ALTER TABLE agent ADD COLUMN reported_site TEXT")
    # Agents keep the site that they are at, and with it their groups; it is a stated one where no token and no operator
    # named it.
    db.execute_sql(
        "UPDATE agent SET reported_site = site WHERE instr(operator_set, '\"site\"') = 0 AND NOT EXISTS ("
        "SELECT 1 FROM enrollment_token WHERE enrollment_token.token_id = agent.token_id "
        "AND enrollment_token.site = agent.site)"
    )
