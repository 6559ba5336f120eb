"""A real HTTP server in front of a real engine and store; only the broker and the clock are not there."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

from manager.api.app import create_app
from manager.api.authentication import Credentials
from manager.api.engine_client import REPLY_TIMEOUT, EngineClient
from manager.api.middleware.client_address import ClientAddresses
from manager.api.services import Services
from manager.api.serving.server import ApiServer
from manager.domain.agents.refused_registrations import RefusedHost
from manager.storage.queries import StoreQueries
from tests.support.engine import Bench
from tests.support.migrated_store import open_reading
from tests.support.simulated import SimulatedAgent

ADMIN_TOKEN = "the-admins-own-token"


HOST = {"os": "Debian 12", "arch": "x64", "version": "1.4.2"}
LOOPBACK = ClientAddresses(trusted=["127.0.0.0/8"])


@dataclass
class HttpAgent:
    """An agent that speaks HTTP, as the earlier clients do."""

    agent_id: str
    client: httpx2.Client
    told: dict[str, Any]

    def heartbeat(self, **members: Any) -> httpx2.Response:
        """Send a heartbeat."""
        return self.client.post(f"/api/agents/{self.agent_id}/heartbeat", json=members)

    def events(self, body: Any) -> httpx2.Response:
        """Report threats."""
        return self.client.post(f"/api/agents/{self.agent_id}/events", json=body)

    def poll(self, **params: Any) -> httpx2.Response:
        """Ask for the policy."""
        return self.client.get(f"/api/policy/agent/{self.agent_id}", params=params)


class Served:
    """A bench whose engine runs in a thread of its own, and the HTTP door in front of it."""

    def __init__(
        self,
        directory: Path,
        reply_timeout: float = REPLY_TIMEOUT,
        queries: Any = None,
        bench: Bench | None = None,
        **options: Any,
    ) -> None:
        self._bench = bench or Bench(directory)
        self._turn = threading.Lock()
        self._woken = threading.Event()
        self._ended = False
        self._reader = open_reading(directory / "panguard.db")
        self.not_ready: str | None = None
        self._engine = EngineClient(self._bench.engine.inbox.submit, self._woken.set, reply_timeout)
        services = Services(
            engine=self._engine,
            queries=queries or StoreQueries(self._reader, figures=self._bench.store.figures),
            credentials=Credentials(
                ADMIN_TOKEN,
                self._bench.fleet.registry.find_by_http_digest,
                self._bench.fleet.tokens.get,
                self._bench.fleet.access,
                lambda: self._bench.wall,
                sessions=self._bench.fleet.sessions,
            ),
            clock=lambda: self._bench.wall,
            version="1.2.3",
            started_at=self._bench.wall,
            not_ready=lambda: self.not_ready,
            spellings=self._spellings,
            beginning_with=self._beginning_with,
            refused_registrations=self._refused_registrations,
            clones=lambda: self._bench.fleet.clones.known,
            **options,
        )
        self.services = services
        self._bench.engine.listeners.append(services.stream.publish)
        self.server = ApiServer(create_app(services), "127.0.0.1", 0, on_stop=self._on_stop)
        self._thread = threading.Thread(target=self._work, name="engine")

    def _on_stop(self) -> None:
        self.services.stream.close()
        self._engine.close()

    @property
    def url(self) -> str:
        return self.server.url

    def __enter__(self) -> Self:
        self.server.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._ended = True
        self._woken.set()
        self._thread.join()
        self._reader.close()
        self._bench.database.close()

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        """The engine's turn: while the test has it, no command is carried out."""
        with self._turn:
            yield self._bench

    def routes_requested(self) -> list[str]:
        """Return the route label of each line of the request metric."""
        families = self.services.registry.collect()
        samples = [sample for family in families for sample in family.samples]
        return [each.labels["route"] for each in samples if each.name == "panguard_http_request_seconds_count"]

    def enroll(self, hostname: str, **members: Any) -> SimulatedAgent:
        """Return an agent that registered over MQTT."""
        with self.bench() as bench:
            return bench.enroll(hostname, **members)

    def join(self, hostname: str = "srv-01", token: str | None = ADMIN_TOKEN, **members: Any) -> "HttpAgent":
        """Return an agent that registered over HTTP."""
        with self.client(token) as client:
            answer = client.post("/api/agents/register", json={**HOST, "hostname": hostname, **members})
        assert answer.status_code == 201, answer.text
        told = answer.json()
        return HttpAgent(told["agentId"], self.client(told["token"]), told)

    def client(self, token: str | None = ADMIN_TOKEN) -> httpx2.Client:
        """Return a client with a token, the admin's unless another is named."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, headers=headers, verify=False, trust_env=False, timeout=60)

    def _beginning_with(self, labels: str) -> list[str]:
        return self._bench.fleet.registry.beginning_with(labels)

    def _spellings(self, hostname: str) -> list[str]:
        return self._bench.fleet.registry.spellings(hostname)

    def _refused_registrations(self, now: float) -> list[RefusedHost]:
        return self._bench.fleet.refused_registrations.current(now)

    def _work(self) -> None:
        while not self._ended:
            self._woken.wait()
            self._woken.clear()
            with self._turn:
                self._bench.engine.step(self._bench.now)
