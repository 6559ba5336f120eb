"""The mutes of notifications, filled from the events that began and ended them."""

import json

from peewee import BigAutoField, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class MuteTable(Model):
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
            database = db
            table_name = "notification_mute"

    db.create_tables([MuteTable])
    told = db.execute_sql(
        "SELECT name, at, organization_id, document FROM event WHERE name IN ('notifications_muted', "
        "'notifications_unmuted') ORDER BY sequence"
    ).fetchall()
    mutes = {}
    for name, at, organization, document in told:
        data = json.loads(document).get("data", {})
        scope = (organization, data.get("site"), data.get("agentId"), data.get("topic"))
        mutes.pop(scope, None)
        if name == "notifications_muted":
            mutes[scope] = (*scope, data["author"], data.get("reason"), at, data["until"])
    for row in mutes.values():
        db.execute_sql(
            "INSERT INTO notification_mute (organization_id, site, agent_id, topic, author, reason, at, until) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
