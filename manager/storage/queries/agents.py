"""Agent records for the API: identity, state, vitals, applied and active policy."""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import and_, or_
from typing import Any, NamedTuple

from peewee import JOIN, OP, Case, Expression, fn

from manager.domain.agents.agent import State
from manager.domain.agents.shared_values import remembering
from manager.domain.agents.vitals_history import KEPT_FOR, PERIOD, period_of
from manager.domain.policies.fleet_policies import Scope
from manager.domain.policies.groups import PolicyGroup
from manager.errors import NotFound
from manager.storage.queries import policies
from manager.storage.queries.enforcement import condition_of
from manager.storage.queries.reader import Page, Query, Reader, Record, moment
from manager.storage.tables import AgentPolicyTable, AgentTable, AgentVitalsTable

HISTORY_SHOWN = 20
"""The maximum number of changes of state in an agent's own record."""

_RECORDS_SHARED = 512
_LONGEST_SHARED = 4096
"""The number of records that are kept, and the maximum number of characters in the texts of one."""

_LIVING = AgentTable.removed_at.is_null()
_NOT_HOLDING = ("ineffective", "refused", "impossible", "failed")


class AgentFilter(NamedTuple):
    """Filters of agents; None matches any. An agent must have all of `tags` and one of `hostnames`.

    `unenforced` selects those that count or list measures that do not hold, or the others; `unconfirmed` those whose
    mode is on trial or not the wanted one. An agent has one of `enforcement`; `unknown` is one that states none.
    """

    status: str | None = None
    organizations: Collection[str] | None = None
    tags: tuple[str, ...] = ()
    hostnames: tuple[str, ...] | None = None
    health: str | None = None
    unenforced: bool | None = None
    unconfirmed: bool | None = None
    site: str | None = None
    version: str | None = None
    mode: str | None = None
    enforcement: tuple[str, ...] = ()

    def conditions(self) -> list[Expression]:
        """Return the WHERE conditions."""
        wanted = [_LIVING]
        if self.status is not None:
            wanted.append(AgentTable.state == self.status)
        if self.organizations is not None:
            wanted.append(AgentTable.organization_id.in_(list(self.organizations)))
        equal = {
            AgentTable.health: self.health,
            AgentTable.site: self.site,
            AgentTable.version: self.version,
            AgentTable.mode: self.mode,
        }
        wanted += [Expression(column, OP.EQ, value) for column, value in equal.items() if value is not None]
        if self.enforcement:
            named = AgentTable.enforcement.in_(self.enforcement)
            wanted.append(named | AgentTable.enforcement.is_null() if "unknown" in self.enforcement else named)
        if self.unenforced is not None:
            says = reduce(or_, (_counts(name) for name in _NOT_HOLDING), AgentTable.enforced.contains('"reasons":[{'))
            wanted.append(says if self.unenforced else ~says)
        if self.unconfirmed is not None:
            other = AgentTable.mode_wanted.is_null(False) & (AgentTable.mode_wanted != AgentTable.mode)
            differs = AgentVitalsTable.trial_seconds_left.is_null(False) | other
            wanted.append(differs if self.unconfirmed else ~differs)
        if self.hostnames is not None:
            wanted.append(AgentTable.hostname.in_(self.hostnames))
        wanted += [_has_tag(tag) for tag in self.tags]
        return wanted


def _counts(name: str) -> Expression:
    """Return the condition that a count of what an agent enforces is there and not zero."""
    stated, zero = AgentTable.enforced.contains(f'"{name}":'), AgentTable.enforced.contains(f'"{name}":0,')
    return Expression(stated, OP.AND, ~zero)


def _has_tag(tag: str) -> Expression:
    """Return the condition that an agent has a tag.

    Tags are one JSON text; replacing the tag is a case-sensitive test that every database supports.
    """
    return fn.REPLACE(AgentTable.tags, json.dumps(tag), "") != AgentTable.tags


def _in_group(reader: Reader, name: str) -> list[Expression]:
    """Return the conditions that an agent belongs to a policy group.

    Raises:
        NotFound: there is no such group.
    """
    found = policies.last_of(reader, Scope("group", name))
    if found is None or found["document"] is None:
        raise NotFound(f"Group {name} not found")
    group = PolicyGroup.of(name, found["document"])
    wanted = [_has_tag(tag) for tag in sorted(group.selector.tags_all)]
    if group.selector.tags_any:
        wanted.append(reduce(or_, (_has_tag(tag) for tag in sorted(group.selector.tags_any))))
    if group.selector.sites:
        wanted.append(AgentTable.site.in_(sorted(group.selector.sites)))
    if group.organization_id is not None:
        wanted.append(AgentTable.organization_id == group.organization_id)
    return wanted


def page(
    reader: Reader,
    wanted: AgentFilter,
    limit: int,
    cursor: str | None,
    group: str | None = None,
    *,
    brief: bool = False,
) -> Page:
    """Return agents in the order of their first registration, of a policy group if one is named.

    `brief` records have the members by which a list is searched and shown, a tenth of the whole.

    Raises:
        NotFound: there is no such group.
    """
    inside = [] if group is None else _in_group(reader, group)
    query = (_brief_selection() if brief else selection()).where(*wanted.conditions(), *inside)
    to_record = _brief_record if brief else record_of
    return reader.page(query, AgentTable.number, to_record, limit, cursor, descending=False)


