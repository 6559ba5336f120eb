"""Projections of the stored threats: counts, and the threat index (docs/decisions/0010)."""

from peewee import AutoField, BigIntegerField, BlobField, CompositeKey, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


class ThreatKindCountTable(Table):
    """Threats of a severity and type in a bucket (`manager.storage.projections.threat_counts`)."""

    seconds = IntegerField()
    bucket = BigIntegerField()
    organization_id = TextField()
    severity = TextField()
    type = TextField()
    count = BigIntegerField()
    last_seen = DoubleField()

    class Meta:
        """Outlives the threats; in SQLite a WITHOUT ROWID table, as all counts are: rows lie in key order."""

        table_name = "threat_kind_count"
        primary_key = CompositeKey("seconds", "bucket", "organization_id", "severity", "type")


class ThreatAgentCountTable(Table):
    """Threats of an agent in a bucket, and the event time of the last one."""

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
    """A source address and its number in the counts."""

    number = AutoField()
    address = TextField(unique=True)
    last_seen = DoubleField()

    class Meta:
        """Numbers are grouped and compared much faster than addresses."""

        table_name = "threat_source"


class ThreatSourceCountTable(Table):
    """Threats from a source address in a bucket, and the event time of the last one."""

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
    """A slice of consecutive threats: their times of receipt and their agents.

    `agents` are the agent numbers in ascending order, `places` the position of each one's threat in the slice.
    """

    first = BigIntegerField(primary_key=True)
    last = BigIntegerField()
    earliest = DoubleField()
    latest = DoubleField()
    agents = BlobField()
    places = BlobField()

    class Meta:
        """A row is deleted when all of its threats are."""

        table_name = "threat_slice"


class ThreatBitmapTable(Table):
    """The bitmap of the threats of a slice that have a value; see `manager.storage.threat_index.bitmaps`."""

    first = BigIntegerField()
    dimension = TextField()
    value = TextField()
    bits = BlobField()

    class Meta:
        """Appended to in key order."""

        table_name = "threat_bitmap"
        primary_key = CompositeKey("first", "dimension", "value")


class ProjectionProgressTable(Table):
    """The progress of a projection: the sequence of the last threat that it has taken in."""

    name = TextField(primary_key=True)
    last = BigIntegerField()

    class Meta:
        """One row for each projection."""

        table_name = "projection_progress"
