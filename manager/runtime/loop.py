"""The manager's loop: polls the broker, steps the engine, and watches broker and certificates."""

import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from enum import Enum
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from manager.data_directory import DataDirectory
from manager.engine.commands.requests import CreateToken, RotateToken
from manager.engine.failure_isolation import isolated
from manager.engine.inbox import Command
from manager.errors import SetupError
from manager.role import Role
from manager.runtime import clock, gc_tuning
from manager.runtime.transport_security import Transport, reachable
from manager.runtime.wiring import Manager
from manager.settings import Settings
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken

if TYPE_CHECKING:
    from manager.runtime.member import MemberProcess

log = structlog.get_logger(__name__)

_IDLE = 0.25
"""The maximum wait for a message in seconds; ticks are late by this, and by a leader's gathering before it, at most."""

_NOTIFIER_STOP = 2.0
"""Seconds for which the stop waits for deliveries; what is not recorded by then is delivered again."""

_UNAVAILABLE = 0.5
"""The wait between two attempts to commit while the store is unavailable, in seconds."""


def run(settings: Settings) -> int:
    """Run a manager until SIGTERM or SIGINT; return its exit code.

    Raises:
        SetupError: the manager cannot start with these settings.
    """
    transport = Transport.plan(settings)
    _raise_open_files_limit()
    with ExitStack() as stack:
        directory = stack.enter_context(DataDirectory(settings.data_dir, settings.key_file))
        if settings.database is None:
            if settings.role is not Role.ALL:
                raise SetupError(
                    f"--role {settings.role} needs a database that several processes share: give --database; SQLite has"
                    " one process, which does everything"
                )
            ManagerLoop(Manager(settings, transport, directory, stack), stack).serve(_print_ready)
            return 0
        again = _lead_in_turn(settings, transport, directory, stack)
    if again is not None:
        again()
    return 0


def _lead_in_turn(
    settings: Settings, transport: Transport, directory: DataDirectory, stack: ExitStack
) -> Callable[[], None] | None:
    """Stand by and lead in turn; return a function that replaces the process, or None after a signal to stop."""
    from manager.runtime.member import MemberProcess  # noqa: PLC0415 -- imports psycopg

    process = MemberProcess(settings, transport, directory)
    stack.callback(process.close)
    if settings.role is Role.INGEST:
        from manager.runtime.ingest_process import IngestProcess  # noqa: PLC0415 -- imports psycopg

        IngestProcess(settings, transport, directory, process, stack).serve(_print_ready)
        return None
    while process.stand_by(_print_ready):
        end = _lead(settings, transport, directory, process)
        if end is not End.STEPPED_DOWN:
            return process.begin_anew if end is End.LOST else None
        gc_tuning.release()
        transport = planned_again(settings, transport)
        process = MemberProcess(settings, transport, directory, after=process)
        stack.callback(process.close)
    return None


def planned_again(settings: Settings, transport: Transport) -> Transport:
    """Return the transport security of the files as they are now; that of before if they cannot be used.

    A manager that leads again writes its authority's fingerprint to the enrollment token that all managers share.
    """
    try:
        return Transport.plan(settings)
    except SetupError as error:
        log.warning("certificates_not_loaded", reason=str(error))
        return transport


def _lead(settings: Settings, transport: Transport, directory: DataDirectory, process: "MemberProcess") -> "End":
    """Lead, and close all that a leader has; return why it ended."""
    try:
        with ExitStack() as stack:
            manager = Manager(settings, transport, directory, stack, process.membership)
            if process.is_stopping:
                return End.STOPPED
            loop = ManagerLoop(manager, stack, process.close_door)
            end = loop.serve(_print_ready)
    except SetupError:
        if not process.membership.is_lost:
            raise
        return End.LOST
    process.catch_signals()
    return End.STOPPED if loop.is_stopping else end


class End(Enum):
    """The reason for the end of a manager's loop: a signal, a lease that was lost, or one that is handed over."""

    STOPPED = "stopped"
    LOST = "lost"
    STEPPED_DOWN = "stepped down"


FIRST_TOKEN = "first"  # noqa: S105 -- a name
"""The name of the enrollment token that the first start makes, and writes to `enroll.token`."""


class _StoppedError(Exception):
    """A signal arrived before the store could commit the first enrollment token."""


