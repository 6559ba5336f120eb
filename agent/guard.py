"""The guard: runs its parts at their deadlines and routes a session's messages to them."""

import random
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from agent.clock import Clock
from agent.connection.key_succession import KeySuccession
from agent.connection.presence_messages import HeartbeatFields
from agent.guard_parts import GuardParts
from agent.guard_state import GuardState
from agent.link.link import Link
from agent.logs import EventLog
from agent.memory import release_memory
from agent.settings import GuardSettings
from agent.sources import health
from schemas import message_codes, topics
from schemas.decoding import DecodeError, decode
from schemas.generations import StoreGeneration
from schemas.policy import PolicyApplied
from schemas.threats import Receipt
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES, HEARTBEAT, POLICY, POLICY_APPLIED, RECEIPTS, Topic

_log = EventLog("guard")

_NEVER = float("inf")

_SOON = 0.3
"""Seconds within which a heartbeat reports a change of the blocklist or of the guard's health."""

_APPLIED_WITHIN = 0.2
"""Seconds within which `policy/applied` reports what holds after a change of the blocklist."""

_FEED_EVERY = 30.0
"""Seconds between two requests for messages that the fence lacks."""

_LARGE = 64 * 1024
_RELEASED_AFTER = 2.0
"""Bytes of a message, and the seconds after it, after which freed memory is given back."""


