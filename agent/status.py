"""The guard's status: the status file of a running guard, and the state in the data directory."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from agent.errors import StorageError
from agent.policy.policy_store import PolicyHead
from agent.respond.responder import Measure
from agent.storage.database import DATABASE, counter
from agent.storage.files import as_owner, write_private
from agent.storage.instance_lock import running_pid
from schemas.decoding import DecodeError, decode
from schemas.model import iso
from schemas.topics import POLICY

_FILE = "status.json"


def write_status(directory: Path, fields: dict[str, Any]) -> None:
    """Replace the status file; it is not synced to disk.

    Raises:
        StorageError: it cannot be written.
    """
    write_private(directory / _FILE, json.dumps(fields).encode(), durable=False)


def read_status(directory: Path) -> dict[str, Any]:
    """Return the content of the status file; empty if there is none.

    Raises:
        StorageError: the file cannot be read.
    """
    path = directory / _FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def problems(fields: dict[str, Any]) -> list[str]:
    """Return one sentence for each source in a status that is not well; one for a degraded guard without such."""
    sources = fields.get("sources")
    unwell = [each for each in sources if each["state"] != "ok"] if isinstance(sources, list) else []
    told = [f"{each['name']} is {each['state']}: {each.get('reason')}" for each in unwell]
    if not told and fields.get("health") != "ok":
        return ["its sources are not known yet"]
    return told


def inspect_guard(directory: Path) -> dict[str, Any]:
    """Return a guard's state with protocol names: sessions, outbox, the effective policy, and recorded measures.

    Raises:
        StorageError: the data directory cannot be read.
    """
    with as_owner(directory):
        pid = running_pid(directory)
        fields = read_status(directory)
        if not fields and pid is None and not (directory / DATABASE).exists():
            raise StorageError(directory, "no guard was ever started in it")
        fields["state"] = "stopped" if pid is None else fields.get("state", "starting")
        fields["pid"] = pid
        return fields | _stored(directory / DATABASE)


def _stored(path: Path) -> dict[str, Any]:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("PRAGMA busy_timeout = 2000")
            return _counts(connection) | _policy(connection) | _measures(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageError(path, str(error)) from error


def _counts(connection: sqlite3.Connection) -> dict[str, Any]:
    sequence = connection.execute("SELECT sequence FROM blocklist_head").fetchone()
    return {
        "outboxSize": connection.execute("SELECT COUNT(*) FROM outbox").fetchone()[0],
        "outboxDropped": counter(connection, "outbox_dropped"),
        **_kept(connection),
        "deadLetters": connection.execute("SELECT COUNT(*) FROM dead_letters").fetchone()[0],
        "eventsTotal": counter(connection, "events_total"),
        "blocklistSequence": 0 if sequence is None else sequence[0],
    }


def _kept(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the numbers of kept reports; an earlier release of the guard has no table of them."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kept_reports'").fetchone():
        return {"keptReports": 0, "resending": 0}
    kept, again = connection.execute("SELECT COUNT(*), COALESCE(SUM(again), 0) FROM kept_reports").fetchone()
    return {"keptReports": kept, "resending": again}


def _policy(connection: sqlite3.Connection) -> dict[str, Any]:
    row = connection.execute("SELECT document, sections, state, error FROM policy").fetchone()
    fields: dict[str, Any] = {"policyVersion": None, "policyState": None, "policyError": None, "policy": None}
    if row is None:
        return fields
    try:
        version, sections = decode(PolicyHead, row[0], POLICY.limit).version, json.loads(row[1])
    except (DecodeError, ValueError, TypeError, RecursionError):
        return fields | {"policyError": "the policy that is kept cannot be read"}
    return fields | {"policyVersion": version, "policyState": row[2], "policyError": row[3], "policy": sections}


def _measures(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return the measures that the guard wants; what the kernel has is in the status file, as `enforced`."""
    rows = connection.execute("SELECT kind, value, reason, expires_at, incident_id FROM measures ORDER BY kind, value")
    measures = [_wire(Measure(*row)) for row in rows]
    return {"recorded": measures}


def _wire(measure: Measure) -> dict[str, Any]:
    fields = {
        "kind": measure.kind,
        "value": measure.value,
        "reason": measure.reason,
        "expiresAt": None if measure.expires_at is None else iso(measure.expires_at),
        "incidentId": measure.incident_id,
    }
    return {name: value for name, value in fields.items() if value is not None}
