"""What people set and see: policies, tokens, the audit log, dead letters, single values."""

from peewee import AutoField, BigAutoField, BigIntegerField, BlobField, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


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
