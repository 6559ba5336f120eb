"""The guard itself: what it does in a session and between sessions, part by part."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.clock import Clock
from agent.connection.identity import IdentityFile
from agent.connection.liveness import HeartbeatFields, Liveness
from agent.link.link import Link
from agent.logs import EventLog
from agent.pipeline import Pipeline
from agent.policy.blocklist import OrganizationBlocklist
from agent.policy.policy_store import PolicyStore
from agent.report.delivery import Delivery
from agent.report.outbox import Outbox
from agent.respond.enforcement import Enforcement
from agent.settings import GuardSettings
from schemas import codes
from schemas.decoding import DecodeError, decode
from schemas.policy import PolicyApplied
from schemas.threats import Receipt
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES, HEARTBEAT, POLICY, POLICY_APPLIED, RECEIPTS, Topic

_log = EventLog("guard")

_NEVER = float("inf")

_WORD_WITHIN = 0.3
"""Seconds within which a heartbeat tells the manager that a change of the blocklist is in force."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a guard is made of; built in `agent.runtime`, or by a test."""

    started: float
    identity: IdentityFile
    liveness: Liveness
    outbox: Outbox
    delivery: Delivery
    pipeline: Pipeline
    policy: PolicyStore
    blocklist: OrganizationBlocklist
    enforcement: Enforcement
    ignored: Counter[str]


class Guard:
    """Detects all the time; beats, reports and obeys while a session is open.

    Args:
        parts: What it is made of.
        settings: Its intervals.
        clock: The host's clocks.
        announce: Called with agentId and session when a birth is taken.
    """

    def __init__(
        self, parts: Parts, settings: GuardSettings, clock: Clock, announce: Callable[[str, int], None]
    ) -> None:
        self._parts = parts
        self._settings = settings
        self._clock = clock
        self._announce = announce
        self._link: Link | None = None
        self._agent_id = ""
        self._mac_key = parts.identity.identity.keys.mac_key
        self._heartbeat_due = _NEVER
        self._poll_due = _NEVER
        self._handlers: dict[str, Callable[[Topic, bytes, float], None]] = {
            RECEIPTS.name: self._receipt,
            POLICY.name: self._policy,
            BLOCKLIST.name: self._blocklist,
            BLOCKLIST_CHANGES.name: self._blocklist,
        }
        self._pin()
        self._heed_monitors()

    @property
    def due(self) -> float:
        """When `tick` has something to do, on the monotonic clock."""
        parts = self._parts
        return min(
            self._heartbeat_due,
            self._poll_due,
            parts.pipeline.due,
            parts.delivery.due,
            parts.enforcement.due,
            parts.blocklist.due,
        )

    def tick(self, now: float) -> None:
        """Do what is due."""
        parts = self._parts
        reported = parts.pipeline.tick(now)
        parts.enforcement.tick(now)
        if now >= self._heartbeat_due:
            self._heartbeat(now)
        if reported or now >= parts.delivery.due:
            parts.delivery.tick(now)
        parts.blocklist.tick(now)
        if now >= self._poll_due and self._link is not None:
            self._poll_due = now + self._settings.policy_poll_interval
            self._link.subscribe(POLICY)  # what is retained comes again; over HTTP this is the poll
            parts.blocklist.ask(now)

    def online(self, link: Link, session: int, peer: str | None, now: float) -> None:
        """A session began: beat, then report, so that the manager knows this clock before it reads event times."""
        self._link = link
        self._pin()
        if peer is not None:
            self._parts.enforcement.protect(peer)
        _log.info("session_open", agent_id=self._agent_id, session=session)
        self._heartbeat(now)
        self._poll_due = now + self._settings.policy_poll_interval
        self._parts.delivery.opened(link, self._agent_id, self._mac_key, now)
        self._parts.blocklist.opened(link, now)

    def ready(self, session: int) -> None:
        """The birth is taken."""
        self._announce(self._agent_id, session)

    def offline(self) -> None:
        """The session is over: go on detecting."""
        self._link = None
        self._heartbeat_due = self._poll_due = _NEVER
        self._parts.delivery.closed()
        self._parts.blocklist.closed()

    def message(self, row: Topic, payload: bytes, now: float) -> None:
        """Take a message; whatever has no right code is counted and changes nothing."""
        handler = self._handlers.get(row.name)
        if handler is not None:
            handler(row, payload, now)

    def settled(self, receipt: Receipt, now: float) -> None:
        """Take the manager's own word on reports."""
        self._parts.delivery.receipt(receipt, now, self._clock.wall())

    def offered(self, document: Mapping[str, Any], now: float) -> None:
        """Take a policy from the manager's own answer; once it is in force the next heartbeat says so at once."""
        before = self._parts.policy.in_force
        self._acknowledge(self._parts.policy.take(document))
        if self._parts.policy.in_force != before:
            self._heartbeat(now)

    def _pin(self) -> None:
        enrolled = self._parts.identity.identity.enrolled
        if enrolled is not None:
            self._agent_id = enrolled.agent_id
            self._parts.policy.pin(enrolled)
            self._parts.blocklist.pin(enrolled)

    def _heartbeat(self, now: float) -> None:
        parts = self._parts
        self._heartbeat_due = now + self._settings.heartbeat_interval
        if self._link is None:
            return
        vitals = HeartbeatFields(
            events_total=parts.pipeline.events_total,
            outbox_size=len(parts.outbox),
            outbox_dropped=parts.outbox.dropped,
            policy=parts.policy.in_force,
            blocklist_sequence=parts.blocklist.sequence,
        )
        self._link.publish(HEARTBEAT, parts.liveness.heartbeat(self._agent_id, self._mac_key, vitals))

    def _receipt(self, row: Topic, payload: bytes, now: float) -> None:
        if not codes.has_mac(self._mac_key, row.below_root(self._agent_id), payload):
            self._parts.ignored["receipt_forged"] += 1
            return
        try:
            receipt = decode(Receipt, payload, row.limit)
        except DecodeError:
            self._parts.ignored["receipt_unreadable"] += 1
            return
        self._parts.delivery.receipt(receipt, now, self._clock.wall())

    def _policy(self, _row: Topic, payload: bytes, _now: float) -> None:
        self._acknowledge(self._parts.policy.receive(payload))

    def _acknowledge(self, answer: PolicyApplied | None) -> None:
        self._heed_monitors()
        if answer is not None and self._link is not None:
            topic = POLICY_APPLIED.below_root(self._agent_id)
            self._link.publish(POLICY_APPLIED, codes.with_mac(self._mac_key, topic, answer.body()))

    def _heed_monitors(self) -> None:
        self._parts.pipeline.enabled = "log" in self._parts.enforcement.sections.monitors.enabled

    def _blocklist(self, row: Topic, payload: bytes, now: float) -> None:
        if self._parts.blocklist.receive(row, payload, now):
            self._parts.enforcement.refresh()
            word = now + random.uniform(0, _WORD_WITHIN)  # noqa: S311 -- spreads a fleet's answers, no secret
            self._heartbeat_due = min(self._heartbeat_due, word)

    def status(self) -> dict[str, Any]:
        """Return what the status file says of sessions and messages."""
        enrolled = self._parts.identity.identity.enrolled
        return {
            "agentId": None if enrolled is None else enrolled.agent_id,
            "organizationId": None if enrolled is None else enrolled.organization_id,
            "session": self._parts.identity.identity.session,
            "ignored": dict(self._parts.ignored),
        }
