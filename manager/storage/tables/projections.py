"""Tables of projections of the stored threats: counts, and the threat index (docs/decisions/0010)."""

from peewee import AutoField, BigIntegerField, BlobField, CompositeKey, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


class ThreatKindCountTable(Table):
    """Table of threat counts by severity, type and time bucket (`manager.storage.projections.threat_counts`).

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
    """Table of threat counts by agent and time bucket, with the event time of the last threat."""

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
    """Table of source addresses and their numbers; numbers are grouped and compared faster than addresses."""

    number = AutoField()
    address = TextField(unique=True)
    last_seen = DoubleField()

    class Meta:
        """Peewee options: table name."""

        table_name = "threat_source"


class ThreatSourceCountTable(Table):
    """Table of threat counts by source address and time bucket, with the event time of the last threat."""

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
    """Table of slices, each of consecutive threats: their times of receipt and their agents.

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
    """Table of bitmaps: the threats of a slice that have one value; see `manager.storage.threat_index.bitmaps`."""

    first = BigIntegerField()
    dimension = TextField()
    value = TextField()
    bits = BlobField()

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "threat_bitmap"
        primary_key = CompositeKey("first", "dimension", "value")


class ProjectionProgressTable(Table):
    """Table of each projection's progress: the sequence of the last processed threat."""

    name = TextField(primary_key=True)
    last = BigIntegerField()

    class Meta:
        """Peewee options: table name."""

        table_name = "projection_progress"
