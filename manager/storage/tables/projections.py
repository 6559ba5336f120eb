"""Projections of the stored threats: counts, and the threat index (docs/decisions/0010)."""

from peewee import AutoField, BigIntegerField, BlobField, CompositeKey, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


class ThreatKindCountTable(Table):
    """The number of threats of a severity and type in a bucket (`manager.storage.projections.threat_counts`).

    Like all counts, it outlives the threats; in SQLite it is a WITHOUT ROWID table, with rows in key order.
    """

    seconds = IntegerField()
    bucket = BigIntegerField()
    organization_id = TextField()
    severity = TextField()
    type = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "threat_kind_count"
        primary_key = CompositeKey("seconds", "bucket", "organization_id", "severity", "type")


class ThreatAgentCountTable(Table):
    """The number of threats of an agent in a bucket, and the event time of the last one."""

    seconds = IntegerField()
    bucket = BigIntegerField()
    agent_number = IntegerField()
    organization_id = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "threat_agent_count"
        primary_key = CompositeKey("seconds", "bucket", "agent_number")


class ThreatSourceTable(Table):
    """A source address and its number in the counts; numbers are grouped and compared faster than addresses."""

    number = AutoField()
    address = TextField(unique=True)
    last_seen = DoubleField()

    class Meta:
        """Peewee options: table name."""

        table_name = "threat_source"


class ThreatSourceCountTable(Table):
    """The number of threats from a source address in a bucket, and the event time of the last one."""

    seconds = IntegerField()
    bucket = BigIntegerField()
    source_number = IntegerField()
    organization_id = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "threat_source_count"
        primary_key = CompositeKey("seconds", "bucket", "source_number", "organization_id")


class ThreatSliceTable(Table):
    """A slice of consecutive threats: their times of receipt and their agents.

    `agents` are the agent numbers in ascending order, `places` the position of each agent's threat in the slice.
    A row is deleted after all of its threats.
    """

    first = BigIntegerField(primary_key=True)
    last = BigIntegerField()
    earliest = DoubleField()
    latest = DoubleField()
    agents = BlobField()
    places = BlobField()

    class Meta:
        """Peewee options: table name."""

        table_name = "threat_slice"


class ThreatBitmapTable(Table):
    """The bitmap of the threats in a slice that have a certain value; see `manager.storage.threat_index.bitmaps`."""

    first = BigIntegerField()
    dimension = TextField()
    value = TextField()
    bits = BlobField()

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "threat_bitmap"
        primary_key = CompositeKey("first", "dimension", "value")


class ProjectionProgressTable(Table):
    """The progress of a projection: the sequence of the last threat that it has processed."""

    name = TextField(primary_key=True)
    last = BigIntegerField()

    class Meta:
        """Peewee options: table name."""

        table_name = "projection_progress"
