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
_CUT = "managed_cut"

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

        It is 0 once fence.conf names another agent or organization, or has the signer's key no more.
        """
        key, name, agent = self._issuer(source)
        known = {"agents": agent, "organizations": name}
        names = (("agents", self._config.agent_id), ("organizations", self._config.organization_id))
        other = any(
            given and known[kind] and given != known[kind]
            for kind, given in names
            if kind == "agents" or source == "blocklist"
        )
        if other or (key and key not in {each.hex() for each in self._config.sign_keys}):
            return 0
        return int(self._manifest.state(f"{source}_number") or 0)

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
        configured = {"agents": self._config.agent_id, "organizations": self._config.organization_id}
        known = {name: value or self._manifest.state(f"{name}_id") for name, value in configured.items()}
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
            self._manifest.change([], [], {f"{kind}_id": named})
        return managed

    def in_force(self, source: Source) -> int:
        """Return the number of the policy or blocklist whose entries are in force; 0 for none."""
        return self.number(source) if self._manifest.state(f"{source}_released") != "true" else 0

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
        state = self._succession(managed, source)
        offset = self._learn_manager_time(managed, source, hint, now)
        state |= offset | {f"{source}_number": str(managed.number), f"{source}_released": "false"}
        if managed.exempt is not None:
            state[f"{source}_exempt"] = "\n".join(map(str, managed.exempt))
            self._set_exempt(source, managed.exempt)
        added, gone, beside = self._differences(managed, source, now, wall, offset.get(MANAGER_OFFSET))
        self._manifest.change(added, [entry.id for entry in gone], state | beside)
        if managed.exempt is not None:
            self._enforcement.set_never()
            self._spare()
            self._want_again()
        self._enforcement.enforce(entry.network for entry in (*added, *gone))

    def _succession(self, managed: request_verification.ManagedRequest, source: Source) -> dict[str, str]:
        """Return the state that a message's signer and number leave, after a check that it is no step back.

        Numbers are counted for each signer, addressee and agent, so that a new enrollment or a new key begins anew,
        and messages of an earlier one are taken again only with a greater number than its last.

        Raises:
            UntrustedRequest: the message is older than the applied one, or a change that does not follow on it.
        """
        agent = self._config.agent_id or self._manifest.state("agents_id") or ""
        organization = self._config.organization_id or self._manifest.state("organizations_id") or ""
        issuer = "|".join((managed.key.hex(), agent if source == "policy" else organization, agent))
        current = self._manifest.state(f"{source}_issuer")
        numbers: dict[str, int] = json.loads(self._manifest.state(f"{source}_numbers") or "{}")
        same = current is None or current == issuer or (current.endswith("|") and issuer.startswith(current))
        known = int(self._manifest.state(f"{source}_number") or 0) if same else numbers.get(issuer, -1) + 1
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
        return {
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
