"""Queries of the targets of blocks: the number that accepted, the number that enforces, the reasons of the others."""

import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from manager.domain.agents.agent import Door
from manager.domain.agents.condition import Condition, unenforced_values
from manager.domain.response.emergency_entry import is_enforceable
from manager.storage.queries.reader import Reader, Record
from manager.storage.tables import AgentTable
from schemas.decoding import decode
from schemas.limits import MESSAGE_LIMIT
from schemas.presence import Enforced, PolicyState

REASONS_SHOWN = 5
"""The most reasons in one block's record."""


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


class _Agent(NamedTuple):
    """One agent's statements: accepted and enforced numbers by medium; -1 where nothing is certain."""

    agent_id: str
    hostname: str
    policy: int
    sequence: int
    enforced_policy: int
    enforced_sequence: int
    reasons: dict[str, str]


@dataclass(slots=True)
class _Organization:
    """The agents of an organization; the sorted numbers answer for any block without a look at each agent."""

    agents: dict[str, _Agent] = field(default_factory=dict)
    accepted: list[int] = field(default_factory=list)
    enforced: list[int] = field(default_factory=list)
    unenforced: dict[str, list[_Agent]] = field(default_factory=lambda: defaultdict(list))

    def add(self, agent: _Agent) -> None:
        self.agents[agent.agent_id] = agent
        insort(self.accepted, agent.sequence)
        insort(self.enforced, agent.enforced_sequence)
        for value in agent.reasons:
            self.unenforced[value].append(agent)


class Enforcement:
    """The agents' newest statements of some organizations.

    Args:
        reader: reads the agents.
        organization_ids: the organizations of the blocks in question.
    """

    def __init__(self, reader: Reader, organization_ids: Iterable[str]) -> None:
        self._organizations: dict[str, _Organization] = defaultdict(_Organization)
        wanted = sorted(set(organization_ids))
        agent = AgentTable
        query = agent.select(
            agent.organization_id, agent.agent_id, agent.hostname, agent.door, agent.policy_version, agent.policy_state,
            agent.blocklist_sequence, agent.enforcement, agent.enforced,
        ).where(agent.removed_at.is_null(), agent.organization_id.in_(wanted))  # fmt: skip
        for row in reader.rows(query) if wanted else ():
            self._organizations[row["organization_id"]].add(_agent(row))

    def reach(self, entry: Record) -> Reach:
        """Return the reach of one block.

        Args:
            entry: its row: `kind`, `scope`, `target`, `value`, `organization_id` and `number`.
        """
        reach = self._stated_reach(entry)
        return reach if is_enforceable(entry["kind"], entry["value"]) else reach._replace(enforced=0)

    def _stated_reach(self, entry: Record) -> Reach:
        """Return the reach by the agents' numbers and reasons alone."""
        known = self._organizations[entry["organization_id"]]
        value, number = entry["value"], entry["number"]
        wide = entry["scope"] == "organization"
        agents = [] if wide else [agent for agent in (known.agents.get(entry["target"]),) if agent is not None]
        refusing = known.unenforced.get(value, []) if wide else [agent for agent in agents if value in agent.reasons]
        reasons = [
            {"agentId": agent.agent_id, "hostname": agent.hostname, "reason": agent.reasons[value]}
            for agent in refusing[:REASONS_SHOWN]
        ]
        if number is None:  # from a release that did not keep it
            return Reach(len(known.agents) if wide else len(agents), 0, 0, reasons)
        if not wide:
            accepted = sum(agent.policy >= number for agent in agents)
            enforced = sum(agent.enforced_policy >= number and value not in agent.reasons for agent in agents)
            is_threshold = entry["kind"] == "sensitivity"  # no matter of the kernel: in force once it is accepted
            return Reach(len(agents), accepted, accepted if is_threshold else enforced, reasons)
        accepted = len(known.accepted) - bisect_left(known.accepted, number)
        naming = len(known.enforced) - bisect_left(known.enforced, number)
        return Reach(
            len(known.agents),
            accepted,
            naming - sum(agent.enforced_sequence >= number for agent in refusing),
            reasons,
        )

    def reach_of_all(self, entries: Iterable[Record]) -> Reach:
        """Return the reach of one incident's blocks; an organization's entry covers its agents' own ones."""
        listed = list(entries)
        wide = [entry for entry in listed if entry["scope"] == "organization"]
        found = [self.reach(entry) for entry in wide or listed]
        reasons = [reason for each in found for reason in each.reasons]
        return Reach(
            sum(each.targets for each in found),
            sum(each.accepted for each in found),
            sum(each.enforced for each in found),
            reasons[:REASONS_SHOWN],
        )


def _agent(row: Record) -> _Agent:
    policy = row["policy_version"] if row["policy_state"] == PolicyState.APPLIED else -1
    stated = None if row["enforced"] is None else decode(Enforced, row["enforced"].encode(), MESSAGE_LIMIT)
    reasons = {} if stated is None else {each.value: each.reason for each in stated.reasons}
    condition = Condition(enforcement=row["enforcement"], enforced=stated)
    enforced_policy = enforced_sequence = -1
    if stated is not None and condition.enforces() and unenforced_values(stated) is not None:
        enforced_policy = stated.policy_version or -1
        number = stated.policy_version if row["door"] == Door.HTTP else stated.blocklist_sequence
        enforced_sequence = number or -1
    return _Agent(
        row["agent_id"],
        row["hostname"],
        policy,
        row["blocklist_sequence"],
        enforced_policy,
        enforced_sequence,
        reasons,
    )


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
