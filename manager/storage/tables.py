"""The tables, as peewee models. Times are seconds since 1970 (UTC); JSON stands in text columns."""

from peewee import (
    AutoField,
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    DatabaseProxy,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

database = DatabaseProxy()


class Table(Model):
    """Binds every table to the database that is opened at the start."""

    class Meta:
        """One database for all."""

        database = database
        legacy_table_names = False


class AgentTable(Table):
    """An agent's record. A removed one stays as a name for its threats, without credentials and out of the registry."""

    number = IntegerField(primary_key=True)
    agent_id = TextField(unique=True)
    organization_id = TextField()
    hostname = TextField()
    os = TextField()
    arch = TextField()
    version = TextField()
    site = TextField(null=True)
    tags = TextField(default="[]")
    addresses = TextField(default="[]")
    gateways = TextField(default="[]")
    ip = TextField(null=True)
    door = TextField()
    token_id = TextField(null=True)
    keys = BlobField(null=True)
    mqtt_digest = BlobField(null=True)
    http_digest = BlobField(null=True)
    registered_at = DoubleField()
    removed_at = DoubleField(null=True)
    state = TextField(index=True)
    state_since = DoubleField()
    reason = TextField()
    session = BigIntegerField()
    heartbeat_sequence = BigIntegerField()
    last_heartbeat = DoubleField(null=True)
    clock_offset = DoubleField(null=True)
    clock_origin = DoubleField(null=True)
    clock_session = BigIntegerField()
    stamp_sent_at = DoubleField(null=True)
    stamp_digest = BlobField(null=True)
    stamp_reply = BlobField(null=True)
    cpu = DoubleField(null=True)
    memory = DoubleField(null=True)
    uptime = DoubleField(null=True)
    mode = TextField(null=True)
    events_processed = BigIntegerField(default=0)
    events_total = BigIntegerField(default=0)
    threats_detected = BigIntegerField(default=0)
    actions_executed = BigIntegerField(default=0)
    outbox_size = BigIntegerField(null=True)
    outbox_dropped = BigIntegerField(null=True)
    policy_version = BigIntegerField(default=0)
    policy_digest = TextField(null=True)
    policy_state = TextField(null=True)
    policy_error = TextField(null=True)
    policy_applied_at = DoubleField(null=True)
    blocklist_sequence = BigIntegerField(default=0)

    class Meta:
        """One living agent for each hostname and organization."""

        table_name = "agent"


_living = AgentTable.removed_at.is_null()
AgentTable.add_index(
    AgentTable.index(
        AgentTable.organization_id, AgentTable.hostname, unique=True, where=_living, name="agent_of_organization"
    )
)
AgentTable.add_index(AgentTable.index(AgentTable.http_digest, where=_living, name="agent_http_digest"))
AgentTable.add_index(
    AgentTable.index(AgentTable.state, AgentTable.state_since, AgentTable.os, where=_living, name="agent_at_a_glance")
)


class AgentHistoryTable(Table):
    """One line for each change of an agent's state."""

    id = BigAutoField()
    agent_id = TextField(index=True)
    at = DoubleField()
    event = TextField()
    detail = TextField()

    class Meta:
        """Grows by one row for each transition."""

        table_name = "agent_history"


class ThreatTable(Table):
    """A stored report. `sequence` is the order of storing; `document` is the report's JSON without its code."""

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

    class Meta:
        """A report is stored once for its agent and id.

        The id stands first in the index: ids rise with time, so that a batch of many agents' reports goes to the end
        of it, not to as many pages as there are agents (docs/performance.md).
        """

        table_name = "threat"
        indexes = (
            (("threat_id", "agent"), True),
            (("event_time",), False),
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


class ThreatKindCountTable(Table):
    """How many threats of a severity and type there were in a bucket (`manager.storage.threat_counts`)."""

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
    """Which threats of a slice have a value, as `manager.storage.marks` packs it."""

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


class StoredIdTable(Table):
    """The ids of reports whose threats were pruned: they outlive them as long as an outbox may hold one."""

    agent = ForeignKeyField(AgentTable, column_name="agent_number", index=False)
    threat_id = TextField()
    digest = BlobField()
    received_at = DoubleField(index=True)

    class Meta:
        """Looked up as reports are."""

        table_name = "stored_id"
        indexes = ((("threat_id", "agent"), True),)
        primary_key = False


class AgentPolicyTable(Table):
    """An agent's effective policy by version and digest; its sections follow from the documents."""

    agent = ForeignKeyField(AgentTable, column_name="agent_number", primary_key=True)
    version = BigIntegerField()
    digest = TextField()
    updated_at = DoubleField()
    published = BooleanField()

    class Meta:
        """One row for each agent."""

        table_name = "agent_policy"


class IncidentTable(Table):
    """An indicator that several agents share, as `manager.domain.correlation.incidents` has it."""

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
        """Found by what the agents share."""

        table_name = "incident"
        indexes = ((("organization_id", "kind", "value", "last_seen_at"), False),)


class IncidentMemberTable(Table):
    """An agent of an incident; `actionable` if the responder may act for it."""

    incident = ForeignKeyField(IncidentTable, column_name="incident_id", index=False)
    agent_id = TextField()
    actionable = BooleanField()

    class Meta:
        """Each agent once in each incident."""

        table_name = "incident_member"
        primary_key = CompositeKey("incident", "agent_id")


class IncidentResponseTable(Table):
    """What became of an incident's response, and how fast it was in force (seconds since the first report)."""

    incident_id = TextField(primary_key=True)
    state = TextField(index=True)
    reason = TextField()
    at = DoubleField()
    organization_wide = BooleanField()
    granted_at = DoubleField(null=True)
    made_by = TextField(default="[]")
    approval_expires_at = DoubleField(null=True)
    approved_by = TextField(null=True)
    immunity = TextField(null=True)

    class Meta:
        """One row for each incident that was responded to."""

        table_name = "incident_response"


class EmergencyEntryTable(Table):
    """A live emergency entry: a block in an agent's own policy, or in an organization's blocklist."""

    id = TextField(primary_key=True)
    scope = TextField()
    target = TextField()
    kind = TextField()
    value = TextField()
    organization_id = TextField()
    site = TextField(null=True)
    reason = TextField()
    incident_id = TextField(index=True)
    created_at = DoubleField()
    expires_at = DoubleField()

    class Meta:
        """A row goes when its entry does."""

        table_name = "emergency_entry"


class PolicyRevisionTable(Table):
    """Every change of the fleet's policies; `document` is NULL where a scope lost its own."""

    revision = BigIntegerField(primary_key=True)
    scope = TextField(index=True)
    document = TextField(null=True)
    at = DoubleField()
    author = TextField()

    class Meta:
        """Only appended to."""

        table_name = "policy_revision"


class TokenTable(Table):
    """Enrollment tokens, without their secrets."""

    token_id = TextField(primary_key=True)
    proof_key = BlobField()
    created_at = DoubleField()
    organization_id = TextField(null=True)
    site = TextField(null=True)
    tags = TextField(default="[]")
    expires_at = DoubleField(null=True)
    max_uses = IntegerField(null=True)
    uses = IntegerField(default=0)
    revoked_at = DoubleField(null=True)

    class Meta:
        """One row for each token ever made."""

        table_name = "enrollment_token"


class AuditEntryTable(Table):
    """Who changed what, when, from where, before and after. Triggers refuse to change or delete a row."""

    id = BigAutoField()
    at = DoubleField(index=True)
    actor = TextField()
    action = TextField()
    target = TextField()
    address = TextField(null=True)
    request_id = TextField(null=True)
    before = TextField(null=True)
    after = TextField(null=True)

    class Meta:
        """Only appended to."""

        table_name = "audit_entry"


class DeadLetterTable(Table):
    """Messages that changed nothing, with the reason; bounded, oldest out."""

    id = AutoField()
    received_at = DoubleField()
    topic = TextField()
    reason = TextField()
    size = IntegerField()
    payload = BlobField()

    class Meta:
        """Pruned at each insert beyond its bound."""

        table_name = "dead_letter"


class MetaTable(Table):
    """Single values that outlive a restart."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        """A name and its value."""

        table_name = "meta"


ALL = (
    AgentTable,
    AgentHistoryTable,
    ThreatTable,
    ThreatKindCountTable,
    ThreatAgentCountTable,
    ThreatSourceTable,
    ThreatSourceCountTable,
    ThreatSliceTable,
    ThreatMarkTable,
    ThreatFollowerTable,
    StoredIdTable,
    AgentPolicyTable,
    IncidentTable,
    IncidentMemberTable,
    IncidentResponseTable,
    EmergencyEntryTable,
    PolicyRevisionTable,
    TokenTable,
    AuditEntryTable,
    DeadLetterTable,
    MetaTable,
)
