"""Parent side of the embedded broker: starts its process, sends it commands, and notices its end."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from manager.broker.errors import BrokerNotRunningError, BrokerStartError
from manager.domain.agents.agent import Agent

_STOP_SECONDS = 5.0
_CHUNK = 4096


class EmbeddedBroker:
    """The broker's process; it ends with this process, however this one ends.

    Args:
        config: the first line of the process's stdin; see `manager.broker.process`.
        module: the Python module that the process runs; it decides where accounts are looked up.
        ready_within: seconds that the process has to start, the wait for its port included.
        on_exit: called with the exit code, from a thread of its own, when a process that was ready ends without `stop`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        module: str = "manager.broker.process",
        ready_within: float = 20.0,
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._config = config
        self._module = module
        self._ready_within = ready_within
        self._on_exit = on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._stopping = False
        self._writing = threading.Lock()

    def start(self) -> int:
        """Start the process, wait until it listens, and return its port.

        Raises:
            BrokerStartError: the process did not start; the text is its own reason where it gave one.
        """
        if self.alive:
            raise BrokerStartError("the embedded broker runs already: stop it before it is started again")
        self._stopping = False
        # A session of its own: Ctrl-C in the terminal is for the manager, which needs the broker for its sign-off.
        process = subprocess.Popen(  # noqa: S603 -- our own module, no shell
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        first_line: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._watch, args=(process, first_line), name="embedded broker", daemon=True).start()
        try:
            self._write(self._config)
            self._port = self._read_port(first_line)
        except (BrokerStartError, BrokerNotRunningError) as error:
            self.stop()
            if isinstance(error, BrokerStartError):
                raise
            raise BrokerStartError(f"the embedded broker ended at once: {error}") from error
        return self._port

    def _read_port(self, first_line: queue.SimpleQueue[bytes]) -> int:
        try:
            answer = dict(json.loads(first_line.get(timeout=self._ready_within)))
            port = None if "error" in answer else int(answer["port"])
        except queue.Empty as error:
            raise BrokerStartError(
                f"the embedded broker was not ready within {self._ready_within:g} s: its stderr says why",
            ) from error
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise BrokerStartError("the embedded broker ended at once: its stderr says why") from error
        if port is None:
            raise BrokerStartError(str(answer["error"]))
        return port

    def _watch(self, process: subprocess.Popen[bytes], first_line: queue.SimpleQueue[bytes]) -> None:
        with _pipe(process.stdout) as output:
            line = output.readline()
            first_line.put(line)
            while output.read(_CHUNK):
                pass
        exit_code = process.wait()
        if self._on_exit is not None and b'"ready"' in line and not self._stopping:
            self._on_exit(exit_code)

    @property
    def port(self) -> int:
        """The port that the broker listens on; 0 before it was started."""
        return self._port

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process that has ended; None while it runs, and before it was started."""
        return None if self._process is None else self._process.poll()

    def disconnect(self, username: str) -> None:
        """Close every connection of a user, and delete its stored sessions.

        Raises:
            BrokerNotRunningError: the process is not running.
        """
        self._write({"disconnect": username})

    def reload_certificate(self) -> None:
        """Serve new connections the certificate that is in the configured files now.

        Raises:
            BrokerNotRunningError: the process is not running.
        """
        self._write({"reload": "certificate"})

    def _write(self, line: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            raise BrokerNotRunningError(self.exit_code)
        stdin = _pipe(process.stdin)
        try:
            with self._writing:
                stdin.write(json.dumps(line).encode() + b"\n")
                stdin.flush()
        except (OSError, ValueError) as error:
            raise BrokerNotRunningError(process.poll()) from error

    def stop(self) -> None:
        """End the process and wait for its end; without a process nothing happens."""
        process = self._process
        if process is None:
            return
        self._stopping = True
        with contextlib.suppress(OSError):
            _pipe(process.stdin).close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class EmbeddedBrokerAccess:
    """Broker access for the embedded broker, which looks agents up in the store: only ended access is sent to it.

    Args:
        broker: returns the broker that runs now; another replaces it when it ends by itself.
    """

    room = None

    def __init__(self, broker: Callable[[], EmbeddedBroker | None]) -> None:
        self._broker = broker

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Close connections of the replaced credential; the store admits the new one."""
        if replaced:
            self.expel(agent.agent_id)

    def expel(self, agent_id: str) -> None:
        """Close an agent's connections, and delete its stored sessions."""
        broker = self._broker()
        if broker is not None and broker.alive:
            broker.disconnect(agent_id)

    def suspend(self, agent_id: str) -> None:
        """Close an agent's connections. It may reconnect at once: the broker limits its rate."""
        self.expel(agent_id)

    def resume(self, agent_id: str) -> None:
        """Do nothing: `suspend` refuses no login."""

    def connected(self) -> None:
        """Do nothing: the broker reads the store at each login."""


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe
