"""Parent side of the embedded broker: starts its process, sends it commands, and detects its end or freeze."""

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

import structlog

from manager.broker.errors import BrokerNotRunningError, BrokerStartError
from manager.broker.process_watchdog import SILENCE_SECONDS, SilenceTimer

log = structlog.get_logger(__name__)

_STOP_SECONDS = 5.0
_CHUNK = 4096


class EmbeddedBroker:
    """The broker's process, which ends with this process in any case.

    The process writes a sign of life to its stdout at intervals. A process that is silent for too long is killed,
    because its successor needs the port.

    Args:
        config: the first line of the process's stdin; see `manager.broker.process`.
        module: the Python module that the process runs; it determines the source of accounts.
        ready_within: the timeout of the start in seconds, including the wait for the port.
        silence: seconds without a sign of life after which the process is killed.
        on_exit: called in a separate thread with the exit code when a process that was ready ends without `stop`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        module: str = "manager.broker.process",
        ready_within: float = 60.0,
        silence: float = SILENCE_SECONDS,
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._config = config
        self._module = module
        self._ready_within = ready_within
        self._silence = silence
        self._on_exit = on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._stopping = False
        self._writing = threading.Lock()

    def start(self) -> int:
        """Start the process, wait until it listens, and return its port; from the second start on the port is the same.

        Raises:
            BrokerStartError: the process did not start; the message gives its reason, if known.
        """
        if self.alive:
            raise BrokerStartError("the embedded broker runs already: stop it before it is started again")
        self._stopping = False
        try:
            # A separate session: Ctrl-C in the terminal stops the manager, which needs the broker for its sign-off.
            process = subprocess.Popen(  # noqa: S603 -- our own module, no shell
                [sys.executable, "-P", "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise BrokerStartError(f"the embedded broker's process cannot be started: {error}") from error
        self._process = process
        first_line: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._watch, args=(process, first_line), name="embedded broker", daemon=True).start()
        try:
            port = self._port or self._config["port"]
            self._write({**self._config, "port": port, "parent": os.getpid()})
            self._port = self._read_port(first_line)
            os.set_blocking(_pipe(process.stdin).fileno(), False)
        except (BrokerStartError, BrokerNotRunningError, OSError, ValueError) as error:
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
        """Read the process's stdout to its end; kill the process when its signs of life stop."""
        with _pipe(process.stdout) as output:
            line = output.readline()
            first_line.put(line)
            poller, silence = select.poll(), SilenceTimer(self._silence)
            poller.register(output, select.POLLIN)
            while True:
                if poller.poll(silence.step * 1000):
                    silence.reset()
                    if not os.read(output.fileno(), _CHUNK):
                        break
                elif silence.lasts():
                    log.error("embedded_broker_frozen", seconds=self._silence, hint="it is killed and started again")
                    process.kill()
                    silence.reset()
        exit_code = process.wait()
        with contextlib.suppress(OSError):
            _pipe(process.stdin).close()
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
            BrokerNotRunningError: the process is not running, or accepts no command and was killed; all its connections
                are closed.
        """
        self._write({"disconnect": username})

    def reload_certificate(self) -> None:
        """Reload the configured certificate files for new connections.

        Raises:
            BrokerNotRunningError: as `disconnect`.
        """
        self._write({"reload": "certificate"})

    def _write(self, message: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            raise BrokerNotRunningError(self.exit_code)
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._writing:
                written = _pipe(process.stdin).write(line)
        except (OSError, ValueError) as error:
            raise BrokerNotRunningError(process.poll()) from error
        if written != len(line):
            # The pipe is full: the process reads nothing, and a lost command would leave a client connected.
            log.error("embedded_broker_takes_no_command", hint="it is killed and started again")
            process.kill()
            raise BrokerNotRunningError(process.wait())

    def stop(self) -> None:
        """Stop the process and wait for its end; without a process do nothing."""
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


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe
