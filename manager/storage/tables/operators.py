"""Tables of operators' data: policy revisions, tokens, audit log, dead letters, single values."""

from peewee import (
    AutoField,
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    DoubleField,
    IntegerField,
    TextField,
)

from manager.storage.tables.table import Table


class PolicyRevisionTable(Table):
    """Table of policy revisions; `document` is NULL if a scope's document was removed. Append-only."""

    revision = BigIntegerField(primary_key=True)
    scope = TextField(index=True)
    document = TextField(null=True)
    at = DoubleField()
    author = TextField()
    message = TextField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "policy_revision"


class TokenTable(Table):
    """Table of enrollment tokens, without their secrets."""

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
    name = TextField(null=True)
    rate = IntegerField(null=True)
    ephemeral = BooleanField(default=False)
    rotated_at = DoubleField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "enrollment_token"


class AccessTokenTable(Table):
    """Table of access tokens, with the SHA-256 of their text."""

    name = TextField(primary_key=True)
    digest = BlobField(unique=True)
    role = TextField()
    organizations = TextField(default="[]")
    created_at = DoubleField()
    rotated_at = DoubleField()
    expires_at = DoubleField(null=True)
    last_used_at = DoubleField(null=True)
    revoked_at = DoubleField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "access_token"


class ConsoleSessionTable(Table):
    """Table of the console's sessions, with the SHA-256 of their cookies and tokens."""

    id = TextField(primary_key=True)
    token_digest = BlobField()
    opened_at = DoubleField()
    used_at = DoubleField()

    class Meta:
        """Peewee options: table name."""

        table_name = "console_session"


class AuditEntryTable(Table):
    """Table of audit entries. Triggers reject updates, and deletion within 90 days."""

    id = BigAutoField()
    at = DoubleField(index=True)
    actor = TextField()
    action = TextField()
    target = TextField(index=True)
    address = TextField(null=True)
    request_id = TextField(null=True)
    before = TextField(null=True)
    after = TextField(null=True)
    role = TextField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "audit_entry"


class DeadLetterTable(Table):
    """Table of dead letters, each with the reason. Each insert deletes the oldest rows beyond a limit."""

    id = AutoField()
    received_at = DoubleField()
    topic = TextField()
    reason = TextField()
    size = IntegerField()
    payload = BlobField()

    class Meta:
        """Peewee options: table name."""

        table_name = "dead_letter"


class MetaTable(Table):
    """Table of single values that survive a restart, by key."""

    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        """Peewee options: table name."""

        table_name = "meta"


class SealedValueTable(Table):
    """Table of the manager's own secrets, sealed with the key file, by name."""

    name = TextField(primary_key=True)
    value = BlobField()

    class Meta:
        """Peewee options: table name."""

        table_name = "sealed_value"
