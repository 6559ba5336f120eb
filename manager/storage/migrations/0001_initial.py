"""The first schema: agents, threats, policies, tokens, dead letters."""

from peewee import (
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    Database,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class AgentHistoryTable(Model):
        id = BigAutoField()
        agent_id = TextField(index=True)
        at = DoubleField()
        event = TextField()
        detail = TextField()

        class Meta:
            database = db
            table_name = "agent_history"

    db.create_tables([AgentHistoryTable])

    class AgentTable(Model):
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
            database = db
            table_name = "agent"

    living = AgentTable.removed_at.is_null()
    AgentTable.add_index(
        AgentTable.index(
            AgentTable.organization_id, AgentTable.hostname, unique=True, where=living, name="agent_of_organization"
        )
    )
    AgentTable.add_index(AgentTable.index(AgentTable.http_digest, where=living, name="agent_http_digest"))
    db.create_tables([AgentTable])

    class AgentPolicyTable(Model):
        agent = ForeignKeyField(AgentTable, primary_key=True, column_name="agent_number")
        version = BigIntegerField()
        digest = TextField()
        updated_at = DoubleField()
        published = BooleanField()

        class Meta:
            database = db
            table_name = "agent_policy"

    db.create_tables([AgentPolicyTable])

    class DeadLetterTable(Model):
        received_at = DoubleField()
        topic = TextField()
        reason = TextField()
        size = IntegerField()
        payload = BlobField()

        class Meta:
            database = db
            table_name = "dead_letter"

    db.create_tables([DeadLetterTable])

    class MetaTable(Model):
        key = TextField(primary_key=True)
        value = TextField()

        class Meta:
            database = db
            table_name = "meta"

    db.create_tables([MetaTable])

    class PolicyRevisionTable(Model):
        revision = BigIntegerField(primary_key=True)
        scope = TextField(index=True)
        document = TextField(null=True)
        at = DoubleField()
        author = TextField()

        class Meta:
            database = db
            table_name = "policy_revision"

    db.create_tables([PolicyRevisionTable])

    class StoredIdTable(Model):
        agent = ForeignKeyField(AgentTable, column_name="agent_number", index=False)
        threat_id = TextField()
        digest = BlobField()
        received_at = DoubleField(index=True)

        class Meta:
            database = db
            table_name = "stored_id"
            primary_key = False
            indexes = ((("threat_id", "agent"), True),)

    db.create_tables([StoredIdTable])

    class ThreatTable(Model):
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
            database = db
            table_name = "threat"
            indexes = ((("threat_id", "agent"), True),)

    db.create_tables([ThreatTable])

    class TokenTable(Model):
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
            database = db
            table_name = "enrollment_token"

    db.create_tables([TokenTable])
