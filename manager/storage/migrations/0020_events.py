"""Events worth telling, the position of each channel among them, and the messages to channels."""

from peewee import BigAutoField, BigIntegerField, Database, DoubleField, IntegerField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class EventTable(Model):
        sequence = BigIntegerField(primary_key=True)
        at = DoubleField()
        name = TextField()
        severity = TextField()
        organization_id = TextField(null=True)
        site = TextField(null=True)
        alerting = TextField(null=True)
        document = TextField()

        class Meta:
            database = db
            table_name = "event"
            indexes = ((("organization_id", "sequence"), False),)

    class NotificationCursorTable(Model):
        channel = TextField(primary_key=True)
        sequence = BigIntegerField()
        judgement = TextField(null=True)
        paused_until = DoubleField(null=True)
        sent = BigIntegerField(default=0)
        given_up = BigIntegerField(default=0)
        not_told = BigIntegerField(default=0)
        last_sent_at = DoubleField(null=True)

        class Meta:
            database = db
            table_name = "notification_cursor"

    class NotificationTable(Model):
        sequence = BigAutoField()
        channel = TextField()
        message_id = TextField()
        group_id = TextField()
        state = TextField()
        attempts = IntegerField(default=0)
        created_at = DoubleField()
        next_at = DoubleField()
        sent_at = DoubleField(null=True)
        reason = TextField(null=True)
        content = TextField()

        class Meta:
            database = db
            table_name = "notification"
            indexes = ((("channel", "message_id"), True), (("channel", "state"), False))

    db.create_tables([EventTable, NotificationCursorTable, NotificationTable])
