"""The manager's measures: the entries of the last signed policy and blocklist, applied to this host."""

from collections.abc import Iterable
from typing import Any, Literal

from fence import request_verification
from fence.addresses import Network, parse, written
from fence.config import Config
from fence.enforcement import Enforcement
from fence.manifest import Manifest, ManifestEntry
from fence.never_block import NeverBlockRules

Source = Literal["policy", "blocklist"]


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
        self._manager_offset: float | None = None
        self.refused: dict[Source, dict[str, str]] = {"policy": {}, "blocklist": {}}
        for source in ("policy", "blocklist"):
            kept = manifest.state(f"{source}_exempt")
            self._set_exempt(source, [parse(text) for text in kept.split("\n")] if kept else [])

    def number(self, source: Source) -> int:
        """Return the version of the last applied policy, or the sequence of the last applied blocklist."""
        return int(self._manifest.state(f"{source}_number") or 0)

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
        released = [entry for entry in self._manifest.entries.values() if entry.origin in ("policy", "blocklist")]
        self._manifest.change(
            [], [entry.id for entry in released], {"policy_released": "true", "blocklist_released": "true"}
        )
        self._enforcement.enforce(entry.network for entry in released)
        for refused in self.refused.values():
            refused.clear()
        return released

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
        known = self.number(source)
        following = managed.before == known and self._manifest.state("blocklist_released") != "true"
        if managed.kind == "change" and not following:
            raise request_verification.UntrustedRequest(
                f"the change follows on sequence {managed.before}, the fence has {known}: send the snapshot"
            )
        if managed.number < known:
            raise request_verification.UntrustedRequest(
                f"number {managed.number} is older than {known}, which the fence has"
            )
        self._learn_manager_time(managed.sent_at, hint, now)
        state = {f"{source}_number": str(managed.number), f"{source}_released": "false"}
        if managed.exempt is not None:
            state[f"{source}_exempt"] = "\n".join(map(str, managed.exempt))
            self._set_exempt(source, managed.exempt)
        added, gone = self._differences(managed, source, now, wall)
        self._manifest.change(added, [entry.id for entry in gone], state)
        if managed.exempt is not None:
            self._enforcement.set_never()
            exempt = [entry for entry in self._manifest.entries.values() if self._never.exempts(entry.network)]
            self._enforcement.lift(exempt)
        self._enforcement.enforce(entry.network for entry in (*added, *gone))

    def _set_exempt(self, source: str, networks: Iterable[Network]) -> None:
        (self._never.set_allowed if source == "policy" else self._never.set_fleet)(networks)

    def _learn_manager_time(self, sent_at: float | None, hint: Any, now: float) -> None:
        for moment in (sent_at, hint):
            if isinstance(moment, int | float) and not isinstance(moment, bool) and abs(moment) < 2**40:
                self._manager_offset = max(float(moment) - now, self._manager_offset or float("-inf"))

    def _differences(
        self, managed: request_verification.ManagedRequest, source: Source, now: float, wall: float
    ) -> tuple[list[ManifestEntry], list[ManifestEntry]]:
        """Return the entries to set and the entries to remove; record the refused ones."""
        refused = self.refused[source]
        if managed.kind != "change":
            refused.clear()
        refused.update(dict.fromkeys(managed.bad, "it is no address"))
        elapsed = 0.0
        if managed.sent_at is not None and self._manager_offset is not None:
            elapsed = max(0.0, now + self._manager_offset - managed.sent_at)
        before = {entry.id: entry for entry in self._manifest.entries.values() if entry.origin == source}
        added: dict[str, ManifestEntry] = {}
        for asked in managed.entries:
            value = written(asked.network)
            reason = self._never.refusal(asked.network, "block", source)
            if reason is not None:
                refused[value] = reason
                continue
            refused.pop(value, None)
            longest = self._config.longest
            left = longest if asked.left is None else min(asked.left - elapsed, longest)
            identifier = f"{source}:{asked.network}"
            if left > 0:
                since = before[identifier].added_at if identifier in before else wall
                added[identifier] = ManifestEntry(
                    identifier, "block", asked.network, source, asked.reason, None, since, now + left
                )
        if managed.kind != "change":
            return list(added.values()), [entry for name, entry in before.items() if name not in added]
        names = {f"{source}:{network}" for network in managed.removed} - set(added)
        for network in managed.removed:
            refused.pop(written(network), None)
        return list(added.values()), [before[name] for name in names if name in before]
