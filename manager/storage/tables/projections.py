"""What follows the stored threats: how many there were, and marks by which they are found (docs/decisions/0010)."""

from peewee import AutoField, BigIntegerField, BlobField, CompositeKey, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


class ThreatKindCountTable(Table):
    """How many threats of a severity and type there were in a bucket (`manager.storage.projections.threat_counts`)."""

    seconds = IntegerField()
    bucket = BigIntegerField()
    organization_id = TextField()
    severity = TextField()
    type = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Outlives the threats; in SQLite the rows of counts stand in their key's own order, where they are read."""

        table_name = "threat_kind_count"
        primary_key = CompositeKey("seconds", "bucket", "organization_id", "severity", "type")


class ThreatAgentCountTable(Table):
    """How many threats an agent reported in a bucket, and when the last of them happened."""

    seconds = IntegerField()
    bucket = BigIntegerField()
    agent_number = IntegerField()
    organization_id = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Outlives the threats."""

        table_name = "threat_agent_count"
        primary_key = CompositeKey("seconds", "bucket", "agent_number")


class ThreatSourceTable(Table):
    """The source addresses that counts name, by number."""

    number = AutoField()
    address = TextField(unique=True)
    last_seen = DoubleField()

    class Meta:
        """A number is grouped and compared much faster than an address."""

        table_name = "threat_source"


class ThreatSourceCountTable(Table):
    """How many threats came from a source address in a bucket, and when the last of them happened."""

    seconds = IntegerField()
    bucket = BigIntegerField()
    source_number = IntegerField()
    organization_id = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Outlives the threats."""

        table_name = "threat_source_count"
        primary_key = CompositeKey("seconds", "bucket", "source_number", "organization_id")


class ThreatSliceTable(Table):
    """Threats stored one after the other, first to last: when they were received, and whose they are.

    `agents` are their agents' numbers in ascending order, `places` where in the slice the threat of each stands.
    """

    first = BigIntegerField(primary_key=True)
    last = BigIntegerField()
    earliest = DoubleField()
    latest = DoubleField()
    agents = BlobField()
    places = BlobField()

    class Meta:
        """A row goes when all of its threats are gone."""

        table_name = "threat_slice"


class ThreatMarkTable(Table):
    """Which threats of a slice have a value, as `manager.storage.threat_index.bitmaps` packs it."""

    first = BigIntegerField()
    dimension = TextField()
    value = TextField()
    marks = BlobField()

    class Meta:
        """Grows at its end."""

        table_name = "threat_mark"
        primary_key = CompositeKey("first", "dimension", "value")


class ThreatFollowerTable(Table):
    """Up to which threat each follower of the stored threats has come."""

    name = TextField(primary_key=True)
    last = BigIntegerField()

    class Meta:
        """One row for each follower."""

        table_name = "threat_follower"