def _brief_selection() -> Query:
    agent, vitals = AgentTable, AgentVitalsTable
    return agent.select(
        agent.number, agent.agent_id, agent.organization_id, agent.hostname, agent.site, agent.tags, agent.version,
        agent.state, agent.mode, agent.health, agent.enforcement, vitals.last_heartbeat,
    ).join(vitals, on=(vitals.agent == agent.number))  # fmt: skip


def _brief_record(row: Record) -> Record:
    return {
        "agentId": row["agent_id"],
        "hostname": row["hostname"],
        "organizationId": row["organization_id"],
        "site": row["site"],
        "tags": _texts(row["tags"]),
        "version": row["version"],
        "status": row["state"],
        "mode": row["mode"],
        "health": row["health"],
        "enforcement": row["enforcement"] or "unknown",
        "lastHeartbeat": moment(row["last_heartbeat"]),
    }


def find(reader: Reader, agent_id: str) -> Record | None:
    """Return a registered agent, or None."""
    row = reader.row(selection().where(_LIVING, AgentTable.agent_id == agent_id))
    return None if row is None else record_of(row)


def history(reader: Reader, agent_id: str) -> list[Record]:
    """Return an agent's newest changes of state, newest first."""
    rows = reader.select("agents.history", (agent_id, HISTORY_SHOWN))
    return [{"at": moment(at), "event": event, "detail": detail} for at, event, detail in rows]


def vitals(reader: Reader, agent_id: str, now: float) -> Record | None:
    """Return a registered agent's vitals over time, oldest period first; None for no such agent.

    `cpu` and `memory` are means over the heartbeats of a period, in percent. `events` is the difference to the count at
    the end of the period before; None where no heartbeat came in that one, or the agent's count went back.
    """
    found = reader.row(AgentTable.select(AgentTable.number).where(_LIVING, AgentTable.agent_id == agent_id))
    if found is None:
        return None
    first = period_of(now - KEPT_FOR)
    params = {"agent_number": found["number"], "first": first - 1, "last": period_of(now)}
    rows = reader.select("agents.vitals_history", params)
    totals = {period: total for period, *_, total in rows}
    return {
        "agentId": agent_id,
        "periodSeconds": PERIOD,
        "periods": [_vitals_period(row, totals.get(row[0] - 1)) for row in rows if row[0] >= first],
    }


def _vitals_period(row: Sequence[int], total_before: int | None) -> Record:
    period, heartbeats, cpu, cpu_highest, memory, total = row
    return {
        "at": moment(period * PERIOD),
        "heartbeats": heartbeats,
        "cpu": round(cpu / heartbeats / 10, 1),
        "cpuHighest": cpu_highest / 10,
        "memory": round(memory / heartbeats / 10, 1),
        "events": None if total_before is None or total < total_before else total - total_before,
    }


def of_numbers(reader: Reader, numbers: str) -> list[Record]:
    """Return the agents of a JSON list of numbers, in its order; records are shared, and nobody changes one."""
    columns, rows = reader.columns("agents.of_numbers", (numbers,))
    return [_shared_record(columns, row) for row in rows]


def _record(columns: tuple[str, ...], row: tuple[Any, ...]) -> Record:
    """Return the record of a row: the agents that the overview shows first are silent, and their rows stay."""
    return record_of(dict(zip(columns, row, strict=True)))


def _length_of_row(_columns: tuple[str, ...], row: tuple[Any, ...]) -> int:
    return sum([len(each) for each in row if isinstance(each, str)])


_shared_record = remembering(_record, _length_of_row, _RECORDS_SHARED, longest=_LONGEST_SHARED)


def organization_of(reader: Reader, agent_id: str) -> str | None:
    """Return the organization of a registered agent, or None."""
    row = reader.row(AgentTable.select(AgentTable.organization_id).where(_LIVING, AgentTable.agent_id == agent_id))
    return None if row is None else row["organization_id"]


def hostnames(reader: Reader, agent_ids: Sequence[str], organizations: Collection[str] | None) -> dict[str, str]:
    """Return the hostnames of agents of organizations, removed ones too."""
    query = AgentTable.select(AgentTable.agent_id, AgentTable.hostname).where(AgentTable.agent_id.in_(list(agent_ids)))
    if organizations is not None:
        query = query.where(AgentTable.organization_id.in_(list(organizations)))
    return {row["agent_id"]: row["hostname"] for row in reader.rows(query)}


def counts(reader: Reader) -> dict[str, int]:
    """Return the number of agents in each state, and of all as `total`."""
    query = AgentTable.select(AgentTable.state, fn.COUNT(AgentTable.number).alias("agents")).where(_LIVING)
    found = {row["state"]: row["agents"] for row in reader.rows(query.group_by(AgentTable.state))}
    by_state = {state.value: found.get(state.value, 0) for state in State}
    return {"total": sum(by_state.values()), **by_state}


