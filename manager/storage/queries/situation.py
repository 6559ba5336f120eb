"""Situation of the fleet: who may have got in, whom blocks hurt, what waits for approval, which agents are not seen."""

import json
from collections.abc import Collection
from typing import Any

from peewee import fn

from manager.domain.agents.agent import State
from manager.storage.projections import threat_statistics
from manager.storage.queries import agents, blocks, incidents, summary, threats
from manager.storage.queries.agents import AgentFilter
from manager.storage.queries.reader import Reader, Record, json_list, moment
from manager.storage.tables import AgentTable, IncidentResponseTable, IncidentTable
from schemas.threats import Severity

PERIOD = 86_400.0
"""Seconds that the situation looks back."""

LOGINS_SHOWN = 20
SHOWN = 5
"""The maximum number of records in each list but that of logins; each has its full number beside it."""

LOGIN = "login_after_failures"
SESSION_ENDED = "suspicious_session_ended"
_ENDS_READ = 200
_HARM_READ = 500
_AGENT_MEMBERS = (
    "agentId", "hostname", "organizationId", "site", "status", "statusSince", "reason", "health", "sources", "mode",
    "modeWanted", "trialSecondsLeft", "enforced",
)  # fmt: skip


def situation(reader: Reader, now: float, organizations: Collection[str] | None) -> Record:
    """Return the situation of organizations, or of the fleet; `now` is in seconds since 1970."""
    since = now - PERIOD
    kinds = threat_statistics.kinds(reader, since, now, organizations)
    wanted = {
        "stale": AgentFilter(status=State.STALE.value, organizations=organizations),
        "degraded": AgentFilter(health="degraded", organizations=organizations),
        "unconfirmed": AgentFilter(unconfirmed=True, organizations=organizations),
        "unenforced": AgentFilter(unenforced=True, organizations=organizations),
    }
    states, counts = agents.tally(reader, organizations, wanted)
    lists = {name: _agents(reader, wanted[name], count) for name, count in counts.items()}
    unenforced = lists.pop("unenforced")
    return {
        "at": moment(now),
        "since": moment(since),
        "agents": states,
        "gotIn": _logins(reader, since, kinds, organizations),
        "weHurt": {"harm": _harm(reader, since, organizations), "unenforced": unenforced},
        "waits": _waiting(reader, organizations),
        "blind": lists,
        "dealtWith": {
            **summary.by_severity(kinds),
            "sources": threat_statistics.sources(reader, since, now, organizations, 0).total,
            "blocks": blocks.response_counts(reader, now, organizations)[0],
        },
    }


def _agents(reader: Reader, wanted: AgentFilter, count: int) -> Record:
    """Return the number of agents that match, and the first of them."""
    records = agents.page(reader, wanted, SHOWN, None)[0] if count else []
    return {"count": count, "records": [{name: each[name] for name in _AGENT_MEMBERS} for each in records]}


def _logins(
    reader: Reader, since: float, kinds: list[tuple[str, str, int]], organizations: Collection[str] | None
) -> Record:
    """Return the logins that look guessed, proven ones first, and the number of critical reports of other types."""
    wanted = threats.ThreatFilter(since, Severity.CRITICAL.value, LOGIN, organizations, recognized=False)
    found, following = threats.page(reader, wanted, LOGINS_SHOWN, None)
    found.sort(key=lambda each: not each["threat"].get("vouched"))  # stable: the newest first among each
    ended = _ended_sessions(reader, since, organizations) if found else {}
    critical = sum(number for severity, kind, number in kinds if (severity == Severity.CRITICAL and kind != LOGIN))
    return {
        "count": len(found),
        "more": following is not None,
        "records": [_login(each, ended) for each in found],
        "otherCritical": critical,
    }


_LOGIN_MEMBERS = ("id", "agentId", "hostname", "organizationId", "type", "eventTime", "receivedAt", "recognized")