class ManagerLoop:
    """Runs a manager's parts in the main thread.

    Args:
        manager: the wired parts.
        stack: stops the HTTP server at the end.
        before_http: called before the HTTP server starts.
    """

    def __init__(self, manager: Manager, stack: ExitStack, before_http: Callable[[], None] = lambda: None) -> None:
        self._before_http = before_http
        self._manager = manager
        self._stack = stack
        self._stopping = False

    @property
    def is_stopping(self) -> bool:
        """Whether a signal to stop has arrived."""
        return self._stopping

    def serve(self, ready: Callable[[str, str], None]) -> End:
        """Open the doors, call `ready` with both addresses, and run the loop until its end; return the reason."""
        manager = self._manager
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._before_http()
        manager.phases.end("doors_made")
        manager.http.start()
        self._stack.callback(manager.http.stop)
        manager.engine.http_door_opened(clock.read())
        manager.notifier.start()
        gc_tuning.freeze_and_relax()
        manager.phases.end("http_open")
        announced = False
        while not self._stopping and not manager.step_down_requested:
            if manager.membership is not None and manager.membership.is_lost:
                return End.LOST  # nothing of it may be written or published any more
            self._step()
            if manager.membership is not None:
                manager.membership.keeper.note_work()
            if not announced and manager.mqtt_door.problem is None:
                announced = True
                manager.phases.end("broker_connected")
                log.info("manager_ready", **manager.phases.seconds)
                if self._prepare_enrollment_token():
                    self._announce(ready)
        log.info("manager_stopping")
        with self._isolated("notifier"):
            self._stop_notifier()
        with self._isolated("stop"):
            manager.engine.stop(clock.read())
        with self._isolated("sign-off"):
            manager.mqtt_door.close()
        if manager.membership is not None:
            manager.membership.keeper.close()  # after the last commit and the last publication
        return End.STOPPED if self._stopping else End.STEPPED_DOWN

    def _step(self) -> None:
        """Receive waiting messages, and process one batch up to its acknowledgements."""
        manager, engine, mqtt = self._manager, self._manager.engine, self._manager.mqtt
        available = engine.can_commit
        failures = engine.fleet.counters["parts_failed"]
        if manager.hand_over is not None:
            with self._isolated("gathering"):
                manager.hand_over.gathering.wait()
        with self._isolated("broker link"):
            mqtt.poll(_UNAVAILABLE if not available else 0.0 if engine.has_work else _IDLE)
        if engine.fleet.counters["parts_failed"] > failures:
            time.sleep(_IDLE)  # a link that fails at once must not cause a busy loop
        waiting = len(engine.inbox)
        if waiting and available:
            manager.batches.observe(min(waiting, manager.settings.batch_limit))
        now = clock.read()
        if manager.hand_over is not None:
            manager.hand_over.gathering.begin(now)
        with self._isolated("suspensions"):
            if engine.suspend_flooding(now):
                mqtt.flush()
        engine.step(now)
        if not engine.has_work:
            manager.caught_up_at = now.monotonic
        with self._isolated("MQTT door"):
            manager.mqtt_door.tick()
        if manager.hand_over is not None:
            with self._isolated("hand-over"):
                manager.hand_over.tick(now)
        with self._isolated("notifier"):
            manager.notifier.watch_store(engine.system_events.store_problem, manager.global_channels)
        with self._isolated("certificates"):
            manager.certificates.check(now.wall, now.monotonic)

    def _stop_notifier(self) -> None:
        """End the notifier; for a short time the engine goes on, so that it records what was just delivered."""
        notifier = self._manager.notifier
        notifier.begin_stop()
        until = time.monotonic() + _NOTIFIER_STOP
        while notifier.is_busy and time.monotonic() < until:
            self._step()
        notifier.stop()

    def _isolated(self, part: str) -> AbstractContextManager[None]:
        """Guard a part's call: log and count its failure instead of ending the loop."""
        return isolated(self._manager.engine.fleet.counters, part)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._manager.mqtt.wake()

    def _announce(self, ready: Callable[[str, str], None]) -> None:
        manager = self._manager
        scheme = "http" if manager.transport.http_tls is None else "https"
        host = reachable(manager.settings.host)
        http = f"{scheme}://{f'[{host}]' if ':' in host else host}:{manager.http.port}"
        manager.directory.write_ready_file(http, str(manager.mqtt.address))
        ready(http, str(manager.mqtt.address))

    def _prepare_enrollment_token(self) -> bool:
        """Create the unlimited enrollment token at the first start, and update its CA fingerprint and signing key.

        Return whether there is a token: a signal ends the wait for a store that cannot commit it.

        Raises:
            SetupError: the store rejects the token.
        """
        directory, transport = self._manager.directory, self._manager.transport
        try:
            token_text = directory.enrollment_token(self._create_enrollment_token)
            token_text = self._after_interrupted_rotation(token_text)
        except _StoppedError:
            return False
        with suppress(TokenError):  # an operator has to replace a damaged one
            token = replace(
                EnrollmentToken.parse(token_text),
                ca_fingerprint=transport.ca_fingerprint,
                sign_key=self._manager.engine.fleet.keyring.sign_public,
            )
            if str(token) != token_text:
                directory.replace_enrollment_token(str(token))
        return True

    def _after_interrupted_rotation(self, token_text: str) -> str:
        """Return the token's text; rotate again if its file does not have the stored secret.

        The manager ended between the commit of a rotation and the writing of the file.
        """
        with suppress(TokenError):
            token = EnrollmentToken.parse(token_text)
            stored = self._manager.engine.fleet.tokens.get(token.token_id)
            if stored is not None and stored.revoked_at is None and stored.proof_key != token.proof_key:
                token_text = self._new_text(RotateToken(token.token_id, "start after an interrupted rotation"))
                self._manager.directory.replace_enrollment_token(token_text)
        return token_text

    def _create_enrollment_token(self) -> str:
        known = self._manager.engine.fleet.tokens.values()  # an operator may have removed the file of the first one
        is_taken = any(token.name == FIRST_TOKEN and token.revoked_at is None for token in known)
        return self._new_text(CreateToken(author="first start", name=None if is_taken else FIRST_TOKEN))

    def _new_text(self, request: CreateToken | RotateToken) -> str:
        answers: list[tuple[EnrollmentToken, Exception | None]] = []
        command = Command(request, lambda value, error: answers.append((value, error)))
        self._manager.engine.inbox.submit(command)
        while not answers:
            if self._stopping:
                command.claim()  # withdrawn, unless the engine has executed it
                raise _StoppedError
            self._step()
        token, error = answers[0]
        if error is not None:
            raise SetupError(
                f"the first enrollment token cannot be stored: {error}; start the manager again"
            ) from error
        return str(token)


def _raise_open_files_limit() -> None:
    """Raise the limit of open files to the hard limit, because each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _print_ready(http: str, mqtt: str) -> None:
    sys.stdout.write(f"ready http={http} mqtt={mqtt}\n")
    sys.stdout.flush()
