"""The agent's policy: verification, storage, application section by section, acknowledgement."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from agent.clock import Clock
from agent.connection.identity import Enrolled
from agent.connection.presence_messages import AppliedPolicy
from agent.logs import EventLog
from agent.manager_time import ManagerTime
from agent.respond.desired_measures import Effective
from agent.storage.database import Database
from schemas.decoding import DecodeError, decode, validate
from schemas.identifiers import AgentId, OrganizationId
from schemas.keys import has_version_proof
from schemas.model import Timestamp, WireModel, utc
from schemas.policy import SECTIONS, PolicyApplied, PolicySections, digest_of
from schemas.presence import Count, Digest, PolicyState
from schemas.succession import TrustedKeys
from schemas.topics import POLICY

_log = EventLog("policy")

_MAX_ERROR = 1024


class PolicyHead(WireModel):
    """The fields of a policy that are checked before its sections are read."""

    version: Count
    digest: Digest
    updated_at: Timestamp
    scope: Literal["global", "organization", "agent"]
    agent_id: AgentId
    organization_id: OrganizationId | None = None
    expires_at: Timestamp | None = None
    version_proof: Annotated[str, StringConstraints(max_length=128)]
    sent_at: Timestamp | None = None


class _RejectedError(Exception):
    """A rejected policy; `reason` is the name of its counter."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


Enforce = Callable[[Effective], list[str]]
"""Applies a policy; returns an error message for each section that failed, starting with the section's name."""


