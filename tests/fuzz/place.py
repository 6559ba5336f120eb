"""Where decoders are called: a directory for files, an engine on a store, a served HTTP door, each on demand."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agent.storage.database import Database
from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.policies.layers import read_document
from manager.engine.commands.requests import SetPolicy
from manager.engine.settings import EngineSettings
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.succession import signed_link
from schemas.topics import HEARTBEAT
from tests.integration.api.served import Served
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

Result = TypeVar("Result")

KEYRING = ManagerKeyring(bytes(range(32)))
TOKEN = EnrollmentToken("tok-1", bytes(16), KEYRING.sign_public)
AGENT = "ag-0123456789abcdef"
CLIENT = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0
LINK = signed_link(KEYRING.sign_key, ManagerKeyring(bytes(range(1, 33))).sign_key, number=1, now=NOW)

UNLIMITED = EngineSettings(agent_messages=1e9, agent_bytes=1e12)


class Place:
    """A context manager; each part is made when it is first asked for and lasts to the end.

    Args:
        directory: an empty one of its own.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._drafts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def folder(self, name: str) -> Path:
        """Return a directory for a decoder's files."""
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path

    def file(self, name: str, content: bytes) -> Path:
        """Return a file with this content, the same path for the same name."""
        path = self.folder("files") / name
        path.write_bytes(content)
        return path

    @cached_property
    def bench(self) -> Bench:
        """An engine on a store, with a budget that nothing exceeds."""
        bench = Bench(self.folder("bench"), UNLIMITED)
        self._stack.callback(bench.database.close)
        return bench

    @cached_property
    def agent(self) -> SimulatedAgent:
        """An agent that the engine knows, and its clock; some of its addresses are allowed."""
        allowed = {"allowlist": {"ips": ["10.0.0.0/8"]}, "rules": [{"type": "block_ip", "value": "192.0.2.99"}]}
        self.bench.ask(SetPolicy(GLOBAL, read_document(allowed), "test"))
        agent = self.bench.enroll("web-1")
        self.bench.receive(HEARTBEAT, agent.agent_id, agent.heartbeat(self.bench.wall))
        return agent

    @cached_property
    def guard_database(self) -> Database:
        """A guard's database."""
        database = Database.open(self.folder("guard") / "guard.db")
        self._stack.callback(database.close)
        return database

    @cached_property
    def served(self) -> Served:
        """An HTTP door that believes the proxies of loopback."""
        from manager.api.middleware.client_address import ClientAddresses  # noqa: PLC0415 -- only the HTTP door's decoders need it

        addresses = ClientAddresses(trusted=["10.0.0.0/8"], proxies=["127.0.0.0/8"])
        return self._stack.enter_context(Served(self.folder("served"), client_addresses=addresses, rate_limit=0))

    @cached_property
    def http_agent(self) -> str:
        """The id of an agent that registered at that door."""
        agent = self.served.join("srv-01")
        agent.client.close()
        return agent.agent_id

    @cached_property
    def _loop(self) -> asyncio.Runner:
        return self._stack.enter_context(asyncio.Runner())

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end."""
        return self._loop.run(work)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two ends of a connection, which the caller closes."""
        return socket.socketpair()
