"""The manager's measures: the entries of the last signed policy and blocklist, applied to this host."""

import json
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any, Literal

from fence import request_verification
from fence.addresses import Network, parse, written
from fence.config import Config
from fence.enforcement import Enforcement
from fence.manifest import MANAGER_OFFSET, Manifest, ManifestEntry
from fence.never_block import EXEMPT_REASONS, NeverBlockRules

Source = Literal["policy", "blocklist"]
_SOURCES: tuple[Source, ...] = ("policy", "blocklist")

_KINDS = ("agents", "organizations")
_CUT = "managed_cut"
_ORGANIZATION_READ = "policy_organization_read"

RELEASED = {"policy_released": "true", "blocklist_released": "true", "policy_refused": "{}", "blocklist_refused": "{}"}
"""The state after which no policy or blocklist is in force; the numbers stay."""


class ManagedMeasures:
    """Applies verified policies and blocklists.

    Args:
        config: the longest time of a measure.
        manifest: stores version and sequence, exempt networks and entries.
        enforcement: sets the entries in the kernel.
        never: refuses targets.
    """

    def __init__(self, config: Config, manifest: Manifest, enforcement: Enforcement, never: NeverBlockRules) -> None:
        self._config = config
        self._manifest = manifest
        self._enforcement = enforcement
        self._never = never
        for source in _SOURCES:
            kept = manifest.state(f"{source}_exempt")
            self._set_exempt(source, [parse(text) for text in kept.split("\n")] if kept else [])

    def refused(self, source: Source) -> dict[str, str]:
        """Return the values of the last message that are not in force on this host, with the reasons, oldest first."""
        kept: dict[str, str] = json.loads(self._manifest.state(f"{source}_refused") or "{}")
        return kept

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
        return key in {each.hex() for each in self._config.sign_keys}

    def _issuer(self, source: Source) -> tuple[str, str, str]:
        """Return signer's key, addressee and agent of the last applied message; empty where they are not known."""
        words = (self._manifest.state(f"{source}_issuer") or "||").split("|")
        return words[0], words[1], words[2]

    def verify(self, topic: str, payload: bytes) -> request_verification.ManagedRequest:
        """Verify and parse a message; where fence.conf names no agent or organization, the first message decides.

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
            topic, payload, self._config.sign_keys, wanted["agents"], wanted["organizations"]
        )
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

    def release(self) -> list[ManifestEntry]:
        """Lift all managed measures for mode learning, and return them.

        The numbers are kept: an older policy or blocklist is refused as before, and the same one sets them again.
        """
        released = [entry for entry in self._manifest.entries.values() if entry.origin in _SOURCES]
        self._enforcement.lift(released, RELEASED)
        return released

    def give_up(self, entries: Iterable[ManifestEntry], reason: str) -> None:
        """Record that managed measures are not in force any more, though the manager's list has them."""
        for source in _SOURCES:
            gone = {written(entry.network): reason for entry in entries if entry.origin == source}
            if gone:
                self._manifest.withdraw([], {f"{source}_refused": json.dumps(self.refused(source) | gone)})

    def ended(self, entries: Iterable[ManifestEntry]) -> None:
        """Record the ended measures that this host's longest time ended before the manager's end."""
        cut = set(json.loads(self._manifest.state(_CUT) or "[]"))
        self.give_up(
            [entry for entry in entries if entry.id in cut],
            f"it ended here after the longest time of a measure, {self._config.longest / 86_400:.0f} days",
        )

    def take(self, managed: request_verification.ManagedRequest, hint: Any, now: float, wall: float) -> None:
        """Set what a verified message says.

        Args:
            managed: the message.
            hint: the guard's estimate of the manager's time, seconds since 1970; it can only shorten measures.
            now: this boot's clock.
            wall: seconds since 1970.

        Raises:
            UntrustedRequest: the request is older than the stored one, or a change that does not follow on it.
            ManifestError, KernelError: the entries could not be stored or set.
        """
        source: Source = "policy" if managed.kind == "policy" else "blocklist"
        is_newer, state = self._succession(managed, source)
        state |= self._organization_of(managed, is_newer=is_newer)
        offset = self._learn_manager_time(managed, source, hint, now)
        state |= offset | {f"{source}_number": str(managed.number), f"{source}_released": "false"}
        if managed.exempt is not None:
            state[f"{source}_exempt"] = "\n".join(map(str, managed.exempt))
            self._set_exempt(source, managed.exempt)
        added, gone, beside = self._differences(managed, source, now, wall, offset.get(MANAGER_OFFSET))
        if "organizations_id" in state:
            gone += [entry for entry in self._manifest.entries.values() if entry.origin == "blocklist"]
        self._manifest.change(added, [entry.id for entry in gone], state | beside)
        if managed.exempt is not None:
            self._enforcement.set_never()
            self._spare()
            self._want_again()
        self._enforcement.enforce(entry.network for entry in (*added, *gone))

    def _organization_of(self, managed: request_verification.ManagedRequest, *, is_newer: bool) -> dict[str, str]:
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
        return {**state, **moved, "blocklist_released": "true", "blocklist_refused": "{}"}

    def _succession(self, managed: request_verification.ManagedRequest, source: Source) -> tuple[bool, dict[str, str]]:
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

    def _spare(self) -> None:
        """Lift the measures that the signed lists exempt; the number stays in force, so each becomes a reason."""
        spared: dict[str, list[ManifestEntry]] = {}
        for entry in self._manifest.entries.values():
            reason = self._never.exempt_reason(entry.network)
            if reason is not None:
                spared.setdefault(reason, []).append(entry)
        for reason, entries in spared.items():
            self.give_up(entries, reason)
        self._enforcement.lift([entry for entries in spared.values() for entry in entries])

    def _want_again(self) -> None:
        """Ask for a list anew that has an entry which the signed lists exempted before and do not exempt any more."""
        for source in _SOURCES:
            exempted = [value for value, reason in self.refused(source).items() if reason in EXEMPT_REASONS]
            if any(self._never.exempt_reason(ip_network(value)) is None for value in exempted):
                self._manifest.withdraw([], {f"{source}_released": "true"})

    def _set_exempt(self, source: str, networks: Iterable[Network]) -> None:
        (self._never.set_allowed if source == "policy" else self._never.set_fleet)(networks)

    def _learn_manager_time(
        self, managed: request_verification.ManagedRequest, source: Source, hint: Any, now: float
    ) -> dict[str, str]:
        """Return the state that holds the manager's time: the largest difference to this boot's clock.

        A greater number that was signed at an earlier time shows that the manager's clock was set back.
        """
        sent_at, kept = managed.sent_at, self._manifest.state(MANAGER_OFFSET)
        offset = float(kept) if kept else float("-inf")
        state: dict[str, str] = {}
        if sent_at is not None:
            last, _, number = (self._manifest.state(f"{source}_sent") or "-inf 0").partition(" ")
            if managed.number > int(number) and sent_at < float(last):
                offset = float("-inf")
            state[f"{source}_sent"] = f"{sent_at} {managed.number}"
        for moment in (sent_at, hint):
            if isinstance(moment, int | float) and not isinstance(moment, bool) and abs(moment) < 2**40:
                offset = max(float(moment) - now, offset)
        return state if offset == float("-inf") else {**state, MANAGER_OFFSET: str(offset)}

    def _differences(
        self,
        managed: request_verification.ManagedRequest,
        source: Source,
        now: float,
        wall: float,
        offset: str | None,
    ) -> tuple[list[ManifestEntry], list[ManifestEntry], dict[str, str]]:
        """Return the entries to set and to remove, and the state that holds the refused and the shortened ones."""
        refused = self.refused(source) if managed.kind == "change" else {}
        refused |= managed.refused
        cut = {each for each in json.loads(self._manifest.state(_CUT) or "[]") if each in self._manifest.entries}
        elapsed = 0.0
        if managed.sent_at is not None and offset is not None:
            elapsed = max(0.0, now + float(offset) - managed.sent_at)
        before = {entry.id: entry for entry in self._manifest.entries.values() if entry.origin == source}
        added: dict[str, ManifestEntry] = {}
        if managed.entries:
            self._never.refresh(within=0.0)
        for asked in managed.entries:
            value = written(asked.network)
            refused.pop(value, None)
            reason = self._never.refusal(asked.network, "block", source)
            left = float("inf") if asked.left is None else asked.left - elapsed
            if reason is not None or left <= 0:
                refused[value] = reason or "it had ended when it arrived, by the manager's clock"
                continue
            identifier = f"{source}:{asked.network}"
            (cut.add if left > self._config.longest else cut.discard)(identifier)
            since = before[identifier].added_at if identifier in before else wall
            ends_at = now + min(left, self._config.longest)
            added[identifier] = ManifestEntry(
                identifier, "block", asked.network, source, asked.reason, None, since, ends_at
            )
        names = before.keys() - added.keys()
        if managed.kind == "change":
            names &= {f"{source}:{each.network}" for each in managed.entries} | {
                f"{source}:{network}" for network in managed.removed
            }
            for network in managed.removed:
                if f"{source}:{network}" not in added:
                    refused.pop(written(network), None)
        state = {f"{source}_refused": json.dumps(refused), _CUT: json.dumps(sorted(cut))}
        return list(added.values()), [before[name] for name in names], state
