"""Reported measures, and what followed them: logins, agents that report logins, and lifts."""

from peewee import BigAutoField, BooleanField, CompositeKey, Database, DoubleField, IntegerField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class Stored(Model):
        class Meta:
            database = db

    class ReportedMeasureTable(Stored):
        sequence = BigAutoField()
        organization_id = TextField()
        site = TextField()
        address = TextField()
        agent_number = IntegerField()
        at = DoubleField()
        received_at = DoubleField()
        rule_id = TextField()
        kind = TextField()
        guesses = IntegerField()
        outcome = TextField()
        connections = IntegerField(null=True)

        class Meta:
            table_name = "reported_measure"
            indexes = ((("organization_id", "site", "address", "at"), False),)

    class HostLoginTable(Stored):
        agent_number = IntegerField()
        organization_id = TextField()
        site = TextField()
        address = TextField()
        user = TextField()
        guessed = BooleanField()
        at = DoubleField(index=True)

        class Meta:
            table_name = "host_login"
            primary_key = CompositeKey("agent_number", "address", "user", "guessed")
            indexes = ((("agent_number", "at"), False),)

    class LoginReporterTable(Stored):
        agent_number = IntegerField(primary_key=True)
        since = DoubleField()

        class Meta:
            table_name = "login_reporter"

    class BlockLiftTable(Stored):
        id = BigAutoField()
        organization_id = TextField()
        site = TextField()
        address = TextField()
        at = DoubleField()
        kind = TextField()
        author = TextField()

        class Meta:
            table_name = "block_lift"

    db.create_tables([ReportedMeasureTable, HostLoginTable, LoginReporterTable, BlockLiftTable])
