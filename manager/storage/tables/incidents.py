"""Tables of incidents, their members and responses, and emergency entries."""

from peewee import (
    SQL,
    AutoField,
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    TextField,
)

from manager.storage.tables.table import Table


class IncidentTable(Table):
    """Table of incidents; see `manager.domain.correlation.incidents`."""

    id = TextField(primary_key=True)
    organization_id = TextField()
    site = TextField(null=True)
    kind = TextField()
    value = TextField()
    opened_at = DoubleField(index=True)
    first_seen_at = DoubleField()
    last_seen_at = DoubleField(index=True)
    closed_at = DoubleField(null=True)
    late = BooleanField()
    chronic = BooleanField()
    merged_into = TextField(null=True)
    report_count = BigIntegerField()
    return_count = IntegerField()
    announced_members = IntegerField()

    class Meta:
        """Peewee options: table name and indexes."""

        table_name = "incident"
        indexes = ((("organization_id", "kind", "value", "last_seen_at"), False), (("value", "opened_at"), False))


IncidentTable.add_index(
    IncidentTable.index(IncidentTable.organization_id, where=IncidentTable.closed_at.is_null(), name="incident_open")
)


class IncidentWorkTable(Table):
    """Table of what people did about incidents: acknowledged, noted, closed; each with who, when and the note."""

    id = AutoField()
    incident_id = TextField(index=True)
    at = DoubleField()
    author = TextField()
    action = TextField()
    note = TextField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "incident_work"


class IncidentMemberTable(Table):
    """Table of incidents' members; the responder acts only on `actionable` members, of which some `vouched`."""

    incident = ForeignKeyField(IncidentTable, column_name="incident_id", index=False)
    agent_id = TextField()
    actionable = BooleanField()
    vouched = BooleanField(constraints=[SQL("DEFAULT FALSE")])

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "incident_member"
        primary_key = CompositeKey("incident", "agent_id")


class IncidentResponseTable(Table):
    """Table of responses.

    `acceptance` and `immunity` are JSON of the seconds from the first report to each percentage of the targets that
    have accepted it, and that enforce it.
    """

    incident_id = TextField(primary_key=True)
    state = TextField(index=True)
    reason = TextField()
    at = DoubleField()
    organization_wide = BooleanField()
    granted_at = DoubleField(null=True)
    made_by = TextField(default="[]")
    approval_expires_at = DoubleField(null=True)
    approved_by = TextField(null=True)
    acceptance = TextField(null=True)
    immunity = TextField(null=True)
    members_missing = BooleanField(constraints=[SQL("DEFAULT 0")])

    class Meta:
        """Peewee options: table name."""

        table_name = "incident_response"


class IndicatorEvidenceTable(Table):
    """Evidence about an indicator for the never-block rules: its newest login, or a system path of the file.

    The rows are in the order of their renewal.
    """

    id = AutoField()
    kind = TextField()
    value = TextField()
    organization_id = TextField()
    site = TextField(null=True)
    renewed_at = DoubleField()
    last_login = DoubleField(null=True)
    agent_id = TextField()
    system_path = TextField(null=True)

    class Meta:
        """Peewee options: table name and indexes."""

        table_name = "indicator_evidence"
        indexes = ((("value", "kind", "organization_id"), False),)


class EmergencyEntryTable(Table):
    """Table of emergency entries and manual blocks, in an agent's own policy or in organizations' blocklists.

    `number` is the first version of that policy, or sequence of that blocklist, with the entry. A manual block has
    `added_by` and no incident; for the whole fleet its `scope` is `fleet`, its target and organization are empty.
    """

    id = TextField(primary_key=True)
    scope = TextField()
    target = TextField()
    kind = TextField()
    value = TextField(index=True)
    organization_id = TextField()
    site = TextField(null=True)
    reason = TextField()
    incident_id = TextField(index=True)
    created_at = DoubleField()
    expires_at = DoubleField()
    number = BigIntegerField(null=True)
    added_by = TextField(null=True)
    overrides = TextField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "emergency_entry"
