"""A narrow table of the values that every heartbeat changes, and their history; `agent` keeps what changes seldom."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

_COLUMNS = (
    "heartbeat_sequence", "last_heartbeat", "clock_offset", "clock_origin", "clock_session", "cpu", "memory",
    "uptime", "events_processed", "events_total", "threats_detected", "actions_executed", "outbox_size",
    "outbox_dropped", "sources", "trial_seconds_left",
)  # fmt: skip


def up(_migrator: SchemaMigrator, db: Database) -> None:
    db.execute_sql(
        "CREATE TABLE agent_vitals ("
        "agent_number INTEGER NOT NULL PRIMARY KEY REFERENCES agent (number), heartbeat_sequence BIGINT NOT NULL, "
        "last_heartbeat REAL, clock_offset REAL, clock_origin REAL, clock_session BIGINT NOT NULL, cpu REAL, "
        "memory REAL, uptime REAL, events_processed BIGINT NOT NULL, events_total BIGINT NOT NULL, "
        "threats_detected BIGINT NOT NULL, actions_executed BIGINT NOT NULL, outbox_size BIGINT, "
        "outbox_dropped BIGINT, sources TEXT NOT NULL, trial_seconds_left REAL)"
    )
    db.execute_sql(
        "CREATE TABLE agent_vitals_history ("
        "period INTEGER NOT NULL, agent_number INTEGER NOT NULL, heartbeats INTEGER NOT NULL, cpu INTEGER NOT NULL, "
        "cpu_highest INTEGER NOT NULL, memory INTEGER NOT NULL, events_total BIGINT NOT NULL, "
        "PRIMARY KEY (period, agent_number)) WITHOUT ROWID"
    )
    columns = ", ".join(_COLUMNS)
    db.execute_sql(
        f"INSERT INTO agent_vitals (agent_number, {columns}) SELECT number, {columns} FROM agent "
        "WHERE removed_at IS NULL"
    )
    for column in _COLUMNS:
        db.execute_sql(f"ALTER TABLE agent DROP COLUMN {column}")
