"""An agent made of the contract alone: it writes the messages of a guard and reads those of a manager."""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from uuid_utils.compat import uuid7

from schemas import message_codes, topics
from schemas.keys import AgentKeys, EnrollmentToken, ManagerKeyring, new_secret, seal
from schemas.message_codes import without_mac
from schemas.model import iso, utc
from schemas.presence import Heartbeat, Mode, Presence
from schemas.registration import Registration
from schemas.report_batches import batch_body
from schemas.threats import Threat, ThreatReport


@dataclass
class SimulatedAgent:
    """Holds what a guard would hold; times are given with each message, in seconds since 1970."""

    hostname: str
    token: EnrollmentToken
    seal_key: str
    secret: bytes = field(default_factory=new_secret)
    agent_id: str = ""
    session: int = 0
    sequence: int = 0
    uptime_from: float = 0.0
    response: Any = "block_ip"
    """Response in its threat reports."""
    vouches: bool = True
    """Whether its threat reports vouch for the addresses and hashes in them."""

    def __post_init__(self) -> None:
        self.keys = AgentKeys.derive(self.secret)

    def registration(self, sent_at: float, **members: Any) -> tuple[str, bytes]:
        """Return client id and payload of a registration."""
        client_id = members.pop("client_id", None) or secrets.token_hex(16)
        registration = Registration(
            hostname=self.hostname,
            os=members.pop("os", "Debian 12"),
            arch=members.pop("arch", "x64"),
            version=members.pop("version", "1.0"),
            client_id=client_id,
            sent_at=utc(sent_at),
            uptime=min(max(0.0, sent_at - self.uptime_from), 1e10),
            token_id=self.token.token_id,
            sealed_secret=seal(self.seal_key, self.secret, client_id),
            **members,
        )
        topic = topics.REGISTRATION.below_root(client_id)
        return client_id, message_codes.with_proof(self.token.proof_key, topic, registration.body())

    def coded(self, row: topics.Topic, body: bytes) -> bytes:
        """Return a body with this agent's code for one of its topics."""
        return message_codes.with_mac(self.keys.mac_key, row.below_root(self.agent_id), body)

    def presence(self, state: str, sent_at: float, session: int | None = None) -> bytes:
        """Return a birth, sign-off or will."""
        message = Presence(
            state=state,
            session=self.session if session is None else session,
            sent_at=utc(sent_at),
            uptime=min(max(0.0, sent_at - self.uptime_from), 1e10),
        )
        return self.coded(topics.PRESENCE, message.body())

    def heartbeat(self, sent_at: float, **members: Any) -> bytes:
        """Return the next heartbeat of the current session."""
        self.sequence += 1
        message = Heartbeat(
            **{
                "cpu": 1.0,
                "memory": 2.0,
                "events_processed": 0,
                "mode": Mode.PROTECTION,
                "uptime": min(max(0.0, sent_at - self.uptime_from), 1e10),
                "sent_at": utc(sent_at),
                "session": self.session,
                "sequence": self.sequence,
                **members,
            }
        )
        return self.coded(topics.HEARTBEAT, message.body())

    def threat(
        self, timestamp: float, threat_id: str | None = None, technique: str = "T1110", **evidence: Any
    ) -> bytes:
        """Return a threat report."""
        report = ThreatReport(
            id=threat_id or str(uuid7()),
            agent_id=self.agent_id,
            threat=Threat(
                type="brute_force",
                confidence=80.0,
                technique=technique,
                evidence=evidence,
                vouched=[key for key in ("sourceIp", "fileHash") if key in evidence] if self.vouches else None,
            ),
            response=self.response,
            timestamp=utc(timestamp),
        )
        return self.coded(topics.THREATS, report.body())

    def batch(self, *reports: bytes, resent: bool = False) -> bytes:
        """Return several reports in one message; each may have its own code, which is taken off."""
        bodies = [without_mac(report) if b',"mac":"' in report else report for report in reports]
        return self.coded(topics.THREATS, batch_body(bodies, resent=resent))

    def reads(self, row: topics.Topic, payload: bytes, keyring: ManagerKeyring) -> dict[str, Any]:
        """Return a manager's message, checked as a guard checks it."""
        topic = row.below_root(self.agent_id)
        if row.code == "mac":
            assert message_codes.has_mac(self.keys.mac_key, topic, payload)
        else:
            assert message_codes.has_signature(keyring.sign_key.public_key(), topic, payload)
        return dict(json.loads(payload))


__all__ = ["SimulatedAgent", "iso"]
