"""Keeps who may log in at a Mosquitto as the fleet is: over the manager's own connection, by the plugin's commands.

Mosquitto carries out what one client sends in its order. So what lets an agent in is in force before the reply to its
registration, published after it on the same connection, can reach it: nobody waits for an answer.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from manager.domain.agents.agent import Agent
from manager.engine.batch import Publication
from manager.provisioning import commands
from manager.provisioning.commands import Command
from manager.provisioning.differences import Found, differences
from manager.provisioning.logins import FleetLogins, agent_login
from manager.provisioning.roles import CONTROL, organization_role

log = structlog.get_logger(__name__)

_PAGE = 500
_AT_ONCE = 5
"""Commands in one message: Mosquitto saves its whole file at each of them and serves nobody before the last."""

_AHEAD = 5
"""Messages that may wait for their answer; then new agents wait: what is for others stands behind these messages."""

_MANY = 500
_LISTS = (("listRoles", "roles"), ("listClients", "clients"))


class DynamicSecurity:
    """The broker_access of a Mosquitto. Not thread-safe: it lives in the engine's thread.

    Args:
        publish: hands a message to the broker; what is lost while it is away is made good at `connected`.
        logins: who is to be there.
        counters: counts `access_commands` and `access_failures`.
    """

    def __init__(self, publish: Callable[[Publication], None], logins: FleetLogins, counters: Counter[str]) -> None:
        self._publish = publish
        self._logins = logins
        self._counters = counters
        self._found = Found()
        self._steps: Iterator[list[Command]] | None = None
        self._changed = 0
        self._sent = self._carried_out = 0
        self.answered = False
        """Whether the plugin is there: it has answered on this connection."""
        self.agrees = False
        """Whether the broker was brought to agree with the fleet on this connection."""

    @property
    def room(self) -> int | None:
        """How many messages may join those that wait for an answer: each is a pause for everybody at the broker."""
        return max(0, _AHEAD - (self._sent - self._carried_out)) if self.answered else None

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Let an agent in under its credential; connections that an earlier one opened end."""
        del replaced  # what is there is deleted in any case: that costs nothing where nothing is
        login = agent_login(agent)
        if login is None:
            self.expel(agent.agent_id)
            return
        role = organization_role(agent.organization_id)
        self._send([commands.create_role(role), *commands.replace_client(login)])

    def expel(self, agent_id: str) -> None:
        """Keep an agent out; its connections end at once."""
        self._send([commands.delete_client(agent_id)])

    def suspend(self, agent_id: str) -> None:
        """Keep an agent out for a while; its connections end at once."""
        self._send([commands.disable_client(agent_id)])

    def resume(self, agent_id: str) -> None:
        """Let an agent in again."""
        self._send([commands.enable_client(agent_id)])

    def connected(self) -> None:
        """Compare what the broker has with the fleet, and make it agree, step by step as it answers."""
        self._found, self._steps, self._changed = Found(), None, 0
        self._carried_out = self._sent
        self.answered = self.agrees = False
        self._send([commands.default_access(), commands.list_page("listRoles", 0, _PAGE)])

    def heard(self, payload: bytes) -> None:
        """Take an answer of the plugin."""
        try:
            responses = json.loads(payload)["responses"]
            for response in responses:
                self._take(response)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            log.warning("access_answer_unreadable", reason=type(error).__name__)
            return
        if self._steps is not None:
            self._go_on()

    def _take(self, response: dict[str, Any]) -> None:
        self.answered = True
        self._carried_out = max(self._carried_out, min(self._sent, int(response.get("correlationData", 0))))
        if commands.is_failure(response):
            self._counters["access_failures"] += 1
            log.warning(
                "access_command_failed",
                command=response.get("command"),
                reason=response.get("error"),
                hint="the manager's user needs the role that `panguard manager broker init` gives it",
            )
        for kind, member in _LISTS:
            if response.get("command") == kind and "data" in response and self._steps is None:
                self._take_page(kind, response["data"][member], int(response["data"]["totalCount"]))

    def _take_page(self, kind: str, listed: list[Any], total: int) -> None:
        found = self._found
        known: dict[str, Any]
        if kind == "listRoles":
            found.take_roles(listed)
            known = found.roles
        else:
            found.take_clients(listed)
            known = found.clients
        if listed and len(known) < total:
            self._send([commands.list_page(kind, len(known), _PAGE)])
        elif kind == "listRoles":
            self._send([commands.list_page("listClients", 0, _PAGE)])
        else:
            self._begin()

    def _begin(self) -> None:
        missing = sum(1 for name in self._logins.usernames() if name not in self._found.clients)
        if missing > _MANY:
            log.warning(
                "access_missing",
                logins=missing,
                hint="Mosquitto takes long to be told of so many; `panguard manager broker init` writes them at once",
            )
        self._steps = differences(self._found, self._logins)

    def _go_on(self) -> None:
        """Send the next steps; the answer to them brings the ones after."""
        batch: list[Command] = []
        for step in self._steps or ():
            batch += step
            if len(batch) >= _AT_ONCE:
                break
        if batch:
            self._changed += len(batch)
            self._send(batch)
            return
        self._steps, self._found = None, Found()
        self.agrees = True
        log.info("access_agrees", commands=self._changed)

    def _send(self, wanted: list[Command]) -> None:
        self._counters["access_commands"] += len(wanted)
        self._sent += 1
        numbered = [{**command, "correlationData": str(self._sent)} for command in wanted]
        self._publish(Publication(CONTROL, json.dumps({"commands": numbered}).encode()))


class NoBrokerAccess:
    """For a broker that asks nobody: there is nothing to keep."""

    room = None

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Do nothing."""

    def expel(self, agent_id: str) -> None:
        """Do nothing."""

    def suspend(self, agent_id: str) -> None:
        """Do nothing."""

    def resume(self, agent_id: str) -> None:
        """Do nothing."""

    def connected(self) -> None:
        """Do nothing."""
