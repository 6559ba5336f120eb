"""The manager's measures: the entries of the last signed policy and blocklist, applied to this host."""

import json
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from fence import request_verification
from fence.addresses import Network, parse, written
from fence.config import Config
from fence.enforcement import Enforcement
from fence.issuers import SOURCES, Issuers, Source
from fence.manifest import MANAGER_OFFSET, Manifest, ManifestEntry, ManifestError
from fence.never_block import EXEMPT_REASONS, NeverBlockRules
from fence.nft import KernelError
from fence.waiting_entries import WaitingEntries, WaitingEntry

_CUT = "managed_cut"
_FRESH = 1.0
"""Seconds within which logins and sessions were read before a waiting entry is set."""


_RULES = "managed_rules"

RELEASED = {
    f"{source}_{name}": value
    for source in SOURCES
    for name, value in (("released", "true"), ("refused", "{}"), ("waiting", "[]"))
}
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
        self.issuers = Issuers(config, manifest)
        self._waiting = WaitingEntries(manifest)
        self._enforcement = enforcement
        self._never = never
        for source in SOURCES:
            kept = manifest.state(f"{source}_exempt")
            self._set_exempt(source, [parse(text) for text in kept.split("\n")] if kept else [])
        self._follow_configuration()

    def _follow_configuration(self) -> None:
        """Ask for the lists anew if root has changed the rules of fence.conf by which some entries were refused."""
        config = self._config
        rules = json.dumps([sorted(map(str, config.never)), config.private_targets, config.longest])
        before = self._manifest.state(_RULES)
        if before != rules:
            refusing = [source for source in SOURCES if before is not None and self.refused(source)]
            self._manifest.withdraw([], {_RULES: rules, **{f"{source}_released": "true" for source in refusing}})

    def refused(self, source: Source) -> dict[str, str]:
        """Return the values of the last message that are not in force on this host, with the reasons, oldest first."""
        kept: dict[str, str] = json.loads(self._manifest.state(f"{source}_refused") or "{}")
        return kept

    def release(self) -> list[ManifestEntry]:
        """Lift all managed measures for mode learning, and return them.

        The numbers are kept: an older policy or blocklist is refused as before, and the same one sets them again.
        """
        released = [entry for entry in self._manifest.entries.values() if entry.origin in SOURCES]
        self._enforcement.lift(released, RELEASED)
        return released

    @property
    def waits(self) -> int:
        """The number of entries that are set once no never-rule refuses them any more."""
        return sum(self._waiting.count(source) for source in SOURCES)

    def give_up(self, entries: Iterable[ManifestEntry], reason: str, *, for_now: bool = False) -> None:
        """Record that managed measures are not in force any more, though the manager's list has them.

        Args:
            entries: the measures.
            reason: for operators.
            for_now: a never-rule forbids them: they are set again once none does.
        """
        offset = self._manifest.state(MANAGER_OFFSET)
        for source in SOURCES:
            given_up = [entry for entry in entries if entry.origin == source]
            if not given_up:
                continue
            gone = {written(entry.network): reason for entry in given_up}
            waiting = self._waiting.of(source)
            for entry in given_up:
                waiting.pop(entry.network, None)
                if for_now and offset is not None:
                    ends_at = entry.ends_at + float(offset)
                    waiting[entry.network] = WaitingEntry(entry.network, ends_at, entry.reason)
            state = {f"{source}_refused": json.dumps(self.refused(source) | gone)}
            self._manifest.withdraw([], state | self._waiting.state(source, waiting))

    def try_again(self, now: float, wall: float) -> list[ManifestEntry]:
        """Set the waiting entries that no never-rule refuses any more, and return them; forget those that have ended.

        Where the manifest or the kernel fails, the fence's answers say so, and the next call tries again.

        Args:
            now: this boot's clock.
            wall: seconds since 1970.
        """
        offset, set_again = self._manifest.state(MANAGER_OFFSET), []
        if offset is None or not self.waits or self._enforcement.missing() is not None:
            return []
        for source in SOURCES:
            waiting, refused = self._waiting.of(source), self.refused(source)
            added: list[ManifestEntry] = []
            before = len(waiting), dict(refused)
            for entry in list(waiting.values()):
                value = written(entry.network)
                reason = self._refusal_now(entry.network, source)
                left = float("inf") if entry.ends_at is None else entry.ends_at - float(offset) - now
                if left > 0 and reason is not None:
                    refused[value] = reason
                    continue
                del waiting[entry.network]
                refused.pop(value, None)
                if left > 0:
                    added.append(self._entry(source, entry.network, entry.reason, wall, now + left))
            if before == (len(waiting), refused):
                continue
            state = {f"{source}_refused": json.dumps(refused)} | self._waiting.state(source, waiting)
            cut = {each.id for each in added if each.ends_at - now > self._config.longest}
            added = [each._replace(ends_at=min(each.ends_at, now + self._config.longest)) for each in added]
            with suppress(ManifestError, KernelError):
                self._manifest.change(added, [], state | ({_CUT: json.dumps(sorted(self._cut() | cut))} if cut else {}))
                set_again += added
                self._enforcement.enforce(each.network for each in added)
        return set_again

    def _refusal_now(self, network: Network, source: Source) -> str | None:
        """Return the reason why a network is refused; a session that began a moment ago counts."""
        reason = self._never.refusal(network, "block", source)
        if reason is None:
            self._never.refresh(within=_FRESH)
            reason = self._never.refusal(network, "block", source)
        return reason

    @staticmethod
    def _entry(source: Source, network: Network, reason: str, since: float, ends_at: float) -> ManifestEntry:
        return ManifestEntry(f"{source}:{network}", "block", network, source, reason, None, since, ends_at)

    def _cut(self) -> set[str]:
        return {each for each in json.loads(self._manifest.state(_CUT) or "[]") if each in self._manifest.entries}

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
        is_newer, state = self.issuers.succession(managed, source)
        state |= self.issuers.organization_of(managed, is_newer=is_newer)
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
        self._enforcement.enforce(entry.network for entry in (*added, *gone))
        if managed.exempt is not None:
            self.try_again(now, wall)
            self._want_again()

    def _spare(self) -> None:
        """Lift the measures that the signed lists exempt; the number stays in force, so each becomes a reason."""
        spared: dict[str, list[ManifestEntry]] = {}
        for entry in self._manifest.entries.values():
            reason = self._never.exempt_reason(entry.network)
            if reason is not None:
                spared.setdefault(reason, []).append(entry)
        for reason, entries in spared.items():
            self.give_up(entries, reason, for_now=True)
        self._enforcement.lift([entry for entries in spared.values() for entry in entries])

    def _want_again(self) -> None:
        """Ask for a list anew that has an entry which the signed lists exempted before and do not exempt any more."""
        for source in SOURCES:
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
        waiting = self._waiting.of(source) if managed.kind == "change" else {}
        cut = self._cut()
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
            waiting.pop(asked.network, None)
            reason = self._never.refusal(asked.network, "block", source)
            left = float("inf") if asked.left is None else asked.left - elapsed
            if reason is not None or left <= 0:
                refused[value] = reason or "it had ended when it arrived, by the manager's clock"
                if left > 0 and offset is not None and not self._never.is_lasting(asked.network):
                    ends_at = None if asked.left is None else now + float(offset) + left
                    waiting[asked.network] = WaitingEntry(asked.network, ends_at, asked.reason)
                continue
            identifier = f"{source}:{asked.network}"
            (cut.add if left > self._config.longest else cut.discard)(identifier)
            since = before[identifier].added_at if identifier in before else wall
            ends = now + min(left, self._config.longest)
            added[identifier] = self._entry(source, asked.network, asked.reason, since, ends)
        names = before.keys() - added.keys()
        if managed.kind == "change":
            names &= {f"{source}:{each.network}" for each in managed.entries} | {
                f"{source}:{network}" for network in managed.removed
            }
            for network in managed.removed:
                if f"{source}:{network}" not in added:
                    refused.pop(written(network), None)
                    waiting.pop(network, None)
        state = {f"{source}_refused": json.dumps(refused), _CUT: json.dumps(sorted(cut))}
        state |= self._waiting.state(source, waiting)
        return list(added.values()), [before[name] for name in names], state
