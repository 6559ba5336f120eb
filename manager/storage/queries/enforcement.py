"""Queries of the targets of blocks: the number that accepted, the number that enforces, the reasons of the others."""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

from peewee import Expression

from manager.domain.response.emergency_entry import is_enforceable
from manager.errors import NotFound
from manager.storage.queries.agent_statements import StatingAgent, stating_agent
from manager.storage.queries.protection import agents_of_group
from manager.storage.queries.reader import Reader, Record
from manager.storage.tables import AgentTable, EmergencyEntryTable

REASONS_SHOWN = 5
"""The most reasons in one block's record."""

HOSTS_SHOWN = 50
"""The most agents in each list of one block's record."""


class Reach(NamedTuple):
    """The number of a block's targets, of those that have accepted it, of those that enforce it, and reasons."""

    targets: int
    accepted: int
    enforced: int
    reasons: list[Record]

    def members(self) -> Record:
        """Return the members of a record."""
        return {
            "targetCount": self.targets,
            "acceptedCount": self.accepted,
            "enforcedCount": self.enforced,
            "notEnforced": self.reasons,
        }


@dataclass(slots=True)
class _Organization:
    """The agents of an organization; the sorted numbers answer for any block without a look at each agent."""

    agents: dict[str, StatingAgent] = field(default_factory=dict)
    accepted: list[int] = field(default_factory=list)
    enforced: list[tuple[int, str]] = field(default_factory=list)
    unenforced: dict[str, list[StatingAgent]] = field(default_factory=lambda: defaultdict(list))

    def add(self, agent: StatingAgent) -> None:
        """Add an agent; `sort` is called after the last one."""
        self.agents[agent.agent_id] = agent
        self.accepted.append(agent.sequence)
        self.enforced.append((agent.enforced_sequence, agent.agent_id))
        for value in agent.reasons:
            self.unenforced[value].append(agent)

    def sort(self) -> None:
        self.accepted.sort()
        self.enforced.sort()


class Enforcement:
    """The agents' newest statements of some organizations.

    Args:
        reader: reads the agents.
        organization_ids: the organizations of the blocks in question; an empty one stands for the whole fleet.
        within: the only organizations whose agents are looked at; None for all.
    """

    def __init__(self, reader: Reader, organization_ids: Iterable[str], within: Collection[str] | None = None) -> None:
        self._reader = reader
        self._organizations: dict[str, _Organization] = defaultdict(_Organization)
        self._by_number: dict[int, StatingAgent] = {}
        wanted = sorted(set(organization_ids))
        in_scope = [] if "" in wanted else [AgentTable.organization_id.in_(wanted)]
        if within is not None:
            in_scope.append(AgentTable.organization_id.in_(list(within)))
        agent = AgentTable
        query = agent.select(
            agent.organization_id, agent.agent_id, agent.hostname, agent.door, agent.policy_version, agent.policy_state,
            agent.blocklist_sequence, agent.enforcement, agent.enforced, agent.mode, agent.number,
        ).where(agent.removed_at.is_null(), *in_scope).order_by(agent.number)  # fmt: skip
        for row in reader.rows(query) if wanted else ():
            self._by_number[row["number"]] = known = stating_agent(row)
            self._organizations[row["organization_id"]].add(known)
        for organization in self._organizations.values():
            organization.sort()

    def reach(self, entry: Record) -> Reach:
        """Return the reach of one block.

        Args:
            entry: its row: `kind`, `scope`, `target`, `value`, `organization_id` and `number`.
        """
        if entry["scope"] == "fleet":
            reach = _sum(self._wide_reach(known, entry) for known in self._organizations.values())
        elif entry["scope"] == "organization":
            reach = self._wide_reach(self._organizations[entry["organization_id"]], entry)
        else:
            reach = _sum(_reach_on_agent(each, entry) for each in self._own_targets(entry))
        return reach if is_enforceable(entry["kind"], entry["value"]) else reach._replace(enforced=0)

    def hosts(self, entry: Record) -> Record:
        """Return the agents that have accepted a block, and those that enforce it, at most 50 of each."""
        wide, number = entry["scope"] in {"fleet", "organization"}, entry["number"]
        if entry["scope"] == "fleet":
            targets = [agent for each in self._organizations.values() for agent in each.agents.values()]
        elif wide:
            targets = list(self._organizations[entry["organization_id"]].agents.values())
        else:
            targets = self._own_targets(entry)
        if number is None:
            targets = []
        accepted = [each for each in targets if (each.sequence if wide else each.policy) >= number]
        enforced = [
            each
            for each in targets
            if (each.enforced_sequence if wide else each.enforced_policy) >= number
            and entry["value"] not in each.reasons
        ]
        if not is_enforceable(entry["kind"], entry["value"]):
            enforced = []
        return {"acceptedBy": _named(accepted), "enforcedBy": _named(enforced)}

    @staticmethod
    def _wide_reach(known: _Organization, entry: Record) -> Reach:
        """Return the reach of a block in one organization's blocklist."""
        value, number = entry["value"], entry["number"]
        refusing = known.unenforced.get(value, [])
        if number is None:  # from a release that did not keep it
            return Reach(len(known.agents), 0, 0, _reasons(refusing, value, 0, wide=True))
        accepted = len(known.accepted) - bisect_left(known.accepted, number)
        not_naming = bisect_left(known.enforced, (number, ""))
        naming = len(known.enforced) - not_naming
        enforced = naming - sum(agent.enforced_sequence >= number for agent in refusing)
        named = {agent.agent_id for agent in refusing}
        silent = (known.agents[agent_id] for _, agent_id in islice(known.enforced, not_naming) if agent_id not in named)
        reasons = _reasons(chain(refusing, silent), value, number, wide=True)
        return Reach(len(known.agents), accepted, enforced, reasons)

    def _own_targets(self, entry: Record) -> list[StatingAgent]:
        """Return the agents that have a block in their own policies: one agent, or those of a policy group."""
        if entry["scope"] == "group":
            try:
                numbers = agents_of_group(self._reader, entry["target"])
            except NotFound:
                return []
            return [self._by_number[number] for number in numbers if number in self._by_number]
        agent = self._organizations[entry["organization_id"]].agents.get(entry["target"])
        return [] if agent is None else [agent]

    def reach_of_all(self, entries: Iterable[Record], settings: Reach | None = None) -> Reach:
        """Return the reach of one incident's blocks; an organization's entry covers its agents' own ones.

        Args:
            entries: the rows of all blocks except those that `reach_of_settings` counts.
            settings: what `reach_of_settings` returns for the incident.
        """
        listed = list(entries)
        wide = [entry for entry in listed if entry["scope"] == "organization"]
        found = [self.reach(entry) for entry in wide or listed]
        return _sum(found if settings is None or wide else [*found, settings])


