"""A guard in a thread of the test: the whole runtime, and quick to start; what needs a kill is in guard_process."""

import queue
import threading
from io import StringIO
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.options import Options
from agent.runtime import Runtime
from agent.settings import GuardSettings
from agent.status import inspect_guard
from schemas.presence import Mode
from tests.integration.guard.sshd_log import SshdLog

PATIENCE = 120.0

QUICK = GuardSettings(
    heartbeat_interval=0.2,
    log_poll_interval=0.02,
    connect_timeout=2,  # far below PATIENCE: a connection that gets no answer is tried again within the test
    reconnect_base=0.05,
    reconnect_cap=0.2,
    registration_timeout=0.3,
    receipt_timeout=0.5,
    source_check_interval=0.05,
    fence_socket=Path("/nowhere/fence.sock"),
)


class GuardThread:
    def __init__(self, directory: Path, url: str, token: str | None, written: StringIO) -> None:
        self._written = written
        self.directory = directory / "data"
        self.log = SshdLog(directory / "auth.log")
        self.url = url
        self.token = token
        self.hostname = "srv-01"
        self.log_option = "trusted_logs"
        self.mode = Mode.LEARNING
        self.settings = QUICK
        self.clock = Clock()
        self.options: dict[str, Any] = {}
        self.failure: BaseException | None = None
        self._announced: queue.Queue[str] = queue.Queue()
        self._runtime: Runtime | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> "GuardThread":
        options = Options.check(
            manager=self.url,
            directory=self.directory,
            mode=self.mode,
            **({} if self.log_option == "nothing" else {self.log_option: [self.log.path]}),
            hostname=self.hostname,
            token=self.token,
            **self.options,
        )
        self._runtime = Runtime(options, self.settings, self._announce, self.clock)
        self._thread = threading.Thread(target=self._run, args=(self._runtime,), name=f"guard {self.hostname}")
        self._thread.start()
        return self

    def ready(self) -> int:
        """Wait until the broker took the first birth; return its session."""
        return int(self._announced.get(timeout=PATIENCE).rpartition(" ")[2])

    def stop(self) -> None:
        """Ask it to sign off, and wait until it has."""
        if self._runtime is not None and self._thread is not None:
            self._runtime.stop()
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()

    def errors(self) -> str:
        return self._written.getvalue()

    def status(self) -> dict[str, Any]:
        return inspect_guard(self.directory)

    def _run(self, runtime: Runtime) -> None:
        try:
            runtime.run()
        except Exception as failure:  # noqa: BLE001 -- the test looks at it
            self.failure = failure

    def _announce(self, agent_id: str, session: int) -> None:
        self._announced.put(f"{agent_id} {session}")
