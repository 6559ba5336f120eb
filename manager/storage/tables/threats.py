"""Tables of threats, and of the ids of pruned threats."""

from peewee import (
    SQL,
    BigAutoField,
    BlobField,
    BooleanField,
    CompositeKey,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    TextField,
)

from manager.storage.tables.agents import AgentTable
from manager.storage.tables.table import Table


class ThreatTable(Table):
    """Table of stored reports. `sequence` is the order of storing; `document` is the report's JSON without its MAC.

    `ignored` are the bits of the indicators that were on the allowlist at the receipt (`Report.ignored`).

    `vouched` has the kinds of indicator that the report vouches for, as bits.

    A report is stored once for its agent and id. The id is the first column of the unique index: ids rise with time, so
    a batch of many agents' reports is written to its end, not to one page for each agent (docs/performance.md).
    """

    sequence = BigAutoField()
    agent = ForeignKeyField(AgentTable, column_name="agent_number", index=False)
    threat_id = TextField()
    digest = BlobField()
    event_time = DoubleField()
    received_at = DoubleField()
    time_known = BooleanField()
    type = TextField()
    severity = TextField()
    confidence = DoubleField()
    technique = TextField(null=True)
    source_ip = TextField(null=True)
    file_hash = TextField(null=True)
    document = TextField()
    ignored = IntegerField(constraints=[SQL("DEFAULT 0")])
    vouched = IntegerField(constraints=[SQL("DEFAULT 0")])

    class Meta:
        """Peewee options: table name and indexes."""

        table_name = "threat"
        indexes = (
            (("threat_id", "agent"), True),
            (("technique", "event_time"), False),
        )


ThreatTable.add_index(
    ThreatTable.index(
        ThreatTable.source_ip,
        ThreatTable.event_time,
        where=ThreatTable.source_ip.is_null(False),
        name="threat_source_ip",
    )
)
ThreatTable.add_index(
    ThreatTable.index(
        ThreatTable.file_hash,
        ThreatTable.event_time,
        where=ThreatTable.file_hash.is_null(False),
        name="threat_file_hash",
    )
)


class StoredIdTable(Table):
    """Table of pruned reports' ids, kept as long as a guard may send the report again."""

    agent = ForeignKeyField(AgentTable, column_name="agent_number", index=False)
    threat_id = TextField()
    digest = BlobField()
    received_at = DoubleField()

    class Meta:
        """Peewee options: table name, primary key and indexes."""

        table_name = "stored_id"
        indexes = ((("threat_id", "agent"), True),)
        primary_key = False


class RecognizedThreatTable(Table):
    """Table of threats that a person recognized as their own doing: who, when, and a note."""

    threat_id = TextField()
    agent_id = TextField()
    at = DoubleField(index=True)
    author = TextField()
    note = TextField(null=True)

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "recognized_threat"
        primary_key = CompositeKey("threat_id", "agent_id")
