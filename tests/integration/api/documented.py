"""The documented HTTP contract, row by row: a request, and the least that its answer must have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.api.served import ADMIN_TOKEN, HOST

AGENT = (
    "agentId", "id", "hostname", "os", "arch", "platform.os", "platform.arch", "platform.ip", "version", "ip", "tags",
    "status", "registeredAt", "lastHeartbeat",
)  # fmt: skip
FLAT_COUNTS = (
    "totalThreats", "criticalCount", "highCount", "suspiciousCount", "uniqueAttackers", "affectedAgents",
    "correlatedGroups",
)  # fmt: skip
SEVERITIES = ("total", "critical", "high", "medium", "low")
POLICY = ("id", "policyId", "name", "version", "rules", "createdAt", "updatedAt")
SET = ("scope", "target", "revision", "changed", "agents")
LISTED_INCIDENT = ("id", "kind", "value", "organizationId", "agentIds", "openedAt", "closedAt", "response", "workState")
INCIDENT = (*LISTED_INCIDENT, "entries", "threats", "users", "timeline.0.event")
BLOCK = ("id", "kind", "value", "scope", "reason", "addedBy", "createdAt", "expiresAt", "targetCount")
STANDING = ("frozen", "simulation", "organizationResponse", "organizationResponseChosen", "entries", "pending")
DOCUMENT = {"thresholds": {"autoRespond": 70}}
GROUP = {"selector": {"tagsAll": ["web"]}, "priority": 10, "policy": DOCUMENT}
GROUP_RECORD = (
    "name", "selector", "priority", "organization", "policy", "agents", "setToProtection", "inProtection", "blocking",
)  # fmt: skip
EVENT = {
    "id": "evt-1", "timestamp": "2027-01-15T07:59:00.000Z", "source": "network", "severity": "high",
    "category": "brute_force", "description": "many failed logins", "raw": {"any": ["JSON", 1, None]}, "host": "srv",
    "metadata": {"sourceIP": "198.51.100.7"},
}  # fmt: skip
VERDICT = {"conclusion": "malicious", "confidence": 92, "action": "block_ip"}
REPORT = {
    "threat": {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": "198.51.100.7"}},
    "response": "block_ip", "timestamp": "2027-01-15T07:59:00Z",
}  # fmt: skip
STORED = (
    "received", "accepted", "eventIds.0", "threats.0.id", "threats.0.sourceAgentId", "threats.0.sourceHostname",
)  # fmt: skip
VITALS = {
    "cpu": 1, "memory": 2, "eventsProcessed": 3, "threatsDetected": 4, "actionsExecuted": 5, "mode": "learning",
    "uptime": 6, "version": "1.4.2", "policyVersion": 1, "timestamp": "2027-01-15T08:00:00Z",
}  # fmt: skip
OLD_VITALS = {"cpuUsage": 1, "memUsage": 2, "threatCount": 3}
OLDER_VITALS = {
    "eventsProcessed": 12, "threatsDetected": 1, "actionsExecuted": 1, "mode": "protection", "uptime": 61.5,
    "memoryUsageMB": 58.25,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One documented request and its answer.

    Args:
        operation: method and path as the API's document has them; what stands in braces is filled in, here and below.
        body: JSON, None for no body.
        query: what follows the question mark.
        headers: beside the token.
        status: of the answer.
        data: members of `data`; `a.b` is a member of a member, `0` the first of a list.
        top: members beside `data`.
        own: whether the agent asks with its own token, and not the admin with his.
        text: whether the answer is no JSON.
        answered: headers of the answer.
    """

    operation: str
    body: Any = None
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    data: tuple[str, ...] = ()
    top: tuple[str, ...] = ()
    own: bool = False
    text: bool = False
    answered: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Name the row in a list of tests."""
        return f"{self.operation}{self.query and '?'}{self.query} {self.status}"


def filled(body: Any, known: Mapping[str, str]) -> Any:
    """Return a row's body with the agent that it names in braces."""
    return json.loads(json.dumps(body).replace("{agent_id}", known["agent_id"]))


REGISTRATION = {**HOST, "hostname": "srv-new", "ip": "192.0.2.7", "tags": ["web"], "site": "a", "endpoint": "http://x"}
HEARTBEAT = "POST /api/agents/{agent_id}/heartbeat"
EVENTS = "POST /api/agents/{agent_id}/events"
POLL = "GET /api/policy/agent/{agent_id}"
POLLED = (
    "policyId", "policyVersion", "version", "rules", "appliedAt", "digest", "thresholds", "blocklist", "allowlist",
    "monitors", "alerting", "response", "detection",
)  # fmt: skip
LISTED = ("nextCursor",)
RULES = [
    {"type": "block_ip", "config": {"ip": "198.51.100.7"}, "enabled": True},
    {"ruleId": "r", "type": "custom", "condition": "c", "action": "a", "severity": "high", "description": "d"},
    {"type": "block_ip", "value": "198.51.100.8", "duration": "24h", "reason": "seen"},
    {"type": "auto_respond", "config": {"threshold": 70}},
    {"type": "alert_threshold", "config": {"minimumSeverity": "high"}},
]

