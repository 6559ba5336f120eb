"""One simulated agent, for either door: its messages, its outbox, and its policy in force."""

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import orjson
from uuid_utils import uuid7

from schemas import message_codes, topics
from schemas.blocklist import BlocklistChange
from schemas.keys import EnrollmentToken, seal
from schemas.model import iso, utc
from schemas.policy import Policy, PolicyApplied, digest_of
from schemas.presence import Heartbeat, Mode, PolicyState, Presence
from schemas.registration import Registration
from schemas.threats import Receipt
from simulate.identity import Identity
from simulate.kept_reports import KeptReports
from simulate.ledger import Ledger
from simulate.ledger import digest_of as content_digest
from simulate.outbox import Outbox
from simulate.schedule import Detection
from simulate.verifier import Verifier

SYSTEM, ARCHITECTURE, VERSION = "Debian 12", "x64", "0.1.0"
"""The host facts that every simulated agent reports."""

_CPU, _MEMORY = 3.0, 20.0
_CONFIDENCE = 90.0
_TECHNIQUE = "T1110"
_KEPT = 1_000


@dataclass(slots=True)
class Tally:
    """Counts over all agents. `last_error` is the latest connection error of an agent."""

    registered: int = 0
    connected: int = 0
    reconnects: int = 0
    cuts: int = 0
    receipts: int = 0
    deferred: int = 0
    policies_applied: int = 0
    ignored: int = 0
    last_error: str = ""


class Session(Protocol):
    """An agent's open connection to its door."""

    def pump(self) -> None:
        """Send the outbox's due reports."""
        ...

    def cut(self) -> None:
        """Close the connection without a sign-off."""
        ...

    def sign_off(self) -> None:
        """Sign off and close the connection."""
        ...

    def tick(self, now: float) -> None:
        """Run the steps that are due."""
        ...


@dataclass(slots=True)
class InForce:
    """The policy that an agent has applied; version 0 without one."""

    version: int = 0
    digest: str = ""
    proof: str = ""

    def members(self) -> dict[str, Any]:
        """Return the heartbeat's members about the policy."""
        if not self.version:
            return {}
        return {
            "policy_version": self.version,
            "policy_digest": self.digest or None,
            "policy_state": PolicyState.APPLIED,
            "version_proof": self.proof,
        }


