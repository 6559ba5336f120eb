"""Issuers of managed requests: whose policy and blocklist this host accepts, and which numbers are used up."""

import json
from typing import Any, Literal

from fence import request_verification
from fence.config import Config
from fence.manifest import Manifest
from fence.successions import Successions, to_base64url

Source = Literal["policy", "blocklist"]
SOURCES: tuple[Source, ...] = ("policy", "blocklist")

_KINDS = ("agents", "organizations")
_ORGANIZATION_READ = "policy_organization_read"


class Issuers:
    """Verifies managed requests for this host's agent and organization, and refuses older ones.

    Args:
        config: the trusted keys, and the names that root has set.
        manifest: stores the names that signed messages gave, and the numbers.
    """

    def __init__(self, config: Config, manifest: Manifest) -> None:
        self._config = config
        self._manifest = manifest
        self.successions = Successions(config.sign_keys, manifest)

    def number(self, source: Source) -> int:
        """Return the version of the last applied policy, or the sequence of the last applied blocklist.

        It is 0 once this host is another agent or in another organization, or fence.conf has the signer's key no more.
        """
        key, addressee, agent = self._issuer(source)
        pairs = [(agent, self._named("agents"))]
        if source == "blocklist":
            pairs.append((addressee, self.organization))
        other = any(before and now and before != now for before, now in pairs)
        if other or (key and not self._is_trusted(key)):
            return 0
        return int(self._manifest.state(f"{source}_number") or 0)

    @property
    def organization(self) -> str:
        """The organization whose blocklist is accepted; empty until fence.conf or a signed message names it."""
        return self._named("organizations")

    def _named(self, kind: str) -> str:
        """Return this host's agent or organization: as configured, else as a signed message named it, else empty.

        A name that a manager has given counts as long as fence.conf has its key.
        """
        configured = self._config.agent_id if kind == "agents" else self._config.organization_id
        if configured:
            return configured
        key = self._manifest.state(f"{kind}_key") or self._issuer("policy" if kind == "agents" else "blocklist")[0]
        return (self._manifest.state(f"{kind}_id") or "") if not key or self._is_trusted(key) else ""

    def _is_trusted(self, key: str) -> bool:
        return self.successions.is_trusted(bytes.fromhex(key))

    def _issuer(self, source: Source) -> tuple[str, str, str]:
        """Return signer's key, addressee and agent of the last applied message; empty where they are not known."""
        words = (self._manifest.state(f"{source}_issuer") or "||").split("|")
        return words[0], words[1], words[2]

    def follow(self, request: dict[str, Any], wall: float) -> dict[str, Any]:
        """Follow the rotations of the signing key in a request; `wall` is in seconds since 1970.

        Raises:
            request_verification.UntrustedRequest: they do not continue a key of fence.conf.
            ManifestError: they could not be kept.
        """
        followed = self.successions.follow(request["successions"], self._latest(wall))
        return {"outcome": "followed" if followed else "known"}

    @property
    def sign_keys(self) -> list[str]:
        """The newest signing keys, base64url."""
        return [to_base64url(key) for key in self.successions.current]

    def _latest(self, wall: float) -> float:
        """Return the wall clock, not before the time that the last run of the fence has written."""
        return max(wall, float(self._manifest.state("written_wall") or 0.0))

    def verify(self, topic: str, payload: bytes, wall: float) -> request_verification.ManagedRequest:
        """Verify and parse a message; where fence.conf names no agent or organization, the first message decides.

        Its key becomes the first of its chain, so that a rotation of the manager's key leaves names and numbers.

        Args:
            topic: the topic below the root.
            payload: the message, byte for byte.
            wall: the wall clock, by which signing keys end, seconds since 1970.

        Raises:
            request_verification.UntrustedRequest: the message is not for this host or not signed by the manager.
        """
        kind, _, rest = topic.partition("/")
        named = rest.partition("/")[0]
        known = {name: self._named(name) for name in _KINDS}
        wanted = {name: value or (named if name == kind else "") for name, value in known.items()}
        if known.get(kind) and named != known[kind]:
            setting = "agent_id" if kind == "agents" else "organization_id"
            raise request_verification.UntrustedRequest(
                "the topic is not this agent's policy nor its organization's blocklist: it is for"
                f" {named[:64]!r} and this host is {known[kind]!r}; after a new enrollment run"
                f" `panguard guard install` again, or set {setting} in fence.conf"
            )
        managed = request_verification.verify(
            topic, payload, self.successions.accepted(self._latest(wall)), wanted["agents"], wanted["organizations"]
        )
        managed.key = self.successions.family(managed.key)
        if not known[kind]:
            self._manifest.change([], [], {f"{kind}_id": named, f"{kind}_key": managed.key.hex()})
        return managed

    def in_force(self, source: Source) -> int:
        """Return the number of the policy or blocklist whose entries are in force; 0 for none.

        A policy whose organization was not read counts as not in force, so that the guard passes it on again.
        """
        unread = (
            source == "policy" and not self._config.organization_id and not self._manifest.state(_ORGANIZATION_READ)
        )
        return 0 if unread or self._manifest.state(f"{source}_released") == "true" else self.number(source)

    def organization_of(self, managed: request_verification.ManagedRequest, *, is_newer: bool) -> dict[str, str]:
        """Return the state by which this host follows a policy into its organization, without the former's blocklist.

        Only a policy with a greater version than all before it moves this host; one of an earlier fence, which did not
        read it, counts as such. The former list's exempt networks hold until the new list comes.
        """
        if managed.kind != "policy" or self._config.organization_id:
            return {}
        is_unread = self._manifest.state(_ORGANIZATION_READ) is None
        state = {_ORGANIZATION_READ: "true"}
        if not managed.organization or managed.organization == self.organization or not (is_newer or is_unread):
            return state
        moved = {"organizations_id": managed.organization, "organizations_key": managed.key.hex()}
        return {**state, **moved, "blocklist_released": "true", "blocklist_refused": "{}", "blocklist_waiting": "[]"}

    def succession(self, managed: request_verification.ManagedRequest, source: Source) -> tuple[bool, dict[str, str]]:
        """Return whether a message is newer than all before it, and the state that its signer and number leave.

        Numbers are counted for each signer, addressee and agent, so that a new enrollment or a new key begins anew,
        and messages of an earlier one are taken again only with a greater number than its last. The list of an
        organization to which this host comes back may be the one it had.

        Raises:
            UntrustedRequest: the message is older than the applied one, or a change that does not follow on it.
        """
        agent = self._named("agents")
        issuer = "|".join((managed.key.hex(), agent if source == "policy" else self.organization, agent))
        current = self._manifest.state(f"{source}_issuer")
        numbers: dict[str, int] = json.loads(self._manifest.state(f"{source}_numbers") or "{}")
        same = current is None or current == issuer or (current.endswith("|") and issuer.startswith(current))
        if same:
            known = int(self._manifest.state(f"{source}_number") or 0)
        else:
            key, _, by_agent = self._issuer(source)
            comes_back = source == "blocklist" and (key, by_agent) == (managed.key.hex(), agent)
            known = numbers.get(issuer, 0) if comes_back else numbers.get(issuer, -1) + 1
        following = same and managed.before == known and self._manifest.state("blocklist_released") != "true"
        if managed.kind == "change" and not following:
            raise request_verification.UntrustedRequest(
                f"the change follows on sequence {managed.before}, the fence has {known}: send the snapshot"
            )
        if managed.number < known:
            raise request_verification.UntrustedRequest(
                f"number {managed.number} is older than {known}, which the fence has: after a new enrollment or with"
                " a new manager run `panguard guard install` again"
            )
        return not same or managed.number > known, {
            f"{source}_issuer": issuer,
            f"{source}_numbers": json.dumps(numbers | {issuer: managed.number}),
        }