def _ended_sessions(
    reader: Reader, since: float, organizations: Collection[str] | None
) -> dict[tuple[object, ...], list[str]]:
    """Return the times at which guards saw the last session of a pair end, by agent, proof, source and user."""
    wanted = threats.ThreatFilter(since, Severity.LOW.value, SESSION_ENDED, organizations)
    found: dict[tuple[object, ...], list[str]] = {}
    for each in threats.page(reader, wanted, _ENDS_READ, None)[0]:
        evidence, proven = each["details"], bool(each["threat"].get("vouched"))
        key = (each["agentId"], proven, str(evidence.get("loginSource")), str(evidence.get("user")))
        found.setdefault(key, []).append(each["eventTime"])
    return found


def _login(threat: Record, ended: dict[tuple[object, ...], list[str]]) -> Record:
    evidence, proven = threat["details"], bool(threat["threat"].get("vouched"))
    shown = {name: evidence[name] for name in ("user", "userExists", "sourceIp") if name in evidence}
    key = (threat["agentId"], proven, str(evidence.get("sourceIp")), str(evidence.get("user")))
    ends = [at for at in ended.get(key, ()) if at >= threat["eventTime"]]
    return {
        **{name: threat[name] for name in _LOGIN_MEMBERS},
        "threat": {"evidence": shown, "count": threat["threat"].get("count")},
        "vouched": proven,
        "sessionEndedAt": max(ends, default=None),
        "response": threat.get("response"),
    }


def _harm(reader: Reader, since: float, organizations: Collection[str] | None) -> Record:
    """Return blocks that cut connections, were withdrawn because a person logged in, or did not hold; each once."""
    params = {"since": since, "organizations": json_list(organizations), "limit": _HARM_READ}
    rows = reader.select("events.harm", params)
    found: dict[tuple[Any, ...], Record] = {}
    for (document,) in rows:
        event = json.loads(document)
        data = event.get("data", {})
        members = {name: data.get(name) for name in ("value", "connections", "reason", "incidentId", "threatId")}
        record = {name: event.get(name) for name in ("event", "at", "agentId", "hostname", "organizationId")}
        found.setdefault((event["event"], event.get("agentId"), data.get("value")), {**record, **members})
    # A block that its agent still counts as not holding stands among the unenforced.
    failing = [each["agentId"] for each in found.values() if each["event"] == "block_ineffective"]
    current = set(agents.ids(reader, AgentFilter(unenforced=True), failing)) if failing else set()
    records = [
        each for each in found.values() if each["event"] != "block_ineffective" or each["agentId"] not in current
    ]
    return {"count": len(records), "more": len(rows) == _HARM_READ, "records": records[:SHOWN]}


def _waiting(reader: Reader, organizations: Collection[str] | None) -> Record:
    """Return the responses that wait for approval, the first to expire first, with the hosts that approval touches."""
    incident, response, agent = IncidentTable, IncidentResponseTable, AgentTable
    query = incident.select(
        incident.id, incident.kind, incident.value, incident.organization_id, incident.opened_at, response.reason,
        response.approval_expires_at,
    ).join(response, on=(response.incident_id == incident.id))  # fmt: skip
    query = query.where(response.state == "pending_approval", incident.merged_into.is_null())
    if organizations is not None:
        query = query.where(incident.organization_id.in_(list(organizations)))
    count = blocks.response_counts(reader, 0.0, organizations)[1]
    rows = reader.rows(query.order_by(response.approval_expires_at).limit(SHOWN)) if count else []
    sizes = incidents.sizes(reader, [row["id"] for row in rows])
    living = agent.select(agent.organization_id, fn.COUNT(agent.number).alias("hosts")).where(
        agent.removed_at.is_null(), agent.organization_id.in_([row["organization_id"] for row in rows])
    )
    hosts = {row["organization_id"]: row["hosts"] for row in reader.rows(living.group_by(agent.organization_id))}
    return {"count": count, "records": [_approval(row, sizes, hosts) for row in rows]}


def _approval(row: Record, sizes: dict[str, incidents.Size], hosts: dict[str, int]) -> Record:
    size = sizes[row["id"]]
    return {
        "id": row["id"],
        "kind": row["kind"],
        "value": row["value"],
        "organizationId": row["organization_id"],
        "openedAt": moment(row["opened_at"]),
        "reason": row["reason"],
        "approvalExpiresAt": moment(row["approval_expires_at"]),
        "agentCount": size.agents,
        "vouchedAgentCount": size.vouched,
        "targetCount": hosts.get(row["organization_id"], 0),
    }
