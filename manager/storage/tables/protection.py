"""Tables of reported measures, and of what followed them: logins, lifts, and the agents that report logins."""

from peewee import BigAutoField, BooleanField, CompositeKey, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


class ReportedMeasureTable(Table):
    """Table of measures that guards took or would have taken; see `manager.domain.protection.measures`.

    The rows outlive their threats, and are deleted in the order of receipt.
    """

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
        """Peewee options: table name and indexes."""

        table_name = "reported_measure"
        indexes = ((("organization_id", "site", "address", "at"), False),)


class HostLoginTable(Table):
    """Table of successful logins at hosts: the newest of each agent, address and user, and whether it looks guessed."""

    agent_number = IntegerField()
    organization_id = TextField()
    site = TextField()
    address = TextField()
    user = TextField()
    guessed = BooleanField()
    at = DoubleField(index=True)

    class Meta:
        """Peewee options: table name, primary key and indexes."""

        table_name = "host_login"
        primary_key = CompositeKey("agent_number", "address", "user", "guessed")
        indexes = ((("agent_number", "at"), False),)


class LoginReporterTable(Table):
    """Table of the agents that report logins, and since when."""

    agent_number = IntegerField(primary_key=True)
    since = DoubleField()

    class Meta:
        """Peewee options: table name."""

        table_name = "login_reporter"


class BlockLiftTable(Table):
    """Table of blocks of an address that a person lifted."""

    id = BigAutoField()
    organization_id = TextField()
    site = TextField()
    address = TextField()
    at = DoubleField()
    kind = TextField()
    author = TextField()

    class Meta:
        """Peewee options: table name."""

        table_name = "block_lift"
