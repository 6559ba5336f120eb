"""Notifier: the channels of one manager, each with a worker of its own, and their state for operators."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from manager.domain.notifications.judgement import JudgementSettings
from manager.engine.events import EventRow
from manager.engine.notifications import NotificationRow
from manager.errors import SetupError
from manager.notifications.channels.opening import ChannelOptions, destination, open_channel
from manager.notifications.channels.webhook import read_key
from manager.notifications.engine_commands import EngineCommands
from manager.notifications.ports import NotificationQueries
from manager.notifications.rendering.identity import ChannelIdentity
from manager.notifications.selection import EachEvent, Judged, Selection
from manager.notifications.settings import ChannelSettings, read_secret
from manager.notifications.told_events import store_message
from manager.notifications.watchdog import CALL_TIMEOUT, Watchdog
from manager.notifications.worker import ChannelWorker
from schemas.model import iso

STORE_GRACE = 60.0
"""Seconds for which the store may be unable to commit before people are told."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The manager as the sender of messages.

    Attributes:
        manager_id: The id of its store.
        version: Its release.
        hostname: Its host.
        webhook_secret: Returns the file and the text of the secret of a webhook without `secret_file`, by its name.
    """

    manager_id: str
    version: str
    hostname: str
    webhook_secret: Callable[[str], tuple[Path, str]]


class Notifier:
    """The workers of all channels.

    Args:
        channels: the settings by name.
        sender: the manager.
        queries: reads the store; each thread may call them.
        engine: writes the store.
        clock: seconds since 1970.

    Raises:
        SetupError: a channel cannot be opened; the message names it and holds no secret.
    """

    def __init__(
        self,
        channels: Mapping[str, ChannelSettings],
        sender: Sender,
        queries: NotificationQueries,
        engine: EngineCommands,
        clock: Callable[[], float],
    ) -> None:
        self._channels = channels
        self._engine = engine
        self._clock = clock
        self._highest = queries.event_bounds()[1]
        self._store_told = False
        self._destinations: dict[str, str] = {}
        self._keys: dict[str, Path] = {}
        self._workers = {name: self._worker(name, settings, sender, queries) for name, settings in channels.items()}

    @property
    def workers(self) -> Mapping[str, ChannelWorker]:
        """The workers by the names of their channels."""
        return self._workers

    def start(self) -> None:
        """Start all workers."""
        for worker in self._workers.values():
            worker.start()

    def begin_stop(self) -> None:
        """Let each worker end after its current delivery."""
        for worker in self._workers.values():
            worker.stop()

    @property
    def is_busy(self) -> bool:
        """Whether a worker has not ended."""
        return any(worker.is_alive() for worker in self._workers.values())

    def stop(self) -> None:
        """End all workers; a delivery that hangs is left to the end of the process."""
        self.begin_stop()
        self._engine.stop()

    def on_event(self, row: EventRow) -> None:
        """Wake the workers; called in the engine's thread after the commit of an event."""
        if row.sequence is not None:
            self._highest = row.sequence
            for worker in self._workers.values():
                worker.wake()

    def watch_store(self, problem: tuple[str, float] | None, channels: Callable[[], Collection[str]]) -> None:
        """Tell people at once of a store that cannot commit for a minute; called again and again by the loop.

        Args:
            problem: the reason and the begin, in seconds since 1970; None while the store commits.
            channels: returns the channels that are told of the manager's own trouble.
        """
        if problem is None:
            self._store_told = False
            return
        reason, since = problem
        if self._store_told or self._clock() - since < STORE_GRACE:
            return
        self._store_told = True
        for name in channels():
            if name in self._workers and self._channels[name].is_judged:
                self._workers[name].add_urgent(store_message(reason, since))

    def records(self) -> list[dict[str, Any]]:
        """Return the channels with their state as API records; safe from any thread."""
        return [self._record(name, worker) for name, worker in self._workers.items()]

    def warnings(self, named: Collection[str]) -> list[str]:
        """Return a sentence for each channel that fails, was not told of events, or that no policy names.

        Args:
            named: the channels that policies name.
        """
        sentences = [
            f"the channel {name} is told nothing: no policy names it in alerting.channels"
            for name in self._workers
            if name not in named
        ]
        for record in self.records():
            name, since = record["name"], record["failingSince"]
            if since is not None:
                sentences.append(f"notifications to {name} fail since {since}: {record['reason']}")
            if record["notTold"]:
                sentences.append(f"{record['notTold']} events were deleted before the channel {name} was told of them")
        return sentences

    def pause(self, channel: str, until: float | None) -> None:
        """Deliver nothing to a channel until a time; None continues."""
        self._workers[channel].pause(until)

    def test_result(self, channel: str, test_id: str) -> tuple[bool, str | None]:
        """Return whether a test was tried, and the reason why it was not delivered; None for a delivered one."""
        tests = self._workers[channel].tests
        return test_id in tests, tests.get(test_id)

    def _record(self, name: str, worker: ChannelWorker) -> dict[str, Any]:
        settings, cursor, health, paused = self._channels[name], worker.cursor, worker.health, worker.paused_until
        if paused is not None and paused <= self._clock():
            paused = None
        key = self._keys.get(name)
        return {
            "name": name,
            "type": settings.type,
            "destination": self._destinations[name],
            "judgement": settings.is_judged,
            "state": "paused" if paused else "failing" if health.failing_since else "ok",
            "pausedUntil": None if paused is None else iso(paused),
            "failingSince": None if health.failing_since is None else iso(health.failing_since),
            "reason": health.reason,
            "behind": 0 if cursor is None else max(0, self._highest - cursor.sequence),
            "pending": worker.waiting,
            "sent": 0 if cursor is None else cursor.sent,
            "givenUp": 0 if cursor is None else cursor.given_up,
            "notTold": 0 if cursor is None else cursor.not_told,
            "lastSentAt": None if cursor is None or cursor.last_sent_at is None else iso(cursor.last_sent_at),
            "keyFile": None if key is None else str(key),
        }

    def _worker(
        self, name: str, settings: ChannelSettings, sender: Sender, queries: NotificationQueries
    ) -> ChannelWorker:
        try:
            address, judgement = settings.address(), _judgement_settings(settings)
            options = ChannelOptions(
                timeout=settings.timeout,
                key=self._key(name, settings, sender),
                ca_file=settings.ca_file,
                plain_http=settings.plain_http,
                facility=settings.facility,
            )
            identity = ChannelIdentity(name, sender.manager_id, sender.version, sender.hostname)
            channel = open_channel(settings.type, address, identity, options)
            watchdog = _watchdog(name, settings)
        except (SetupError, ValueError) as error:
            raise SetupError(f"[notifications.{name}]: {error}") from error
        self._destinations[name] = destination(settings.type, address)

        def selection(state: str | None) -> Selection:
            return Judged(name, judgement, settings.escalate_to, state) if settings.is_judged else EachEvent(name)

        return ChannelWorker(
            name,
            channel,
            selection=selection,
            queries=queries,
            engine=self._engine,
            clock=self._clock,
            hand_over=self._hand_over,
            watchdog=watchdog,
        )

    def _key(self, name: str, settings: ChannelSettings, sender: Sender) -> bytes | None:
        """Return the key of a webhook's signatures; None for other types."""
        if settings.type != "webhook":
            return None
        if settings.secret_file is not None:
            self._keys[name] = settings.secret_file
            return read_key(read_secret("secret_file", settings.secret_file))
        self._keys[name], text = sender.webhook_secret(name)
        return read_key(text)

    def _hand_over(self, second: str, row: NotificationRow) -> None:
        self._workers[second].add(row)


def _judgement_settings(settings: ChannelSettings) -> JudgementSettings:
    hours, _, minutes = settings.digest_at.partition(":")
    after = None if settings.escalate_to is None else settings.escalate_after
    return JudgementSettings(settings.time_zone, int(hours) * 60 + int(minutes), after)


def _watchdog(name: str, settings: ChannelSettings) -> Watchdog | None:
    if settings.watchdog_url_file is None:
        return None
    url = read_secret("watchdog_url_file", settings.watchdog_url_file)
    if not url.startswith(("https://", "http://")):
        raise SetupError("the address in watchdog_url_file begins with https:// or http://")

    def call() -> None:
        httpx2.get(url, timeout=CALL_TIMEOUT, follow_redirects=False).raise_for_status()

    return Watchdog(name, settings.watchdog_every, call)