ROWS = (
    Row("POST /api/agents/register", REGISTRATION, status=201, data=AGENT, top=("agentId", "token")),
    Row("POST /api/agents/register", {**REGISTRATION, "organizationId": "acme"}, status=201, data=AGENT),
    Row("POST /api/agents/register", {**REGISTRATION, "org_id": "acme"}, status=201, data=AGENT),
    *(Row(HEARTBEAT, vitals, data=(*AGENT, "pendingPolicies"), own=True)
      for vitals in ({}, VITALS, OLD_VITALS, OLDER_VITALS)),
    Row(EVENTS, REPORT, status=201, data=STORED, own=True),
    Row(EVENTS, {"events": [{"type": "a", "severity": "high", "details": {}, "timestamp": "2027-01-15T07:59:00Z",
                             "sigmaRuleId": "r", "confidence": 0.9}]}, status=201, data=STORED, own=True),
    Row(EVENTS, {"threats": [{"event": EVENT, "verdict": VERDICT}], "reportedAt": "2027-01-15T08:00:00Z"},
        data=STORED, own=True),
    Row(EVENTS, {"event": EVENT, "verdict": VERDICT}, status=201, data=STORED, own=True),
    Row(POLL, data=POLLED, own=True, answered=("ETag",)),
    Row(POLL, query="version=0", data=POLLED, own=True),
    Row(POLL, query="version={version}", status=304, own=True, answered=("ETag",)),
    Row(POLL, headers={"If-None-Match": '"{version}"'}, status=304, own=True),
    Row(POLL, headers={"X-Policy-Version": "{version}"}, status=304, own=True),
    Row("DELETE /api/agents/{agent_id}", data=("agentId", "removed", "message"), own=True),
    Row("DELETE /api/agents/{agent_id}", query="purge=true", data=("agentId", "removed", "message")),
    Row("GET /api/agents", query="status=online&org_id=default&tag=web&tag=eu&limit=1", data=tuple(
        f"0.{name}" for name in AGENT), top=LISTED),
    Row("GET /api/agents", query="brief=true&limit=1", top=LISTED, data=tuple(f"0.{name}" for name in (
        "agentId", "hostname", "organizationId", "site", "tags", "version", "status", "mode", "health", "enforcement",
        "lastHeartbeat"))),
    Row("GET /api/agents/{agent_id}", own=True, data=(
        *AGENT, "cpu", "memory", "uptime", "recentThreats", "history.0.at", "history.0.event",
        "history.0.detail", "activePolicyVersion")),
    Row("GET /api/agents/{agent_id}/vitals", own=True, data=("agentId", "periodSeconds", "periods")),
    Row("GET /api/now", data=("at", "since", "agents.total", "gotIn.count", "gotIn.otherCritical", "weHurt.harm.count",
                              "weHurt.unenforced.count", "waits.count", "blind.stale.count", "blind.degraded.count",
                              "blind.unconfirmed.count", "blind.heldBack.count", "manager.behindSeconds",
                              "dealtWith.total", "dealtWith.sources", "dealtWith.blocks")),
    Row("GET /api/overview", data=(
        "totalAgents", "onlineAgents", "staleAgents", "offlineAgents", "agents.0.agentId", "activePolicyVersion",
        "topThreats", "agentsByOs", "uptimeMs", "updatedAt",
        *(f"threatSummary.{name}" for name in FLAT_COUNTS),
        *(f"threatSummary.{period}.{name}" for period in ("last24h", "last7d") for name in SEVERITIES))),
    Row("GET /api/threats", query="since=2027-01-15T07:00:00Z&severity=medium&type=brute_force&org_id=default&limit=1",
        data=("0.id", "0.agentId", "0.hostname", "0.eventTime", "0.receivedAt", "0.threat.type", "0.threat.confidence",
              "0.threat.evidence", "0.response", "0.timestamp"), top=LISTED),
    Row("GET /api/threats", query="source=198.51.100.7&since=2027-01-15T07:00:00Z", data=("0.id", "0.threat"),
        top=LISTED),
    Row("POST /api/threats/{threat_id}/recognize", {"note": "mine"}, data=("id", "recognized.by", "recognized.at")),
    Row("DELETE /api/threats/{threat_id}/recognize", data=("id",)),
    Row("GET /api/threats/{threat_id}", data=("id", "agentId", "threat", "eventTime", "correlatedWith")),
    *(Row("GET /api/threats/summary", query=f"period={period}",
          data=("total", "bySeverity", "byType", "topAgents.0", "topSourceIps.0", *FLAT_COUNTS))
      for period in ("1h", "6h", "24h", "7d", "30d")),
    Row("POST /api/policy", {"rules": RULES, "name": "n", "description": "d", "broadcast": True}, status=201,
        data=(*POLICY, "broadcastedTo", "appliedTo")),
    Row("GET /api/policy/active", data=POLICY),
    Row("GET /api/rules/latest", top=("rules",), own=True),
    Row("POST /api/events/ticket", status=201, data=("ticket", "expiresIn")),
    Row("GET /api/events/stream", text=True),
    Row("GET /health", data=("status", "running", "uptime", "version", "agents", "agentCounts"), top=(
        "status", "running", "uptime", "version", "agents", "agentCounts")),
    Row("GET /health/live", data=("live",)),
    Row("GET /health/ready", data=("ready",)),
    Row("GET /metrics", text=True),
    *(Row(f"{method} /api/policies/{scope}", DOCUMENT if method == "PUT" else None,
          data=() if method == "GET" else SET, top=("revision", "updatedAt", "author") if method == "GET" else ())
      for scope in ("global", "organizations/{organization_id}", "agents/{agent_id}")
      for method in ("PUT", "GET", "DELETE")),
    Row("PUT /api/policies/groups/{group}", GROUP, data=SET),
    Row("GET /api/policies/groups", data=tuple(f"0.{name}" for name in GROUP_RECORD), top=LISTED),
    Row("GET /api/policies/groups/{group}", data=GROUP_RECORD, top=("revision", "updatedAt", "author")),
    Row("DELETE /api/policies/groups/{group}", data=SET),
    Row("PATCH /api/agents/{agent_id}", {"tags": ["db"], "site": "bonn", "organization": "acme"}, data=AGENT),
    Row("POST /api/agents/change", {"agentIds": ["{agent_id}"], "addTags": ["db"], "removeTags": ["web"]},
        data=("agents.0.agentId", "agents.0.hostname", "policies", "refused", "dryRun")),
    Row("GET /api/organizations", data=("0.organization", "0.agents"), top=LISTED),
    Row("POST /api/agents/prune", {"olderThan": 86400, "dryRun": True}, data=("agents", "removed", "more")),
    Row("GET /api/policies/agent/{agent_id}/explain", data=(
        "agentId", "hostname", "organizationId", "version", "digest", "groups", *(
            f"values.0.{name}" for name in ("path", "value", "scope", "target", "setBy.0.scope")))),
    Row("GET /api/policies", data=("0.scope", "0.target", "0.revision", "0.document"), top=LISTED),
    Row("GET /api/policies/history", query="limit=1", data=("0.revision", "0.scope", "0.author"), top=LISTED),
    Row("POST /api/policies/rollback", {"revision": 2}, data=("revision", "changed", "agents")),
    Row("POST /api/policies/broadcast", data=("agents",)),
    Row("POST /api/policies/diff", {"from": 1}, data=("0.scope", "0.path", "0.before", "0.after"), top=("warnings",)),
    Row("GET /api/policies/drift", data=("0.agentId", "0.version", "0.versionInForce", "0.state", "0.mode",
                                         "0.policyMode"), top=LISTED),
    Row("GET /api/incidents", data=tuple(f"0.{name}" for name in LISTED_INCIDENT), top=LISTED),
    Row("GET /api/incidents/{incident_id}", data=INCIDENT),
    Row("GET /api/incidents", query="value=203.0.113.1", data=("0.id",), top=LISTED),
    Row("POST /api/incidents/{incident_id}/acknowledge", data=INCIDENT),
    Row("POST /api/incidents/{incident_id}/note", {"note": "n"}, data=INCIDENT),
    Row("POST /api/incidents/{incident_id}/close", {"note": "n"}, data=INCIDENT),
    Row("POST /api/incidents/{incident_id}/undo", data=INCIDENT),
    Row("POST /api/incidents/{waiting_id}/approve", data=INCIDENT),
    Row("GET /api/blocks", data=("0.id", "0.kind", "0.value", "0.scope", "0.expiresAt", "0.incidentId"), top=LISTED),
    Row("POST /api/blocks", {"value": "198.51.100.77"}, status=201, data=BLOCK),
    Row("POST /api/blocks", {"value": "198.51.100.78", "seconds": 60, "reason": "r", "organization": "acme"},
        status=201, data=BLOCK),
    Row("POST /api/blocks/import", {"blocks": [{"value": "198.51.100.79"}], "dryRun": True},
        data=("added", "new", "room", "refused", "dryRun")),
    Row("GET /api/blocks", query="value=198.51.100.90", data=("0.acceptedBy", "0.enforcedBy", "0.notEnforced"),
        top=LISTED),
    Row("DELETE /api/blocks", query="value=203.0.113.200",
        data=("value", "blocks", "incidents", "until", "agents", "notReached")),
    *(Row("GET /api/feeds/blocklist", query=f"format={each}", text=True, answered=("ETag",))
      for each in ("plain", "nft", "nginx")),
    Row("GET /api/feeds/blocklist", query="format=json&org_id=default", data=("0.value", "0.expiresAt"),
        answered=("ETag",)),
    Row("GET /api/feeds/blocklist", headers={"If-None-Match": "*"}, status=304, answered=("ETag",)),
    Row("DELETE /api/blocks/{entry_id}", data=("id", "removed")),
    Row("POST /api/allowlist", {"value": "192.0.2.9"}, status=201, data=("kind", "value", "changed")),
    Row("GET /api/allowlist", data=("0.kind", "0.value"), top=LISTED),
    Row("DELETE /api/allowlist", query="value=192.0.2.1", data=("kind", "value", "changed")),
    Row("GET /api/protection/forecast", query="days=30&org_id=default", data=(
        "since", "until", "organizationId", "addresses", "taken", "throttled", "beforeSixthGuess", "friends",
        "loggedIn", "guessed", "lifted", "allowlisted", "connectionsCut", "connectionsUnknown", "hosts",
        "hostsReportingLogins", "cases")),
    Row("GET /api/responses", data=STANDING),
    Row("PUT /api/responses", body={"organizationResponse": "vouched"}, data=STANDING),
    Row("POST /api/responses/freeze", data=STANDING),
    Row("POST /api/responses/thaw", data=STANDING),
    Row("POST /api/clock/accept", data=("at",)),
    Row("POST /api/step-down", {"force": True}, data=("steppingDown",)),
    Row("POST /api/tokens", {}, status=201, data=("tokenId", "token")),
    Row("POST /api/tokens/{token_id}/rotate", data=("tokenId", "token")),
    Row("GET /api/tokens", data=("0.tokenId", "0.uses"), top=LISTED),
    Row("GET /api/keys", data=("signKey", "number", "former", "canRollBack", "agents.changed", "behind")),
    Row("POST /api/keys/rotate", {}, data=("signKey", "number", "former.0.signKey", "former.0.until")),
    Row("POST /api/keys/rollback", {}, data=("signKey", "number", "canRollBack")),
    Row("DELETE /api/tokens/{token_id}", data=("tokenId", "revoked")),
    Row("POST /api/access", {"name": "alice", "role": "viewer", "organizations": ["acme"]}, status=201,
        data=("name", "token", "role", "organizations.0", "createdAt", "rotatedAt", "expiresAt")),
    Row("GET /api/access", data=("0.name", "0.role", "0.organizations", "0.createdAt", "0.rotatedAt", "0.expiresAt",
                                 "0.lastUsedAt", "0.revokedAt"), top=LISTED),
    Row("POST /api/access/{name}/rotate", {}, data=("name", "token", "rotatedAt")),
    Row("DELETE /api/access/{name}", data=("name", "revoked")),
    Row("GET /api/notifications", data=("0.name", "0.state", "0.destination", "0.sent", "0.notTold", "0.mutes")),
    Row("GET /api/notifications/history", top=("nextCursor",)),
    Row("POST /api/notifications/ops/test", {}, data=("channel", "delivered", "reason")),
    Row("POST /api/notifications/ops/pause", {"seconds": 60}, data=("channel", "pausedUntil")),
    Row("DELETE /api/notifications/ops/pause", data=("channel", "pausedUntil")),
    Row("POST /api/notifications/acknowledge", {"group": "waits-12"}, data=("group",)),
    Row("POST /api/notifications/mute", {"seconds": 60, "site": "vienna"}, data=("mutedUntil",)),
    Row("GET /api/notifications/mutes", data=("0.id", "0.site", "0.topic", "0.author", "0.reason", "0.mutedUntil")),
    Row("DELETE /api/notifications/mutes/{mute_id}", data=("mutedUntil",)),
    Row("POST /api/session", {"token": ADMIN_TOKEN}, status=201,
        data=("name", "role", "organizations", "csrfToken", "endsAt", "idleSeconds"), answered=("Set-Cookie",)),
    Row("GET /api/audit", data=("0.at", "0.actor", "0.role", "0.action", "0.target", "0.hostname"), top=LISTED),
    Row("GET /api/dead-letters", data=("0.topic", "0.reason", "0.payload"), top=LISTED),
    Row("GET /docs", text=True),
    Row("GET /openapi.json", text=True),
)  # fmt: skip
"""Section 3 of the contract, with the admin routes."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "0",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Content-Security-Policy": "default-src 'none'",
    "X-Request-Id": "",
}
"""Headers of every answer, with the beginning of their values."""

STATUSES = {400, 401, 403, 404, 405, 409, 413, 415, 429, 500, 503}
"""Documented refusals by status."""
