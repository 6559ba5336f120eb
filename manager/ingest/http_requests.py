"""Requests of HTTP agents at a worker: heartbeats are answered and handed over, reports wait for the batch's commit.

What needs the leader's memory is refused with LeaderNeeded, and the HTTP door passes it on: an agent that the database
does not have, a policy that the agent may lack, and heartbeats while the store asks for reports again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from manager.domain.agents.agent import Agent, Door, Reason, State
from manager.domain.agents.condition import kept_sources
from manager.domain.instant import Instant
from manager.engine.agent_record import record_under
from manager.engine.commands.http_agent_requests import (
    HeartbeatRecorded,
    LearnAgent,
    RecordHeartbeat,
    StoreReports,
)
from manager.engine.commands.http_agents import received_reports
from manager.engine.context import Submission
from manager.engine.inbox import Command
from manager.engine.messages import http_heartbeats
from manager.engine.messages.gathered_life import GatheredLife
from manager.engine.messages.reports import OTHER_CONTENT, report_key
from manager.errors import LeaderNeeded, StoreUnavailable
from manager.ingest.known_agents import KnownAgents
from manager.ingest.report_store import PolicyVersions
from schemas.fast_http_heartbeats import AnyHttpHeartbeat
from schemas.http_agents import HttpHeartbeat

log = structlog.get_logger(__name__)

_LOGGED = 512
_MOST_ANSWERED = 200_000


class Policies(Protocol):
    """The part of the database that says what policy an agent should have."""

    def policies(self, agent_ids: Sequence[str], now: float) -> dict[str, PolicyVersions]:
        """Return the present policies of some registered agents; none while the store asks for reports again."""
        ...


@dataclass(slots=True, eq=False)
class Submitted:
    """The reports of one request, and the command that gets the answer after their commit."""

    command: Command
    submission: Submission
    is_dated: bool
    """Whether the request stated its sending time."""


@dataclass(slots=True)
class HttpRequests:
    """Takes the requests of HTTP agents into a worker's batches.

    Attributes:
        store: Has the policies.
        agents: The agents by id.
        life: Gets heartbeats and other signs of life.
        counters: Count what was taken.
    """

    store: Policies
    agents: KnownAgents
    life: GatheredLife
    counters: Counter[str]
    _answered: dict[str, PolicyVersions] = field(default_factory=dict)
    """The policy about which the leader last answered an agent that states no version."""

    def agent_ids(self, commands: Iterable[Command]) -> tuple[set[str], set[str]]:
        """Return the agents of some commands, and those whose heartbeats need their present record."""
        named = {command.request.agent_id for command in commands}
        return named, {each.request.agent_id for each in commands if isinstance(each.request, RecordHeartbeat)}

    def take(self, commands: Sequence[Command], now: Instant) -> list[Submitted]:
        """Answer heartbeats, and return the reports to store."""
        heartbeats = [each for each in commands if isinstance(each.request, RecordHeartbeat)]
        if heartbeats:
            self._answer_heartbeats(heartbeats, now)
        submitted = []
        for command in commands:
            if isinstance(command.request, LearnAgent):
                command.reply(None, None)
            elif isinstance(command.request, StoreReports):
                try:
                    submitted.append(self._submitted(command, command.request, now))
                except Exception as error:
                    if not isinstance(error, LeaderNeeded):
                        log.exception("reports_failed", agent_id=command.request.agent_id)
                        self.counters["messages_failed"] += 1
                    command.reply(None, error)
        return submitted

    def _submitted(self, command: Command, request: StoreReports, now: Instant) -> Submitted:
        agent = self.agents.find(request.agent_id)
        if agent is None:
            raise LeaderNeeded("the database has no such agent")
        self.counters["threats_http"] += len(request.reports)
        self.life.add_contact(agent.agent_id, now.monotonic)
        submission = Submission(received_reports(agent, request, now.wall), now.wall)
        return Submitted(command, submission, request.sent_at is not None)

    def _answer_heartbeats(self, commands: Sequence[Command], now: Instant) -> None:
        try:
            policies = self.store.policies(sorted({each.request.agent_id for each in commands}), now.wall)
        except StoreUnavailable as error:
            refuse(commands, LeaderNeeded(str(error)))
            return
        for command in commands:
            request = command.request
            try:
                answer = self._record(request, policies.get(request.agent_id), now)
            except LeaderNeeded as needed:
                command.reply(None, needed)
            except Exception as error:
                log.exception("heartbeat_failed", agent_id=request.agent_id)
                self.counters["messages_failed"] += 1
                command.reply(None, error)
            else:
                command.reply(answer, None)

    def _record(self, request: RecordHeartbeat, policy: PolicyVersions | None, now: Instant) -> HeartbeatRecorded:
        """Record a heartbeat in this process's copy of the agent, hand it over, and return the answer.

        Raises:
            LeaderNeeded: the agent may lack a policy, the store asks for reports again, or does not have the agent.
        """
        agent, heartbeat = self.agents.find(request.agent_id), request.heartbeat
        if agent is None or policy is None:
            raise LeaderNeeded("what the agent should hear is not known here")
        self._require_settled(agent, heartbeat, policy)
        self.counters["heartbeat_http"] += 1
        if request.dropped:
            self.counters["heartbeat_values_dropped"] += len(request.dropped)
            log.info("heartbeat_values_dropped", agent_id=agent.agent_id, values="; ".join(request.dropped)[:_LOGGED])
        self.life.add_http(agent.agent_id, request.body or _json(heartbeat), now.monotonic)
        _apply(agent, heartbeat, now)
        return HeartbeatRecorded(record_under(agent, policy.version, policy.digest), ())

    def _require_settled(self, agent: Agent, heartbeat: AnyHttpHeartbeat, policy: PolicyVersions) -> None:
        """Require that the leader would hand over no policy, and learn of none in force that it does not know.

        To an agent that states no version the leader hands over what is urgent, once. So it gets one heartbeat of such
        an agent after each change of its policy. An agent that states 0 has none, and gets what is urgent each time.

        Raises:
            LeaderNeeded: that is not certain.
        """
        force, stated = agent.in_force, heartbeat.policy_version
        is_current = (force.version, force.digest) == (policy.version, policy.digest)
        if is_current and force.blocklist_sequence >= policy.sequence and stated in {None, policy.newest}:
            return
        if stated is None and self._answered.get(agent.agent_id) == policy:
            return
        served = partial(self._note_answered, agent.agent_id, policy) if stated is None else None
        raise LeaderNeeded("the agent may lack a policy", served=served)

    def _note_answered(self, agent_id: str, policy: PolicyVersions) -> None:
        """Note that the leader has answered an agent's heartbeat under a policy; called in the server's thread."""
        if len(self._answered) >= _MOST_ANSWERED:
            self._answered = {}
        self._answered[agent_id] = policy


def refuse(commands: Iterable[Command], error: Exception) -> None:
    """Answer commands with an error."""
    for command in commands:
        command.reply(None, error)


def refuse_otherwise(submitted: Iterable[Submitted], stored: set[tuple[int, str]]) -> None:
    """Refuse the requests with a report whose id is stored with other content."""
    for each in submitted:
        for index, report in enumerate(each.submission.reports):
            if each.submission.refusal is None and report_key(report) in stored:
                each.submission.refuse(index, OTHER_CONTENT)


def _apply(agent: Agent, heartbeat: AnyHttpHeartbeat, now: Instant) -> None:
    """Record a heartbeat in a copy of the agent, for the answer."""
    if agent.state is not State.ONLINE:
        agent.state, agent.reason, agent.state_since = State.ONLINE, Reason.HEARTBEAT, now.wall
    agent.door, agent.last_heartbeat = Door.HTTP, now.wall
    http_heartbeats.observe_clock(agent, heartbeat, now.wall)
    http_heartbeats.record_vitals(agent, heartbeat)
    if heartbeat.policy_version and heartbeat.policy_state is not None:
        agent.in_force.restate(heartbeat.policy_state, heartbeat.policy_error)
    agent.vitals.sources = kept_sources(heartbeat.sources or ())
    condition = agent.condition.stating(
        heartbeat.health, heartbeat.enforcement, heartbeat.mode_wanted, heartbeat.trial_seconds_left
    )
    agent.condition = condition.enforcing(heartbeat.enforced)


def _json(heartbeat: AnyHttpHeartbeat) -> bytes:
    """Return a heartbeat as JSON that decodes to the same one."""
    if not isinstance(heartbeat, HttpHeartbeat):
        raise TypeError("a heartbeat of the fast decoder comes with its body")
    return heartbeat.body()
