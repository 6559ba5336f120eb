"""A fleet behind a malicious broker: a real manager, real guards, and all that can be said to be true of them."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.logs import log_to
from agent.settings import GuardSettings
from schemas import topics
from schemas.errors import TopicError
from schemas.presence import Mode
from schemas.topics import Topic
from tests.integration.guard.guard_thread import QUICK, GuardThread
from tests.support.hostile.broker import HostileBroker
from tests.support.hostile.packets import Message
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

ATTENTIVE = QUICK.model_copy(update={"policy_poll_interval": 1.0})
"""Guards that look at what is retained all the time, so that what a broker retains always reaches them."""

_METRIC = re.compile(r'^panguard_events_total\{event="(\w+)"\} (\d+)', re.MULTILINE)
_OF_HEARTBEATS = {"acceptedCount", "enforcedCount", "notEnforced"}
"""The members of a block that follow what the agents told last, as vitals do."""

_OF_AGENT = (
    "agentId", "hostname", "organizationId", "tokenId", "registeredAt", "version", "status", "reason", "statusSince",
    "session", "policyVersion", "policyDigest", "policyState", "policyError", "policyAppliedAt", "outboxDropped",
)  # fmt: skip
_OF_GUARD = (
    "agentId", "organizationId", "session", "policyVersion", "policyState", "policy", "recorded", "blocklistSequence",
    "outboxDropped", "deadLetters",
)  # fmt: skip


class HostileFleet:
    """A context manager around a broker, a manager process, and the guards that a test has it start."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.broker = HostileBroker()
        self.guards: dict[str, GuardThread] = {}
        self.said = StringIO()
        self._environment = environment
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            log_to(self.said)
            stack.callback(log_to, None)
            stack.enter_context(self.broker)
            self.manager = stack.enter_context(ManagerProcess(self.home, self.broker.url, self._environment))
            self.admin = stack.enter_context(self.manager.client())
            stack.callback(self._stop_guards)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        assert "Traceback" not in self.said.getvalue()
        assert "Traceback" not in (self.home / "manager.log").read_text()

    def _stop_guards(self) -> None:
        for guard in self.guards.values():
            guard.stop()

    # Guards.

    def guard(self, hostname: str, organization: str | None = None, settings: GuardSettings = ATTENTIVE) -> GuardThread:
        """Return a new guard with the manager's own token, not started yet."""
        directory = self.home / hostname
        directory.mkdir()
        token = (self.manager.data / "enroll.token").read_text().strip()
        guard = GuardThread(directory, self.broker.url, token, self.said)
        guard.hostname, guard.mode, guard.settings = hostname, Mode.PROTECTION, settings
        if organization is not None:
            guard.options["organization"] = organization
        self.guards[hostname] = guard
        return guard

    def remove(self, hostname: str) -> None:
        """Remove the agent of a host from the registry, if there is one."""
        for agent in self.get("/api/agents", limit=200):
            if agent["hostname"] == hostname:
                self.manager.request("DELETE", f"/api/agents/{agent['agentId']}", purge="true")

    def trouble(self, guard: GuardThread) -> str:
        """Return why a guard is not online, by its own status; empty where it has not said so yet."""
        said = (guard.directory / "status.json").exists()
        return str(guard.status().get("notConnected") or "") if said else ""

    def outbox(self, guard: GuardThread) -> list[str]:
        """Return the ids of the reports that a guard keeps."""
        path = (guard.directory / "guard.db").absolute().as_uri()
        with contextlib.closing(sqlite3.connect(f"{path}?mode=ro", uri=True)) as database:
            return [row[0] for row in database.execute("SELECT id FROM outbox ORDER BY sequence")]

    # What the broker knows.

    def heard(self, row: Topic, identifier: str) -> list[Message]:
        """Return what was published on one topic, oldest first."""
        address = row.address(identifier)
        return [message for message in list(self.broker.heard) if message.topic == address and message.payload]

    def registrations(self, hostname: str) -> list[Message]:
        """Return the registrations of a host, oldest first."""
        found = []
        for message in list(self.broker.heard):
            with contextlib.suppress(TopicError, ValueError):
                row, _ = topics.resolve(message.topic)
                if row is topics.REGISTRATION and json.loads(message.payload)["hostname"] == hostname:
                    found.append(message)
        return found

    # What is true.

    def get(self, path: str, **query: Any) -> Any:
        """Return the data of the HTTP API's answer."""
        answer = self.admin.get(path, params=query)
        answer.raise_for_status()
        return answer.json()["data"]

    def counters(self) -> dict[str, int]:
        """Return what the manager has counted."""
        return {name: int(number) for name, number in _METRIC.findall(self.admin.get("/metrics").text)}

    def count(self, counter: str) -> int:
        """Return one of the manager's counters."""
        return self.counters().get(counter, 0)

    def stored(self, hostname: str) -> list[str]:
        """Return the sources of the threats that are stored of a host."""
        threats = self.get("/api/threats", limit=200)
        return sorted(each["threat"]["evidence"]["sourceIp"] for each in threats if each["hostname"] == hostname)

    def facts(self) -> dict[str, Any]:
        """Return all that the manager has stored but for vitals, and all that the guards obey and keep."""
        get = self.get
        return {
            "agents": [{name: agent[name] for name in _OF_AGENT} for agent in get("/api/agents", limit=200)],
            "threats": [(each["agentId"], each["id"], each["eventTime"]) for each in get("/api/threats", limit=200)],
            "incidents": [(each["id"], each["agentCount"], each["response"]) for each in get("/api/incidents")],
            "blocks": [
                {name: member for name, member in block.items() if name not in _OF_HEARTBEATS}
                for block in get("/api/blocks", limit=200)
            ],
            "documents": get("/api/policies"),
            "drift": get("/api/policies/drift"),
            "changes": [(each["action"], each["target"]) for each in get("/api/audit", limit=200)],
            "guards": {name: self._facts_of(guard) for name, guard in self.guards.items()},
        }

    def _facts_of(self, guard: GuardThread) -> dict[str, Any]:
        status = guard.status()
        return {name: status[name] for name in _OF_GUARD} | {"outbox": self.outbox(guard)}


def settled(fleet: HostileFleet, *guards: GuardThread) -> None:
    """Wait until guards have what is meant for them, and their reports are stored."""
    eventually(lambda: not any(fleet.outbox(guard) for guard in guards), what="receipts for all reports")
    eventually(lambda: fleet.get("/api/policies/drift") == [], what="every policy in force")
