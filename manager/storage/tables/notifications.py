"""Tables of events worth telling, and of what channels were told of them."""

from peewee import SQL, BigAutoField, BigIntegerField, DoubleField, IntegerField, TextField

from manager.storage.tables.table import Table


class EventTable(Table):
    """Table of events; the sequence has no gaps and is never used again. The oldest rows beyond a limit are deleted.

    `alerting` names the channels that the policy in force chose, and its quiet hours; NULL where it chose none.
    `document` is the fleet event as it is published.
    """

    sequence = BigIntegerField(primary_key=True)
    at = DoubleField()
    name = TextField()
    severity = TextField()
    organization_id = TextField(null=True)
    site = TextField(null=True)
    alerting = TextField(null=True)
    document = TextField()

    class Meta:
        """Peewee options: table name and indexes."""

        table_name = "event"
        indexes = ((("organization_id", "sequence"), False),)


EventTable.add_index(
    EventTable.index(
        EventTable.at,
        where=SQL("name IN ('block_cut_connections', 'block_ineffective', 'block_withdrawn')"),
        name="event_of_harm",
    )
)


class UntoldEventTable(Table):
    """Table of events on an intrusion that the event table has deleted, and that a channel has not taken yet."""

    sequence = BigIntegerField(primary_key=True)
    at = DoubleField()
    name = TextField()
    severity = TextField()
    organization_id = TextField(null=True)
    site = TextField(null=True)
    alerting = TextField()
    document = TextField()

    class Meta:
        """Peewee options: table name."""

        table_name = "untold_event"


class NotificationCursorTable(Table):
    """Table of channels: the sequence of the last event that each has taken, and what became of its messages.

    `judgement` is the state of the judgement as JSON, written with the cursor. `not_told` counts events that were
    deleted before the channel had taken them.
    """

    channel = TextField(primary_key=True)
    sequence = BigIntegerField()
    judgement = TextField(null=True)
    paused_until = DoubleField(null=True)
    sent = BigIntegerField(default=0)
    given_up = BigIntegerField(default=0)
    not_told = BigIntegerField(default=0)
    last_sent_at = DoubleField(null=True)

    class Meta:
        """Peewee options: table name."""

        table_name = "notification_cursor"


class MuteTable(Table):
    """Table of mutes: each in force, and those that have ended until the next one is written."""

    number = BigAutoField()
    organization_id = TextField(null=True)
    site = TextField(null=True)
    agent_id = TextField(null=True)
    topic = TextField(null=True)
    author = TextField()
    reason = TextField(null=True)
    at = DoubleField()
    until = DoubleField()

    class Meta:
        """Peewee options: table name."""

        table_name = "notification_mute"


class NotificationTable(Table):
    """Table of messages to channels: `pending` until they are `sent`, `failed` once, or `given_up`."""

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
        """Peewee options: table name and indexes."""

        table_name = "notification"
        indexes = ((("channel", "message_id"), True), (("channel", "state"), False))
