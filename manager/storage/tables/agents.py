"""Tables of agents, their history, and their effective policies."""

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    TextField,
)

from manager.storage.tables.table import Table


class AgentTable(Table):
    """Table of agents. A removed agent is kept without credentials as long as its threats are stored.

    `last_sequence` is the newest threat of any agent at the removal; once it is deleted, the row may be deleted.
    The hostname of a registered agent is unique in its organization.
    """

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
    stamp_sent_at = DoubleField(null=True)
    stamp_digest = BlobField(null=True)
    stamp_reply = BlobField(null=True)
    mode = TextField(null=True)
    policy_version = BigIntegerField(default=0)
    policy_digest = TextField(null=True)
    policy_state = TextField(null=True)
    policy_error = TextField(null=True)
    policy_applied_at = DoubleField(null=True)
    blocklist_sequence = BigIntegerField(default=0)
    last_sequence = BigIntegerField(null=True)
    health = TextField(null=True)
    enforcement = TextField(null=True)
    mode_wanted = TextField(null=True)
    enforced = TextField(null=True)
    reported_tags = TextField(constraints=[SQL("DEFAULT '[]'")])
    operator_set = TextField(constraints=[SQL("DEFAULT '[]'")])
    registered_in = TextField(null=True)
    reported_site = TextField(null=True)

    class Meta:
        """Peewee options: table name."""

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
AgentTable.add_index(  # its second condition keeps the index from queries that do not state it
    AgentTable.index(AgentTable.os, where=(_living & (AgentTable.os >= "")), name="agent_by_os")
)


class AgentVitalsTable(Table):
    """Table of the values that every heartbeat changes; narrow, because it is written the most often."""

    agent = ForeignKeyField(AgentTable, column_name="agent_number", primary_key=True)
    heartbeat_sequence = BigIntegerField()
    last_heartbeat = DoubleField(null=True)
    clock_offset = DoubleField(null=True)
    clock_origin = DoubleField(null=True)
    clock_session = BigIntegerField()
    cpu = DoubleField(null=True)
    memory = DoubleField(null=True)
    uptime = DoubleField(null=True)
    events_processed = BigIntegerField()
    events_total = BigIntegerField()
    threats_detected = BigIntegerField()
    actions_executed = BigIntegerField()
    outbox_size = BigIntegerField(null=True)
    outbox_dropped = BigIntegerField(null=True)
    sources = TextField()
    trial_seconds_left = DoubleField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "agent_vitals"


class AgentVitalsHistoryTable(Table):
    """Table of agents' vitals over time: one row for each agent and period of 900 s, numbered since 1970.

    `cpu` and `memory` are sums over the heartbeats, in tenths of a percent; `events_total` is that of the last one. In
    SQLite it is a WITHOUT ROWID table in the order of time: written at its end, deleted at its beginning.
    """

    period = IntegerField()
    agent_number = IntegerField()
    heartbeats = IntegerField()
    cpu = IntegerField()
    cpu_highest = IntegerField()
    memory = IntegerField()
    events_total = BigIntegerField()

    class Meta:
        """Peewee options: table name and primary key."""

        table_name = "agent_vitals_history"
        primary_key = CompositeKey("period", "agent_number")


class AgentHistoryTable(Table):
    """Table of the changes of agents' states."""

    id = BigAutoField()
    agent_id = TextField(index=True)
    at = DoubleField()
    event = TextField()
    detail = TextField()

    class Meta:
        """Peewee options: table name."""

        table_name = "agent_history"


class AgentPolicyTable(Table):
    """Table of agents' effective policies: version and digest. The sections are resolved from the policy documents."""

    agent = ForeignKeyField(AgentTable, column_name="agent_number", primary_key=True)
    version = BigIntegerField()
    digest = TextField()
    updated_at = DoubleField()
    published = BooleanField()

    class Meta:
        """Peewee options: table name."""

        table_name = "agent_policy"