def counted_in_store(entry: type[EmergencyEntryTable]) -> Expression:
    """Return the condition on an entry that `reach_of_settings` counts it."""
    own = (entry.scope == "agent") & (entry.kind == "sensitivity")
    return own & entry.number.is_null(False)


def reach_of_settings(reader: Reader, incident_ids: Sequence[str]) -> dict[str, Reach]:
    """Return the reach of the entries that raise the sensitivity of single agents, by incident.

    A technique has one for each member of its incident, thousands, and the store counts those that are accepted. The
    agents are read of those alone that are among the reasons.
    """
    if not incident_ids:
        return {}
    params = {"incident_ids": json.dumps(list(incident_ids)), "limit": REASONS_SHOWN}
    counted = reader.select("incidents.reach_of_settings", params)
    waiting = [entry_id for *_, first_waiting in counted for entry_id in json.loads(first_waiting)]
    entry, agent = EmergencyEntryTable, AgentTable
    query = entry.select(
        entry.incident_id, entry.kind, entry.value, entry.number.alias("entry_number"), agent.agent_id, agent.hostname,
        agent.door, agent.policy_version, agent.policy_state, agent.blocklist_sequence, agent.enforcement,
        agent.enforced, agent.mode,
    ).join(agent, on=(agent.agent_id == entry.target)).where(entry.id.in_(waiting))  # fmt: skip
    reasons: dict[str, list[Record]] = defaultdict(list)
    for row in reader.rows(query.order_by(entry.created_at, entry.id)) if waiting else ():
        reach = _reach_on_agent(stating_agent(row), {**row, "number": row["entry_number"]})
        reasons[row["incident_id"]] += reach.reasons
    return {
        incident_id: Reach(agents, accepted, accepted, reasons[incident_id])
        for incident_id, agents, accepted, _ in counted
    }


def _reach_on_agent(agent: StatingAgent, entry: Record) -> Reach:
    """Return the reach of a block in one agent's own policy, by the agent's number and reasons alone."""
    value, number = entry["value"], entry["number"]
    if number is None:
        return Reach(1, 0, 0, _reasons([agent] if value in agent.reasons else [], value, 0, wide=False))
    accepted, enforced = agent.policy >= number, agent.enforced_policy >= number and value not in agent.reasons
    if entry["kind"] == "sensitivity":  # no matter of the kernel: in force once it is accepted
        enforced = accepted
    return Reach(1, int(accepted), int(enforced), _reasons([] if enforced else [agent], value, number, wide=False))


def _sum(parts: Iterable[Reach]) -> Reach:
    found = list(parts)
    reasons = [reason for each in found for reason in each.reasons]
    return Reach(
        sum(each.targets for each in found),
        sum(each.accepted for each in found),
        sum(each.enforced for each in found),
        reasons[:REASONS_SHOWN],
    )


def _reasons(agents: Iterable[StatingAgent], value: str, number: int, *, wide: bool) -> list[Record]:
    return [
        {"agentId": agent.agent_id, "hostname": agent.hostname, "reason": agent.why_not(value, number, wide=wide)}
        for agent in islice(agents, REASONS_SHOWN)
    ]


def _named(agents: Iterable[StatingAgent]) -> list[Record]:
    shown = islice(agents, HOSTS_SHOWN)
    return [{"agentId": agent.agent_id, "hostname": agent.hostname} for agent in shown]


def condition_of(row: Record) -> Record:
    """Return the members of an agent's record about its condition, from its row."""
    return {
        "health": row["health"],
        "sources": json.loads(row["sources"]),
        "enforcement": row["enforcement"] or "unknown",
        "modeWanted": row["mode_wanted"],
        "trialSecondsLeft": row["trial_seconds_left"],
        "enforced": None if row["enforced"] is None else json.loads(row["enforced"]),
    }
