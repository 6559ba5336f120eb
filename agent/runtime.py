"""The composition root: builds, wires and runs the guard's parts."""

import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from agent import status
from agent.clock import Clock, boot_id
from agent.connection.identity import IdentityFile
from agent.connection.presence_messages import PresenceMessages
from agent.connection.reconnect_loop import Backoff, Connector
from agent.connection.transport import build_dialer, build_registrations
from agent.errors import StorageError
from agent.guard import Guard
from agent.guard_parts import GuardParts
from agent.host import LoadMeter, host_facts
from agent.logs import EventLog
from agent.loop import LinkEventQueue, Loop
from agent.manager_time import ManagerTime
from agent.options import Options
from agent.pipeline import Pipeline
from agent.policy.blocklist import OrganizationBlocklist
from agent.policy.policy_store import PolicyStore
from agent.report.delivery import Delivery
from agent.report.kept_reports import KeptReports
from agent.report.login_reports import LoginReports
from agent.report.outbox import Outbox
from agent.report.resending import Resending
from agent.respond.connections import ConnectionCounts, with_connections
from agent.respond.enforcement import Enforcement
from agent.respond.fence import Fence
from agent.respond.fence_client import FenceClient
from agent.respond.mode import ModeControl
from agent.respond.own_blocks import OwnBlocks
from agent.respond.recording_responder import RecordingResponder
from agent.settings import GuardSettings
from agent.sources.selection import SourceBuilder, build_sources
from agent.sources.source import Source
from agent.storage.database import DATABASE, Database
from agent.storage.disk_reserve import RESERVE, SIZE, DiskReserve
from agent.storage.instance_lock import InstanceLock

_log = EventLog("runtime")

Announce = Callable[[str, int], None]


class Runtime:
    """One guard, from its start to its stop; `run` may be called once.

    Args:
        options: The start options.
        settings: The settings.
        announce: Called with agentId and session when the first birth is acknowledged.
        clock: The host's clocks.
    """

    def __init__(
        self, options: Options, settings: GuardSettings, announce: Announce, clock: Clock | None = None
    ) -> None:
        self._options = options
        self._settings = settings
        self._announce: Announce | None = announce
        self._clock = Clock() if clock is None else clock
        self._mailbox = LinkEventQueue()
        self._stopping = False
        self._written: dict[str, Any] = {}

    def stop(self) -> None:
        """Request a clean stop; safe in a signal handler and from any thread."""
        self._stopping = True

    def run(self) -> None:
        """Run until `stop`.

        Raises:
            GuardError: the guard cannot start, or the manager rejected it for good.
            SourceError: a named log cannot be followed.
        """
        with ExitStack() as stack:
            instance = InstanceLock.claim(self._options.directory)
            stack.callback(instance.release)
            database = Database.open(self._options.directory / DATABASE)
            stack.callback(database.close)
            try:
                parts = self._parts(database)
            except sqlite3.Error as error:
                raise StorageError(self._options.directory / DATABASE, str(error)) from error
            stack.callback(parts.pipeline.close)
            guard = Guard(parts, self._settings, self._clock, self._ready)
            connection = self._connection(guard, parts)
            stack.callback(connection.close)
            report = self._reporter(guard, connection)
            stack.callback(report, stopped=True)
            loop = Loop(guard, connection, self._mailbox, self._clock, report)
            loop.run(lambda: self._stopping)
            loop.sign_off()
            _log.info("guard_stopped")

    def _parts(self, database: Database) -> GuardParts:
        options, settings, clock = self._options, self._settings, self._clock
        started = clock.monotonic()
        identity = IdentityFile(options.directory, over_http=options.manager.over_http)
        ignored: Counter[str] = Counter()
        facts = host_facts(options.hostname)
        outbox = Outbox(database, settings.outbox_max_reports, settings.outbox_max_bytes)
        manager_time = ManagerTime(clock)
        kept = KeptReports(
            database,
            settings.kept_max_reports,
            settings.kept_max_bytes,
            address=str(options.manager),
            time=manager_time.now,
            reserve=DiskReserve(options.directory / RESERVE, SIZE if settings.kept_max_reports else 0),
        )
        delivery = Delivery(outbox, settings.outbox_window, settings.receipt_timeout, kept)
        blocklist = OrganizationBlocklist(database, ignored, manager_time)
        mode = ModeControl(
            database,
            clock,
            manager_time,
            host=options.mode,
            max_mode=options.max_mode,
            trial=settings.mode_trial,
            boot=boot_id(),
        )
        fence = None
        if not settings.simulate_enforcement:
            fence = Fence(FenceClient(settings.fence_socket), clock, manager_time)
            fence.check(started)
        enforcement = Enforcement(
            responder=RecordingResponder(database, simulated=settings.simulate_enforcement),
            own=OwnBlocks(database),
            organization=blocklist.measures,
            mode=mode,
            protected=(*facts.addresses, *facts.gateways),
            duration=settings.block_duration,
            clock=clock,
            manager_time=manager_time,
            fence=fence,
        )
        policy = PolicyStore(database, clock, enforcement.obey, ignored, manager_time)
        logins = LoginReports()
        pipeline = Pipeline(
            sources=self._sources(database),
            database=database,
            outbox=outbox,
            respond=with_connections(
                enforcement.respond,
                ConnectionCounts(clock.monotonic),
                lambda: () if fence is None else fence.ssh_ports,
            ),
            listed=enforcement.listed,
            clock=clock,
            check_interval=settings.source_check_interval,
            logged_in=logins.add,
            witness=None if fence is None else fence.has_seen,
            make_room=kept.make_room,
        )
        return GuardParts(
            started=started,
            identity=identity,
            liveness=PresenceMessages(clock, started, pipeline.events_total, LoadMeter()),
            outbox=outbox,
            logins=logins,
            delivery=delivery,
            kept=kept,
            resending=Resending(kept, lambda: delivery.is_idle, settings.receipt_timeout),
            pipeline=pipeline,
            policy=policy,
            blocklist=blocklist,
            enforcement=enforcement,
            manager_time=manager_time,
            ignored=ignored,
        )

    def _sources(self, database: Database) -> list[Source]:
        settings = self._settings
        builder = SourceBuilder(database, self._clock, settings.log_poll_interval, settings.journal_directory)
        return build_sources(self._options, builder)

    def _connection(self, guard: Guard, parts: GuardParts) -> Connector:
        options, settings, clock = self._options, self._settings, self._clock
        return Connector(
            dial=build_dialer(options, settings, clock, lambda: parts.policy.version),
            identity=parts.identity,
            apply=build_registrations(options, settings, clock, parts.identity, parts.started),
            liveness=parts.liveness,
            connect_timeout=settings.connect_timeout,
            post=self._mailbox.post,
            listener=guard,
            ignored=parts.ignored,
            backoff=Backoff(settings.reconnect_base, settings.reconnect_cap),
        )

    def _ready(self, agent_id: str, session: int) -> None:
        announce, self._announce = self._announce, None
        if announce is not None:
            announce(agent_id, session)

    def _reporter(self, guard: Guard, connection: Connector) -> Callable[..., None]:
        """Return the function that updates the status file when the state has changed."""

        def report(*, stopped: bool = False) -> None:
            fields = {
                "pid": os.getpid(),
                "state": "stopped" if stopped else str(connection.phase),
                "manager": str(self._options.manager),
                "notConnected": None if stopped else connection.trouble,
                **guard.state.fields(),
            }
            if fields == self._written:
                return
            self._written = fields
            try:
                status.write_status(self._options.directory, fields)
            except StorageError as error:
                _log.warning("status_not_written", reason=str(error))

        return report
