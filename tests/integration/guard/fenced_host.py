"""A guard with a fence in a network namespace, and a host that connects to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.presence import Enforced, Heartbeat, Mode
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.fence_process import FenceProcess
from tests.support.network import EchoService, Network, NetworkHost

SERVER, GATEWAY = "203.0.113.1", "203.0.113.254"
ATTACKER, OTHER, BYSTANDER = "203.0.113.66", "203.0.113.67", "203.0.113.68"


class Fenced:
    """A guard, its fence in a namespace with an echo service on port 22, and a host that connects to it."""

    def __init__(self, guard: GuardThread, manager: ScriptedManager, fence: FenceProcess, client: NetworkHost) -> None:
        self.guard = guard
        self.manager = manager
        self.fence = fence
        self.client = client

    def reaches(self, source: str = ATTACKER) -> bool:
        """Return whether the service answers a source; the kernel then knows the source."""
        return self.client.reaches(SERVER, 22, source)

    def outcome(self, count: int = 1) -> str:
        """Return the outcome of the response in a report, after so many have come."""

        def reports() -> list[Any]:
            return list({each.id: each for each in self.manager.reports()}.values())  # a report may be sent again

        eventually(lambda: len(reports()) >= count, f"report {count}")
        response: Any = reports()[count - 1].response
        return str(response.outcome)

    def enforced(self) -> Enforced:
        """Return the counts of the last heartbeat."""
        return self.beat.enforced or Enforced()

    @property
    def beat(self) -> Heartbeat:
        """The last heartbeat."""
        beat: Heartbeat = eventually(self.manager.heartbeats, "a heartbeat")[-1]
        return beat


@contextmanager
def fenced_host(tmp_path: Path, guard: GuardThread, manager: ScriptedManager) -> Iterator[Fenced]:
    """Give a guard in mode protection, not started yet, with its fence and the host that attacks it."""
    with Network() as network:
        server = network.host(f"{SERVER}/24", gateway=GATEWAY)
        client = network.host(*(f"{address}/24" for address in (ATTACKER, OTHER, BYSTANDER)))
        home = tmp_path / "fence"
        home.mkdir()
        settings = {"sign_keys": [manager.keyring.sign_public], "agent_id": manager.agent_id}
        with EchoService(server, 22), FenceProcess(server, home, **settings) as fence:
            guard.settings = guard.settings.model_copy(update={"fence_socket": fence.socket})
            guard.mode = Mode.PROTECTION
            yield Fenced(guard, manager, fence, client)
            guard.stop()