@dataclass(slots=True, eq=False)
class Agent:
    """State and messages of one agent. Policies are verified and stored; nothing is blocked on this machine.

    Attributes:
        number: The agent's number, from 0.
        identity: The agent's secret and registration.
        outbox: Reports without a receipt.
        ledger: The simulation's ledger, which records every report and receipt.
        tally: The simulation's counts.
        started: The start of the simulation on the monotonic clock, for the agent's uptime.
        session: The open connection.
        pending: A registration without an answer: client id and payload.
        policy: The policy in force.
        blocklist_sequence: The sequence of the organization's blocklist that was last applied.
        kept: Reports with a receipt, which the manager may ask for again.
        sends_batches: Whether the manager takes several reports in one message, as far as is known.
    """

    number: int
    identity: Identity
    outbox: Outbox
    ledger: Ledger
    tally: Tally
    started: float
    session: Session | None = None
    pending: tuple[str, bytes] | None = None
    policy: InForce = field(default_factory=InForce)
    blocklist_sequence: int = 0
    kept: KeptReports = field(default_factory=lambda: KeptReports(_KEPT))
    sends_batches: bool = False
    _acknowledged_key: str = ""
    _sequence: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def uptime(self) -> float:
        """Seconds since the simulation began."""
        return time.monotonic() - self.started

    def coded(self, row: topics.Topic, body: bytes) -> bytes:
        """Return a body with this agent's message code."""
        return message_codes.with_mac(self.identity.keys.mac_key, row.below_root(self.identity.agent_id), body)

    def registration(self, token: EnrollmentToken, seal_key: str, client_id: str) -> bytes:
        """Return a registration with its proof."""
        registration = Registration(
            hostname=self.identity.hostname,
            os=SYSTEM,
            arch=ARCHITECTURE,
            version=VERSION,
            client_id=client_id,
            sent_at=utc(time.time()),
            uptime=self.uptime,
            token_id=token.token_id,
            sealed_secret=seal(seal_key, self.identity.secret, client_id),
        )
        topic = topics.REGISTRATION.below_root(client_id)
        return message_codes.with_proof(token.proof_key, topic, registration.body())

    def presence(self, state: str) -> bytes:
        """Return a birth, a sign-off or a last will."""
        message = Presence.model_validate(
            {"state": state, "session": self.identity.session, "sent_at": utc(time.time()), "uptime": self.uptime}
        )
        return self.coded(topics.PRESENCE, message.body())

    def begin_session(self) -> None:
        """Increment the session number and reset the heartbeat sequence."""
        self.identity.session += 1
        self._sequence = count(1)

    def heartbeat(self) -> bytes:
        """Return the next heartbeat, without its code."""
        message = Heartbeat(
            cpu=_CPU,
            memory=_MEMORY,
            events_processed=0,
            mode=Mode.LEARNING,
            uptime=self.uptime,
            sent_at=utc(time.time()),
            session=self.identity.session,
            sequence=next(self._sequence),
            blocklist_sequence=self.blocklist_sequence,
            outbox_size=len(self.outbox),
            outbox_dropped=0,
            receipt_mark=self.kept.mark,
            **self.policy.members(),
        )
        return message.body()

    def detected(self, detection: Detection) -> None:
        """Create a report, record it in the ledger and add it to the outbox."""
        report_id, timestamp = str(uuid7()), iso(time.time())
        threat = {
            "type": "brute_force",
            "confidence": _CONFIDENCE,
            "evidence": {"sourceIp": detection.source_ip, "user": detection.user, "targetService": "sshd"},
            "severity": detection.severity.value,
            "technique": _TECHNIQUE,
            "count": detection.attempts,
            **({"vouched": ["sourceIp"]} if detection.is_vouched else {}),
        }
        response = {"action": "block_ip", "target": detection.source_ip, "outcome": "would_be_taken"}
        document = {"id": report_id, "threat": threat, "response": response, "timestamp": timestamp}
        self.ledger.made(report_id, content_digest(threat, timestamp), time.monotonic())
        self.outbox.add(report_id, orjson.dumps(document))
        if detection.is_repeated and self.session is not None:
            self.session.pump()
            self.outbox.repeat(report_id)

    def signed_by_agent(self, body: bytes) -> bytes:
        """Return a report of the outbox with the agent's id, which a later registration may have changed."""
        return b'{"agentId":"%b",%b' % (self.identity.agent_id.encode(), body[1:])

    def take_receipt(self, receipt: Receipt, now: float) -> None:
        """Apply a receipt: record it in the ledger, and hold deferred reports back for the manager's delay.

        A receipt of a generation of the store that has been superseded is for reports that may be lost: they are sent.
        """
        self.tally.receipts += 1
        if self.kept.is_superseded(receipt):
            receipt = receipt.model_copy(update={"stored": []})
        for report_id in receipt.stored:
            self.ledger.receipted(report_id, now)
        for refusal in receipt.refused:
            self.ledger.refused(refusal.id, refusal.reason, now)
        self.kept.settle(receipt, now)
        self.kept.keep(self.outbox.settle(receipt.stored), receipt)
        self.outbox.settle(refusal.id for refusal in receipt.refused)
        for deferral in receipt.deferred:
            self.tally.deferred += len(deferral.ids)
            self.outbox.defer(deferral.ids, now + deferral.retry_after)

    def take_policy(self, payload: bytes, verifier: Verifier) -> bytes | None:
        """Apply a newer signed policy for this agent; return `policy/applied` without its code, or None.

        The organization that the newest policy names becomes the agent's, without the former one's blocklist.
        """
        policy = verifier.own(topics.POLICY, self.identity.agent_id, payload)
        if not isinstance(policy, Policy) or policy.agent_id != self.identity.agent_id:
            self.tally.ignored += 1
            return None
        if policy.version >= self.policy.version and policy.organization_id not in {
            None,
            self.identity.organization_id,
        }:
            self.identity.organization_id, self.blocklist_sequence = str(policy.organization_id), 0
        if (policy.version, policy.digest) == (self.policy.version, self.policy.digest):
            return self._applied(policy, verifier) if self._acknowledged_key != verifier.sign_key else None
        if policy.version <= self.policy.version:
            return None
        if not verifier.proves(policy) or digest_of(orjson.loads(payload)) != policy.digest:
            self.tally.ignored += 1
            return None
        self.policy = InForce(policy.version, policy.digest, policy.version_proof)
        self.tally.policies_applied += 1
        return self._applied(policy, verifier)

    def _applied(self, policy: Policy, verifier: Verifier) -> bytes:
        self._acknowledged_key = verifier.sign_key
        return PolicyApplied(
            version=policy.version,
            digest=policy.digest,
            state=PolicyState.APPLIED,
            sent_at=utc(time.time()),
            sign_key=self._acknowledged_key,
        ).body()

    def take_blocklist(self, row: topics.Topic, payload: bytes, verifier: Verifier) -> bool:
        """Apply a snapshot or a change; return False if a change before this one is missing."""
        news = verifier.shared(row, self.identity.organization_id, payload)
        if news is None:
            self.tally.ignored += 1
            return True
        if isinstance(news, BlocklistChange) and news.from_sequence > self.blocklist_sequence:
            return False
        self.blocklist_sequence = max(self.blocklist_sequence, news.sequence)
        return True