def tally(
    reader: Reader, organizations: Collection[str] | None, wanted: Mapping[str, AgentFilter]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of agents in each state and of all as `total`, and of those that match each filter, by name.

    One look at each agent of the organizations, or of all, answers for all filters.
    """
    filters = {state.value: AgentFilter(status=state.value) for state in State} | dict(wanted)
    columns = [
        fn.SUM(Case(None, ((reduce(and_, each.conditions()), 1),), 0)).alias(f"n_{name}")
        for name, each in filters.items()
    ]
    query = AgentTable.select(fn.COUNT(AgentTable.number).alias("total"), *columns)
    query = query.join(AgentVitalsTable, JOIN.LEFT_OUTER, on=(AgentVitalsTable.agent == AgentTable.number))
    row = reader.rows(query.where(*AgentFilter(organizations=organizations).conditions()))[0]
    states = {"total": row["total"], **{state.value: row[f"n_{state.value}"] or 0 for state in State}}
    return states, {name: row[f"n_{name}"] or 0 for name in wanted}


def ids(reader: Reader, wanted: AgentFilter, among: Collection[str]) -> list[str]:
    """Return those of some agents' ids whose agents match."""
    query = AgentTable.select(AgentTable.agent_id).where(*wanted.conditions(), AgentTable.agent_id.in_(list(among)))
    return [row["agent_id"] for row in reader.rows(query)]


def selection() -> Query:
    """Return the query for the rows of `record_of`; it selects no credentials."""
    agent, policy, vitals = AgentTable, AgentPolicyTable, AgentVitalsTable
    return agent.select(
        agent.number, agent.agent_id, agent.organization_id, agent.hostname, agent.os, agent.arch, agent.version,
        agent.site, agent.tags, agent.reported_tags, agent.reported_site, agent.addresses, agent.ip, agent.door,
        agent.token_id, agent.registered_at, agent.state, agent.state_since, agent.reason, agent.session, agent.mode,
        vitals.clock_offset, vitals.last_heartbeat, vitals.cpu, vitals.memory, vitals.uptime, vitals.events_processed,
        vitals.events_total, vitals.threats_detected, vitals.actions_executed, vitals.outbox_size,
        vitals.outbox_dropped, vitals.sources, vitals.trial_seconds_left,
        agent.policy_version, agent.policy_digest, agent.policy_state, agent.policy_error, agent.policy_applied_at,
        agent.blocklist_sequence, agent.health, agent.enforcement, agent.mode_wanted, agent.enforced,
        policy.version.alias("active_version"), policy.digest.alias("active_digest"),
        policy.published.alias("active_published"),
    ).join(policy, JOIN.LEFT_OUTER, on=(policy.agent == agent.number)).switch(agent).join(
        vitals, on=(vitals.agent == agent.number)
    )  # fmt: skip


def record_of(row: Record) -> Record:
    """Return an agent's record; `policyVersion` is the applied version, `activePolicyVersion` the one to be applied."""
    return {**_identity(row), **_condition(row), **condition_of(row), **_policy(row)}


def _identity(row: Record) -> Record:
    platform = {"os": row["os"], "arch": row["arch"], "ip": row["ip"]}
    return {
        "agentId": row["agent_id"],
        "id": row["agent_id"],
        "hostname": row["hostname"],
        "organizationId": row["organization_id"],
        "site": row["site"],
        "tags": _texts(row["tags"]),
        "reportedTags": _texts(row["reported_tags"]),
        "reportedSite": row["reported_site"],
        **platform,
        "platform": platform,
        "version": row["version"],
        "addresses": _texts(row["addresses"]),
        "tokenId": row["token_id"],
        "registeredAt": moment(row["registered_at"]),
    }


def _condition(row: Record) -> Record:
    return {
        "status": row["state"],
        "reason": row["reason"],
        "statusSince": moment(row["state_since"]),
        "door": row["door"],
        "session": row["session"],
        "clockOffset": None if row["clock_offset"] is None else round(row["clock_offset"], 3),
        "lastHeartbeat": moment(row["last_heartbeat"]),
        "cpu": row["cpu"],
        "memory": row["memory"],
        "uptime": row["uptime"],
        "mode": row["mode"],
        "eventsProcessed": row["events_processed"],
        "eventsTotal": row["events_total"],
        "threatsDetected": row["threats_detected"],
        "threatCount": row["threats_detected"],
        "actionsExecuted": row["actions_executed"],
        "outboxSize": row["outbox_size"],
        "outboxDropped": row["outbox_dropped"],
    }


def _policy(row: Record) -> Record:
    return {
        "policyVersion": row["policy_version"],
        "policyDigest": row["policy_digest"],
        "policyState": row["policy_state"],
        "policyError": row["policy_error"],
        "policyAppliedAt": moment(row["policy_applied_at"]),
        "blocklistSequence": row["blocklist_sequence"],
        "activePolicyVersion": row["active_version"],
        "policyCurrent": row["active_digest"] is not None
        and (row["policy_version"], row["policy_digest"]) == (row["active_version"], row["active_digest"]),
    }


def _texts(column: str) -> list[Any]:
    return list(json.loads(column)) if column != "[]" else []
