"""Drops the index of threats by event time, which every stored report paid for and no query uses any more.

Periods are counted in buckets, and searches go through the threat index or the index of an address, hash or technique.
"""

from peewee import Database
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql("DROP INDEX threat_event_time")
