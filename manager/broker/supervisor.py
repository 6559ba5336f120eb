"""Supervisor of the embedded broker: restarts it with backoff when it ends or freezes."""

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog

from manager.backoff import Backoff
from manager.broker.embedded_broker import EmbeddedBroker
from manager.broker.errors import BrokerNotRunningError, BrokerStartError
from manager.broker.process_watchdog import SILENCE_SECONDS
from manager.domain.agents.agent import Agent

log = structlog.get_logger(__name__)

_LASTING = 60.0
"""Seconds after which a broker that ends was no failed start."""

_LONGEST_PAUSE = 10.0
"""Seconds; every agent waits for it."""

_STOP_SECONDS = 30.0


class BrokerSupervisor:
    """Runs one embedded broker on one port. All methods are thread-safe, and none waits for a restart.

    Args:
        config: see `manager.broker.process`.
        module: the Python module that the process runs.
        backoff: the delays between attempts.
        silence: seconds without a sign of life after which the process is replaced.
        lasting: seconds that a broker must have run, so that the next pause is the shortest again.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        module: str,
        backoff: Backoff | None = None,
        silence: float = SILENCE_SECONDS,
        lasting: float = _LASTING,
    ) -> None:
        self._backoff = backoff or Backoff(0.2, _LONGEST_PAUSE)
        self._lasting = lasting
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._started_at = 0.0
        self._broker = EmbeddedBroker(config, module=module, silence=silence, on_exit=self._on_exit)
        self._thread = threading.Thread(target=self._supervise, name="broker supervisor", daemon=True)
        self.problem: str | None = None
        """The reason why the broker does not run; None while it runs."""

    @property
    def port(self) -> int:
        """The port that the broker listens on, the same after each restart."""
        return self._broker.port

    def start(self) -> int:
        """Start the broker for the first time, and return its port.

        Raises:
            BrokerStartError: the broker did not start; no retry follows.
        """
        port = self._broker.start()
        self._started_at = time.monotonic()
        self._thread.start()
        return port

    def disconnect(self, username: str) -> None:
        """Close every connection of a user and delete its stored sessions; do nothing while the broker is down."""
        with contextlib.suppress(BrokerNotRunningError):
            self._broker.disconnect(username)

    def reload_certificate(self) -> None:
        """Reload the configured certificate files for new connections; a restart also loads them."""
        with contextlib.suppress(BrokerNotRunningError):
            self._broker.reload_certificate()

    def stop(self) -> None:
        """Stop the broker without a restart."""
        self._stop.set()
        self._ended.set()
        self._broker.stop()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self._broker.stop()  # a broker that was started at the same time

    def _on_exit(self, exit_code: int) -> None:
        self.problem = f"the embedded broker has ended with exit code {exit_code} and is started again"
        log.error("embedded_broker_ended", exit_code=exit_code)
        self._ended.set()

    def _supervise(self) -> None:
        while True:
            self._ended.wait()
            self._ended.clear()
            if time.monotonic() - self._started_at >= self._lasting:
                self._backoff.reset()
            while not self._stop.wait(self._backoff.next_delay()) and not self._restart():
                pass
            if self._stop.is_set():
                return

    def _restart(self) -> bool:
        """Start the broker unless it runs; return whether it runs."""
        try:
            if not self._broker.alive:
                self._broker.start()
        except BrokerStartError as error:
            self._failed(f"the embedded broker does not run: {error}")
            return False
        self._started_at = time.monotonic()
        self.problem = None
        log.info("embedded_broker_started", port=self._broker.port)
        return True

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.error("embedded_broker_not_started", reason=problem, hint="it is tried again until it runs")
        self.problem = problem


class EmbeddedBrokerAccess:
    """Broker access for the embedded broker, which reads logins from the store; only disconnections are sent to it."""

    room = None

    def __init__(self, broker: BrokerSupervisor) -> None:
        self._broker = broker

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Close connections of the replaced credential; the store admits the new one."""
        if replaced:
            self.expel(agent.agent_id)

    def expel(self, agent_id: str) -> None:
        """Close an agent's connections, and delete its stored sessions."""
        self._broker.disconnect(agent_id)

    def suspend(self, agent_id: str) -> None:
        """Close an agent's connections. It may reconnect at once: the broker limits its rate."""
        self.expel(agent_id)

    def resume(self, agent_id: str) -> None:
        """Do nothing: `suspend` refuses no login."""

    def connected(self) -> None:
        """Do nothing: the broker reads the store at each login."""
