"""Incidents, their members and responses, emergency entries, and the indexes that correlate late reports."""

from peewee import (
    BigIntegerField,
    BooleanField,
    CompositeKey,
    Database,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)
from playhouse.migrate import SchemaMigrator


def up(migrator: SchemaMigrator, db: Database) -> None:
    class IncidentTable(Model):
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
            database = db
            table_name = "incident"
            indexes = ((("organization_id", "kind", "value", "last_seen_at"), False),)

    class IncidentMemberTable(Model):
        incident = ForeignKeyField(IncidentTable, column_name="incident_id", index=False)
        agent_id = TextField()
        actionable = BooleanField()

        class Meta:
            database = db
            table_name = "incident_member"
            primary_key = CompositeKey("incident", "agent_id")

    class IncidentResponseTable(Model):
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
            database = db
            table_name = "incident_response"

    class EmergencyEntryTable(Model):
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
            database = db
            table_name = "emergency_entry"

    db.create_tables([IncidentTable, IncidentMemberTable, IncidentResponseTable, EmergencyEntryTable])
    migrator.migrate(
        migrator.add_index("threat", ("event_time",)), migrator.add_index("threat", ("technique", "event_time"))
    )
    for column in ("source_ip", "file_hash"):
        db.execute_sql(
            f'CREATE INDEX "threat_{column}" ON "threat" ("{column}", "event_time") WHERE ("{column}" IS NOT NULL)'
        )
