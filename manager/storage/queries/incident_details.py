"""Details of one incident: its newest threats, the users that they name, its timeline, and the work of people on it."""

import json
from collections import Counter
from collections.abc import Sequence

from peewee import Expression, fn

from manager.storage.queries import threat_search
from manager.storage.queries.reader import Reader, Record, moment
from manager.storage.queries.threats import evidence_of, record_of
from manager.storage.tables import AgentTable, AuditEntryTable, IncidentWorkTable, ThreatTable

THREATS_SHOWN = 50
"""The maximum number of threats in an incident's record."""

_THREATS_READ = 500
_USERS_SHOWN = 50
_EVENTS_SHOWN = 200
_LONGEST_USER = 256
_WORK = ("acknowledge", "note", "close")
_STATES = {"acknowledge": "acknowledged", "close": "closed"}


def details(reader: Reader, incident: Record) -> Record:
    """Return `threats`, `users` and `timeline` of an incident's row."""
    rows = _threats(reader, incident)
    return {
        "threats": [_threat(row) for row in rows[:THREATS_SHOWN]],
        "users": _users(rows),
        "timeline": _timeline(reader, incident),
    }


def work_of(reader: Reader, incidents: Sequence[Record]) -> dict[str, Record]:
    """Return the members about people's work on each incident, by its id.

    `workState` is new, acknowledged, closed, or reopened: reports have come since somebody closed it.
    """
    wanted = {"incident_ids": json.dumps([row["id"] for row in incidents])}
    newest = {incident_id: rest for incident_id, *rest in reader.select("incidents.newest_work", wanted)}
    found: dict[str, Record] = {}
    for row in incidents:
        if row["id"] not in newest:
            found[row["id"]] = {"workState": "new", "workBy": None, "workAt": None}
            continue
        action, author, at = newest[row["id"]]
        state = _STATES[action]
        if state == "closed" and row["last_seen_at"] > at:
            state = "reopened"
        found[row["id"]] = {"workState": state, "workBy": author, "workAt": moment(at)}
    return found


def _threats(reader: Reader, incident: Record) -> list[Record]:
    """Return the newest threats of an incident's indicator within its time."""
    kind, value = incident["kind"], incident["value"]
    key = threat_search.SearchKey(**{_KEYS[kind]: value})
    conditions: list[Expression] = [
        ThreatTable.event_time >= incident["first_seen_at"],
        ThreatTable.event_time <= incident["last_seen_at"],
        AgentTable.organization_id == incident["organization_id"],
    ]
    if incident["site"] is not None:  # a private address; without a site it is the empty text
        conditions.append(fn.COALESCE(AgentTable.site, AgentTable.reported_site, "") == incident["site"])
    return threat_search.newest(reader, key, conditions, _THREATS_READ)


_KEYS = {"source_ip": "source_ip", "file_hash": "file_hash", "technique": "technique"}


def _threat(row: Record) -> Record:
    record = record_of(row)
    return {
        **{name: record[name] for name in ("id", "agentId", "hostname", "eventTime", "type", "severity", "confidence")},
        "technique": record["threat"].get("technique"),
        **_user(row),
        "response": record.get("response"),
    }


def _users(rows: Sequence[Record]) -> list[Record]:
    """Return the users that the newest threats name, the most frequent first."""
    named = [user for row in rows if (user := _user(row))["user"] is not None]
    counted = Counter(each["user"] for each in named)
    accounts = {each["user"] for each in named if each["userExists"]}
    return [
        {"user": user, "userExists": user in accounts, "count": count}
        for user, count in counted.most_common(_USERS_SHOWN)
    ]


def _user(row: Record) -> Record:
    """Return the user that a threat names, and whether the guard states that it is an account of its host."""
    evidence = evidence_of(row["document"])
    user = evidence.get("user")
    shown = user[:_LONGEST_USER] if isinstance(user, str) else None
    return {"user": shown, "userExists": evidence.get("userExists") is True}


def _timeline(reader: Reader, incident: Record) -> list[Record]:
    """Return what happened to an incident and what people did, oldest first."""
    manager: tuple[tuple[str, float | None, str | None], ...] = (
        ("first_report", incident["first_seen_at"], None),
        ("opened", incident["opened_at"], None),
        ("last_report", incident["last_seen_at"], None),
        (f"response_{incident['state']}", incident["at"], incident["reason"]),
        ("merged" if incident["merged_into"] else "closed", incident["closed_at"], incident["merged_into"]),
    )
    events = [(at, name, None, text) for name, at, text in manager if at is not None]
    work, entry = IncidentWorkTable, AuditEntryTable
    notes = reader.rows(
        work.select().where(work.incident_id == incident["id"]).order_by(work.id.desc()).limit(_EVENTS_SHOWN)
    )
    events += [(row["at"], row["action"], row["author"], row["note"]) for row in reversed(notes)]
    wanted = entry.select().where(entry.target == incident["id"], entry.action.startswith("incident."))
    audited = reader.rows(wanted.order_by(entry.id.desc()).limit(_EVENTS_SHOWN))
    actions = [(row["at"], row["action"].removeprefix("incident."), row["actor"], None) for row in reversed(audited)]
    events += [each for each in actions if each[1] not in _WORK]
    events.sort(key=lambda each: each[0])
    return [{"at": moment(at), "event": name, "by": by, "text": text} for at, name, by, text in events]
