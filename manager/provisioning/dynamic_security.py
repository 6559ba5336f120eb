"""Broker access for a Mosquitto: sends the dynamic-security plugin's commands over the manager's own connection.

Mosquitto processes the messages of one client in order. So an agent's login is in force before the reply to its
registration, published later on the same connection, reaches the agent, without waiting for a response.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from manager.domain.agents.agent import Agent
from manager.engine.batch import Publication
from manager.provisioning import plugin_commands as commands
from manager.provisioning.logins import FleetLogins, agent_login
from manager.provisioning.plugin_commands import Command
from manager.provisioning.reconciliation import PluginState, reconcile
from manager.provisioning.roles import CONTROL, MANAGER, organization_role

log = structlog.get_logger(__name__)

_PAGE = 500
_COMMANDS_IN_MESSAGE = 5
"""The maximum number of commands in one message; Mosquitto saves its whole state at each, and serves no client until
the last one is done."""

_UNANSWERED = 5
"""The number of messages without a response at which new agents must wait, because other messages queue behind them."""

_PLUGIN_SECONDS = 10.0
"""Seconds after which a plugin that has not responded counts as missing."""

_LARGE_SYNC = 500
"""The number of missing logins above which a warning names a faster way."""

_LISTS = (("listRoles", "roles"), ("listClients", "clients"))


class DynamicSecurity:
    """Broker access for a Mosquitto. Not thread-safe: it is used in the engine's thread only.

    Args:
        publish: publishes a message; `connected` repeats changes that were lost without a connection.
        logins: the logins that the broker should have.
        counters: counts `access_commands` and `access_failures`.
        clock: the monotonic clock.
    """

    def __init__(
        self,
        publish: Callable[[Publication], None],
        logins: FleetLogins,
        counters: Counter[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._logins = logins
        self._counters = counters
        self._found = PluginState()
        self._steps: Iterator[list[Command]] | None = None
        self._changed = 0
        self._sent = self._responded = 0
        self._clock = clock
        self._connected_at = 0.0
        self.answered = False
        """Whether the plugin has responded on this connection."""
        self.in_sync = False
        """Whether the broker's logins were synchronized with the fleet on this connection."""

    @property
    def room(self) -> int | None:
        """The number of messages that may be sent before a response; limited, because each pauses the broker."""
        return max(0, _UNANSWERED - (self._sent - self._responded)) if self.answered else None

    @property
    def is_missing(self) -> bool:
        """Whether the plugin has not responded within its timeout on this connection."""
        return not self.answered and self._clock() - self._connected_at >= _PLUGIN_SECONDS

    @property
    def problem(self) -> str | None:
        """The reason why no agent can be admitted; None once the plugin has responded on this connection."""
        if self.answered:
            return None
        if not self.is_missing:
            return "the broker's dynamic-security plugin has not responded yet"
        return (
            f"the broker does not respond on {CONTROL}, so it admits no new agent: load its dynamic-security plugin"
            " (panguard manager broker init writes all that it needs) and give the manager's login the role"
            f" {MANAGER}, or start the manager without a broker password"
        )

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Create an agent's login, and end connections of an earlier credential."""
        del replaced  # delete an existing login; deleting a missing one is harmless
        login = agent_login(agent)
        if login is None:
            self.expel(agent.agent_id)
            return
        role = organization_role(agent.organization_id)
        self._send([commands.create_role(role), *commands.replace_client(login)])

    def expel(self, agent_id: str) -> None:
        """Delete an agent's login; its connections end at once."""
        self._send([commands.delete_client(agent_id)])

    def suspend(self, agent_id: str) -> None:
        """Disable an agent's login; its connections end at once."""
        self._send([commands.disable_client(agent_id)])

    def resume(self, agent_id: str) -> None:
        """Enable an agent's login."""
        self._send([commands.enable_client(agent_id)])

    def connected(self) -> None:
        """List the broker's roles and logins, then synchronize them with the fleet, one step per response."""
        self._found, self._steps, self._changed = PluginState(), None, 0
        self._responded = self._sent
        self.answered = self.in_sync = False
        self._connected_at = self._clock()
        self._send([commands.default_access(), commands.list_page("listRoles", 0, _PAGE)])

    def handle_response(self, payload: bytes) -> None:
        """Handle a message of the plugin."""
        try:
            responses = json.loads(payload)["responses"]
            for response in responses:
                self._handle(response)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            log.warning("access_response_unreadable", reason=type(error).__name__)
            return
        if self._steps is not None:
            self._send_next_steps()

    def _handle(self, response: dict[str, Any]) -> None:
        self.answered = True
        self._responded = max(self._responded, min(self._sent, int(response.get("correlationData", 0))))
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
                self._add_page(kind, response["data"][member], int(response["data"]["totalCount"]))

    def _add_page(self, kind: str, listed: list[Any], total: int) -> None:
        found = self._found
        known: dict[str, Any]
        if kind == "listRoles":
            found.add_roles(listed)
            known = found.roles
        else:
            found.add_clients(listed)
            known = found.clients
        if listed and len(known) < total:
            self._send([commands.list_page(kind, len(known), _PAGE)])
        elif kind == "listRoles":
            self._send([commands.list_page("listClients", 0, _PAGE)])
        else:
            self._begin_reconciliation()

    def _begin_reconciliation(self) -> None:
        missing = sum(1 for name in self._logins.usernames() if name not in self._found.clients)
        if missing > _LARGE_SYNC:
            log.warning(
                "access_logins_missing",
                logins=missing,
                hint="Mosquitto takes long to create so many; `panguard manager broker init` writes them at once",
            )
        self._steps = reconcile(self._found, self._logins)

    def _send_next_steps(self) -> None:
        """Send the next steps; the plugin's response triggers the following steps."""
        batch: list[Command] = []
        for step in self._steps or ():
            batch += step
            if len(batch) >= _COMMANDS_IN_MESSAGE:
                break
        if batch:
            self._changed += len(batch)
            self._send(batch)
            return
        self._steps, self._found = None, PluginState()
        self.in_sync = True
        log.info("access_in_sync", commands=self._changed)

    def _send(self, batch: list[Command]) -> None:
        self._counters["access_commands"] += len(batch)
        self._sent += 1
        numbered = [{**command, "correlationData": str(self._sent)} for command in batch]
        self._publish(Publication(CONTROL, json.dumps({"commands": numbered}).encode()))


class NoBrokerAccess:
    """Broker access for a broker without access control: does nothing."""

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