class PolicyStore:
    """Verifies, stores and applies policies.

    Args:
        database: The guard's database.
        clock: The host's clocks.
        enforce: Applies a policy.
        ignored: Counts rejected policies by reason.
        manager_time: Learns from the time in verified policies.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        enforce: Enforce,
        ignored: Counter[str],
        manager_time: ManagerTime | None = None,
    ) -> None:
        self._manager_time = ManagerTime(clock) if manager_time is None else manager_time
        self._database = database
        self._clock = clock
        self._enforce = enforce
        self._ignored = ignored
        self._agent_id = ""
        self._trusted: TrustedKeys | None = None
        self._owner = ("", "")
        self.organization_id: str | None = None
        """The organization that the newest accepted policy names."""
        self.error: str | None = None
        self.in_force: AppliedPolicy | None = None
        self.effective = Effective(PolicySections())
        self._load()

    def pin(self, enrolled: Enrolled) -> None:
        """Set the agentId and signing keys of accepted policies; without a key, see `take`.

        After a change of agent or manager, though not after a rotation of the manager's key, the current policy stays
        in force until the first policy for the new identity, which may have any version.
        """
        self._agent_id, self._trusted = enrolled.agent_id, enrolled.trusted
        agent_id, sign_key = self._owner
        same = sign_key == enrolled.sign_key or (self._trusted is not None and self._trusted.knows(sign_key))
        if agent_id != self._agent_id or not same:
            self.in_force = None

    @property
    def is_signed(self) -> bool:
        """Whether policies come with the manager's signature, which the fence asks for."""
        return self._trusted is not None

    @property
    def version(self) -> int | None:
        """The version in force, None without one."""
        return None if self.in_force is None else self.in_force.version

    def receive(self, payload: bytes) -> PolicyApplied | None:
        """Verify and apply a signed policy; return the acknowledgement, None for a rejected policy."""
        trusted = self._trusted
        if not payload or trusted is None:
            return None  # an empty payload clears the retained policy: the agent was removed
        return self._consider(lambda: self._verified(payload, trusted))

    def take(self, document: Mapping[str, Any]) -> PolicyApplied | None:
        """Apply an unsigned policy from the manager's HTTP answer; return the acknowledgement, None if rejected.

        The connection authenticates it: the guard polled with its own token. A guard with a pinned signing key accepts
        no unsigned policy.
        """
        if self._trusted is not None or not self._agent_id:
            self._ignored["policy_unsigned"] += 1
            return None
        return self._consider(lambda: self._answered(document))

    def acknowledgement(self) -> PolicyApplied | None:
        """Return the acknowledgement of the policy in force, for a later report; None without one."""
        current = self.in_force
        return None if current is None else self._answer(current, current.state, self.error)

    def _consider(self, read: Callable[[], tuple[PolicyHead, dict[str, Any]]]) -> PolicyApplied | None:
        current = self.in_force
        try:
            head, document = read()
            if current is not None and (head.version, head.digest) == (current.version, current.digest):
                self.organization_id = head.organization_id
                return self._answer(current, current.state, self.error)
            _must_be_newer(head, current)
        except _RejectedError as error:
            self._ignored[error.reason] += 1
            _log.warning("policy_ignored", reason=error.reason)
            return None
        self.organization_id = head.organization_id
        return self._apply(head, document)

    def _verified(self, payload: bytes, trusted: TrustedKeys) -> tuple[PolicyHead, dict[str, Any]]:
        key = trusted.signer(POLICY.below_root(self._agent_id), payload, self._manager_time.latest_now())
        if key is None:
            raise _RejectedError("policy_forged")
        try:
            head = decode(PolicyHead, payload, POLICY.limit)
            document: dict[str, Any] = json.loads(payload)
        except (DecodeError, RecursionError) as error:
            raise _RejectedError("policy_unreadable") from error
        self._must_be_whole(head, document)
        if not has_version_proof(key, head.agent_id, head.version, head.digest, head.version_proof):
            raise _RejectedError("policy_digest_wrong")
        self._manager_time.observe(head.sent_at, "policy", head.version)
        return head, document

    def _answered(self, document: Mapping[str, Any]) -> tuple[PolicyHead, dict[str, Any]]:
        try:
            head = validate(PolicyHead, document)
        except DecodeError as error:
            raise _RejectedError("policy_unreadable") from error
        self._must_be_whole(head, document)
        self._manager_time.observe(head.sent_at, "policy", head.version)
        return head, dict(document)

    def _must_be_whole(self, head: PolicyHead, document: Mapping[str, Any]) -> None:
        if head.agent_id != self._agent_id:
            raise _RejectedError("policy_of_another_agent")
        if digest_of(document) != head.digest:
            raise _RejectedError("policy_digest_wrong")

    def _apply(self, head: PolicyHead, document: dict[str, Any]) -> PolicyApplied:
        good, refused = _good_sections(document)
        before = self._kept_sections() if refused else {}
        kept = {name: before[name] for name in refused if name in before} | good
        effective = Effective(validate(PolicySections, kept), _expiry(head), head.version)
        errors = [*refused.values(), *self._enforce(effective)]
        state = PolicyState.PARTIAL if errors else PolicyState.APPLIED
        in_force = AppliedPolicy(head.version, head.digest, state, head.version_proof)
        try:
            self._store(head, kept, state, "; ".join(errors)[:_MAX_ERROR] or None)
        except sqlite3.Error as error:
            _log.exception("policy_not_stored", version=head.version)
            self._enforce(self.effective)
            return self._answer(in_force, PolicyState.FAILED, f"the policy could not be stored: {error}")
        self.effective, self.in_force = effective, in_force
        _log.info("policy_in_force", version=head.version, state=str(state), error=self.error)
        return self._answer(in_force, state, self.error)

    def _kept_sections(self) -> dict[str, Any]:
        """Return the sections of the policy in force as they are stored; none if they cannot be read."""
        try:
            row = self._database.connection.execute("SELECT sections FROM policy").fetchone()
            return {} if row is None else dict(json.loads(row[0]))
        except (sqlite3.Error, ValueError, TypeError, RecursionError):
            _log.exception("policy_kept_unreadable", advice="a section that is refused gets its defaults")
            return {}

    def _store(self, head: PolicyHead, kept: dict[str, Any], state: PolicyState, error: str | None) -> None:
        root = self._trusted.root if self._trusted is not None else ""
        row = (self._agent_id, root, head.body(), json.dumps(kept), str(state), error)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO policy VALUES (1, ?, ?, ?, ?, ?, ?)", row)
        self._owner, self.error = (self._agent_id, root), error

    def _load(self) -> None:
        row = self._database.connection.execute(
            "SELECT agent_id, sign_key, document, sections, state, error FROM policy"
        ).fetchone()
        if row is None:
            self._enforce(self.effective)
            return
        try:
            head = decode(PolicyHead, row[2], POLICY.limit)
            in_force = AppliedPolicy(head.version, head.digest, PolicyState(row[4]), head.version_proof)
            self.effective = Effective(validate(PolicySections, json.loads(row[3])), _expiry(head), head.version)
        except (ValueError, TypeError, RecursionError):
            _log.exception("policy_kept_unreadable", advice="the guard waits for the manager's policy")
        else:
            self._owner, self.error, self.in_force = (row[0], row[1]), row[5], in_force
        self._enforce(self.effective)

    def _answer(self, policy: AppliedPolicy, state: PolicyState, error: str | None) -> PolicyApplied:
        return PolicyApplied(
            version=policy.version,
            digest=policy.digest,
            state=state,
            error=error and error[:_MAX_ERROR],
            sign_key=None if self._trusted is None else self._trusted.current,
            sent_at=utc(self._clock.wall()),
        )


def _must_be_newer(head: PolicyHead, current: AppliedPolicy | None) -> None:
    if current is not None and head.version <= current.version:
        raise _RejectedError("policy_outdated")


def _good_sections(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the valid sections as received, and the errors of the others by section name."""
    good: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name in SECTIONS:
        if name not in document:
            continue
        try:
            validate(PolicySections, {name: document[name]})
        except DecodeError as error:
            refused[name] = str(error)
        else:
            good[name] = document[name]
    return good, refused


def _expiry(head: PolicyHead) -> float | None:
    return None if head.expires_at is None else head.expires_at.timestamp()