class Guard:
    """Detects threats at all times; sends heartbeats and reports and applies policies while a session is open.

    Args:
        parts: The parts.
        settings: The intervals.
        clock: The host's clocks.
        announce: Called with agentId and session when a birth is acknowledged.
    """

    def __init__(
        self, parts: GuardParts, settings: GuardSettings, clock: Clock, announce: Callable[[str, int], None]
    ) -> None:
        self._parts = parts
        self._settings = settings
        self._clock = clock
        self._announce = announce
        self._link: Link | None = None
        self._agent_id = ""
        self.state = GuardState(parts, clock)
        """Its health, what it enforces, and the fields of the status file."""
        self._states = [(source.name, source.state) for source in parts.pipeline.health]
        self._mac_key = parts.identity.identity.keys.mac_key
        self._heartbeat_due = _NEVER
        self._poll_due = _NEVER
        self._applied_due = _NEVER
        self._feed_due = 0.0
        self._release_due = _NEVER
        self._mode = self._mode_fields()
        self._handlers: dict[str, Callable[[Topic, bytes, float], None]] = {
            RECEIPTS.name: self._receipt,
            topics.MANAGER_KEYS.name: self._keys,
            POLICY.name: self._policy,
            BLOCKLIST.name: self._blocklist,
            BLOCKLIST_CHANGES.name: self._blocklist,
        }
        self._succession = KeySuccession(parts.identity, parts.ignored, parts.manager_time)
        parts.blocklist.forward = self._forward_blocklist
        self._pin()
        self._apply_monitors()

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock."""
        parts = self._parts
        return min(
            self._heartbeat_due,
            self._poll_due,
            self._applied_due,
            self._release_due,
            parts.pipeline.due,
            parts.delivery.due,
            parts.resending.due,
            parts.enforcement.due,
            parts.blocklist.due,
        )

    def tick(self, now: float) -> None:
        """Run the parts that are due."""
        parts = self._parts
        reported = parts.pipeline.tick(now)
        self._notice_health(now)
        parts.enforcement.tick(now)
        self._notice_mode(now)
        self._feed_fence(now)
        if now >= self._release_due:
            self._release_due = _NEVER
            release_memory()
        if now >= self._applied_due:
            self._applied_due = _NEVER
            self._acknowledge(parts.policy.acknowledgement())
        beat = now >= self._heartbeat_due
        if beat:
            self._heartbeat(now)
        if (
            reported or beat or now >= parts.delivery.due
        ):  # with each heartbeat, send reports that another process put into the outbox
            parts.delivery.tick(now)
        parts.resending.tick(now)
        parts.blocklist.tick(now)
        if now >= self._poll_due and self._link is not None:
            self._poll_due = now + self._settings.policy_poll_interval
            self._link.subscribe(POLICY)  # the broker sends the retained policy again; over HTTP this is the poll
            parts.blocklist.ask(now)

    def online(self, link: Link, session: int, peer: str | None, now: float) -> None:
        """Start a session: send a heartbeat before any report, so the manager knows the clock offset first."""
        self._link = link
        self._pin()
        if peer is not None:
            self._parts.enforcement.protect(peer)
        _log.info("session_open", agent_id=self._agent_id, session=session)
        self._parts.kept.begin_session()
        self._heartbeat(now)
        self._poll_due = now + self._settings.policy_poll_interval
        self._parts.delivery.opened(link, self._agent_id, self._mac_key, now)
        self._parts.resending.opened(link, self._agent_id, self._mac_key, now)
        self._parts.blocklist.opened(link, now)

    def ready(self, session: int) -> None:
        """Announce the session to the operator, after the birth was acknowledged."""
        self._announce(self._agent_id, session)

    def offline(self) -> None:
        """End the session; detection continues."""
        self._link = None
        self._heartbeat_due = self._poll_due = self._applied_due = _NEVER
        self._parts.delivery.closed()
        self._parts.resending.closed()
        self._parts.blocklist.closed()

    def message(self, row: Topic, payload: bytes, now: float) -> None:
        """Route a message to its part; a message without a valid code is counted and dropped."""
        handler = self._handlers.get(row.name)
        if handler is not None:
            handler(row, payload, now)
            if len(payload) > _LARGE:
                self._release_due = now + _RELEASED_AFTER

    def settled(self, receipt: Receipt, now: float) -> None:
        """Apply a receipt."""
        wall = self._clock.wall()
        self._parts.resending.receipt(receipt, now, wall)
        self._parts.delivery.receipt(receipt, now, wall)

    def asked(self, generation: StoreGeneration, now: float) -> None:
        """Follow the generation of the manager's store, which the manager states over HTTP."""
        self._parts.resending.hear(generation, now)

    def offered(self, document: Mapping[str, Any], now: float) -> None:
        """Apply a policy from the manager's HTTP answer; send a heartbeat once it is applied."""
        before = self._parts.policy.in_force
        answer = self._parts.policy.take(document)
        self._enter_organization()
        self._acknowledge(answer)
        if self._parts.policy.in_force != before:
            self._heartbeat(now)

    def make_room(self, error: sqlite3.Error) -> None:
        """Drop the kept reports if an error says that the disk is full."""
        self._parts.kept.make_room(error)

    def _pin(self) -> None:
        enrolled = self._parts.identity.identity.enrolled
        if enrolled is not None:
            self._agent_id = enrolled.agent_id
            self._parts.policy.pin(enrolled)
            self._parts.blocklist.pin(enrolled)
            self._parts.enforcement.trust(enrolled.trusted)
            self._parts.kept.pin(enrolled.trusted)

    def _heartbeat(self, now: float) -> None:
        parts, mode = self._parts, self._parts.enforcement.mode
        if self._succession.note_ends():
            self._pin()
        self._heartbeat_due = now + self._settings.heartbeat_interval
        parts.kept.expire(now)
        if self._link is None:
            return
        fields = HeartbeatFields(
            events_total=parts.pipeline.events_total,
            outbox_size=len(parts.outbox),
            outbox_dropped=parts.outbox.dropped,
            policy=None if mode.asks_manager else parts.policy.in_force,  # the manager answers with a policy
            blocklist_sequence=parts.blocklist.sequence,
            health=health.overall(self.state.health),
            sources=health.reports(self.state.health),
            enforcement=parts.enforcement.kind,
            mode=mode.effective,
            mode_wanted=mode.wanted,
            trial_seconds_left=mode.seconds_left,
            enforced=self.state.enforced(),
            logins=parts.logins.take(),
            receipt_mark=parts.kept.mark_to_state(),
        )
        self._link.publish(HEARTBEAT, parts.liveness.heartbeat(self._agent_id, self._mac_key, fields))

    def _mode_fields(self) -> tuple[object, ...]:
        enforcement = self._parts.enforcement
        mode = enforcement.mode
        return mode.effective, mode.wanted, mode.seconds_left is None, mode.asks_manager, enforcement.kind

    def _notice_mode(self, now: float) -> None:
        """Schedule a heartbeat soon after mode, trial or means of enforcement have changed."""
        fields = self._mode_fields()
        if fields != self._mode:
            self._mode, self._feed_due = fields, now
            if self._link is not None:
                self._heartbeat_due = min(self._heartbeat_due, self._soon(now))

    def _feed_fence(self, now: float) -> None:
        """Ask the broker again for the signed messages that the fence lacks."""
        parts = self._parts
        if self._link is None or now < self._feed_due or not parts.policy.is_signed:
            return
        policy = parts.enforcement.lacks("policy", parts.policy.version)
        blocklist = parts.enforcement.lacks("blocklist", parts.blocklist.sequence)
        if policy:
            self._link.subscribe(POLICY)
        if blocklist:
            parts.blocklist.ask(now)
        if policy or blocklist:
            self._feed_due = now + _FEED_EVERY

    def _forward_blocklist(self, topic: str, payload: bytes, sequence: int) -> None:
        if sequence == self._parts.blocklist.sequence:  # not a retained message that is older than this guard's list
            self._parts.enforcement.forward("blocklist", topic, payload, sequence)

    def _notice_health(self, now: float) -> None:
        """Schedule a heartbeat soon after the state of a source has changed."""
        states = [(source.name, source.state) for source in self.state.health]
        if states != self._states:
            self._states = states
            if self._link is not None:
                self._heartbeat_due = min(self._heartbeat_due, self._soon(now))

    @staticmethod
    def _soon(now: float) -> float:
        """Return a random time within the next `_SOON` seconds, so that a fleet does not answer all at once."""
        return now + random.uniform(0, _SOON)  # noqa: S311 -- no secret

    def _receipt(self, row: Topic, payload: bytes, now: float) -> None:
        if not message_codes.has_mac(self._mac_key, row.below_root(self._agent_id), payload):
            self._parts.ignored["receipt_forged"] += 1
            return
        try:
            receipt = decode(Receipt, payload, row.limit)
        except DecodeError:
            self._parts.ignored["receipt_unreadable"] += 1
            return
        self._parts.manager_time.observe(receipt.sent_at)
        self.settled(receipt, now)

    def _keys(self, _row: Topic, payload: bytes, now: float) -> None:
        """Follow a rotation of the manager's key, and ask again for messages that the new key has signed."""
        changed, keys = self._succession.receive(payload)
        if changed:
            self._pin()
            self._poll_due = now
        if keys is not None:
            self._parts.delivery.accept(keys.accepts)
            if keys.generation is not None:
                self._parts.resending.hear(keys.generation, now)

    def _policy(self, _row: Topic, payload: bytes, _now: float) -> None:
        policy = self._parts.policy
        answer = policy.receive(payload)
        if answer is not None:
            self._parts.enforcement.forward("policy", POLICY.below_root(self._agent_id), payload, answer.version)
        self._enter_organization()
        self._acknowledge(answer)

    def _enter_organization(self) -> None:
        """Take the organization that the policy names, without the former one's blocklist.

        The connection opens a new session, for the topics of the organization.
        """
        identity, named = self._parts.identity, self._parts.policy.organization_id
        enrolled = identity.identity.enrolled
        if named is None or enrolled is None or named == enrolled.organization_id:
            return
        identity.enter_organization(named)
        _log.info("organization_changed", organization_id=named)
        self._pin()
        self._parts.enforcement.refresh()

    def _acknowledge(self, answer: PolicyApplied | None) -> None:
        self._apply_monitors()
        if answer is not None and self._link is not None:
            topic = POLICY_APPLIED.below_root(self._agent_id)
            answer = answer.model_copy(update={"enforced": self.state.enforced()})
            self._link.publish(POLICY_APPLIED, message_codes.with_mac(self._mac_key, topic, answer.body()))

    def _apply_monitors(self) -> None:
        self._parts.pipeline.enabled = "log" in self._parts.enforcement.sections.monitors.enabled

    def _blocklist(self, row: Topic, payload: bytes, now: float) -> None:
        if self._parts.blocklist.receive(row, payload, now):
            self._parts.enforcement.refresh()
            self._heartbeat_due = min(self._heartbeat_due, self._soon(now))
            jitter = random.uniform(0, _APPLIED_WITHIN)  # noqa: S311 -- no secret
            self._applied_due = min(self._applied_due, now + jitter)
