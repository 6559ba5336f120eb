"""The fence's request handlers: each request is checked, carried out, and answered with the actual result."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fence import request_verification
from fence.addresses import Network, covers, parse, single, written
from fence.config import Config
from fence.decision_caps import DecisionCaps
from fence.decision_request import Refused, read_decision
from fence.enforcement import Enforcement
from fence.host import Host
from fence.managed_measures import RELEASED, ManagedMeasures
from fence.manifest import Manifest, ManifestEntry, ManifestError, Measure, Origin
from fence.measure_list import listed, own_blocks_digest
from fence.never_block import CONTACTED, NeverBlockRules
from fence.nft import Kernel, KernelError
from fence.trial import Trial

_STILL_THROUGH_AFTER = 30.0
_REASONS = 5
_PANIC = "panic"
_LIKELY = (
    "the kernel has it, and it still gets through: a proxy, a flowtable or an eBPF program may carry its packets past"
)


class Peer(NamedTuple):
    """A peer of the socket: its user id and process id from the kernel (SO_PEERCRED)."""

    uid: int
    pid: int = 0


class Clocks(NamedTuple):
    """This boot's clock and the wall clock, in seconds."""

    boot: Callable[[], float]
    wall: Callable[[], float]


Answer = dict[str, Any]
Request = dict[str, Any]


class Fence:
    """Handles requests: checks them against the rules and caps, and changes measures.

    Args:
        config: the settings by root.
        kernel: the kernel's table.
        manifest: the measures, loaded.
        host: facts about the host.
        clocks: the clocks.
        boot_id: the id of the host's boot.
        log: called with each event as a dict, for the journal.
    """

    def __init__(
        self,
        config: Config,
        *,
        kernel: Kernel,
        manifest: Manifest,
        host: Host,
        clocks: Clocks,
        boot_id: str,
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self._config = config
        self._kernel = kernel
        self._manifest = manifest
        self._host = host
        self._clocks = clocks
        self._log = log
        self._never = NeverBlockRules(config, host, clocks.boot, clocks.wall)
        self._caps = DecisionCaps(config, kernel, manifest, boot_id)
        self.enforcement = Enforcement(manifest, kernel, self._never, clocks.boot, log)
        self._managed = ManagedMeasures(config, manifest, self.enforcement, self._never)
        self._trial = Trial(manifest, host, boot_id)
        self._ineffective: dict[Network, str] = {}

    @property
    def measures(self) -> int:
        """The number of measures in the manifest."""
        return len(self._manifest.entries)

    @property
    def is_needed(self) -> bool:
        """Whether there are measures, or entries that become measures once no never-rule refuses them."""
        return bool(self.measures or self._managed.waits)

    def answer(self, peer: Peer, request: Any) -> Answer:
        """Carry out one request and return its answer; raises nothing for any request."""
        given: Request = request if isinstance(request, dict) else {}
        name = str(given.get("request"))[:40]
        handler = self._handlers(peer, as_guard=given.get("own") is True).get(name, _unknown)
        try:
            answer = {"ok": True, **handler(given)}
        except (Refused, request_verification.UntrustedRequest) as refused:
            answer = {"ok": False, "outcome": getattr(refused, "outcome", "refused"), "reason": str(refused)}
            if getattr(refused, "instead", None) is not None:
                answer["instead"] = refused.instead  # type: ignore[union-attr]
        except (KernelError, ManifestError) as error:
            answer = {"ok": False, "outcome": "failed", "reason": str(error)}
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            answer = {"ok": False, "outcome": "refused", "reason": f"the request cannot be read: {error}"[:200]}
        if name not in {"check", "status", "list", "seen"}:
            self._record(peer, name, given, answer)
        return answer

    def _handlers(self, peer: Peer, *, as_guard: bool) -> dict[str, Callable[[Request], Answer]]:
        handlers: dict[str, Callable[[Request], Answer]] = {
            "status": lambda _request: self.status(),
            "list": self._list,
            "check": lambda _request: self.check(),
            "block": lambda request: self._decide(request, "block", "own"),
            "throttle": lambda request: self._decide(request, "throttle", "own"),
            "managed": self._take_managed,
            "keys": lambda request: self._managed.issuers.follow(request, self._clocks.wall()) | self._enforced(),
            "still_through": self._still_through,
            "lift": lambda request: self._lift(request, {"own"}),
            "release": lambda _request: self._release(),
            "seen": self._seen,
            "trial": self._begin_trial,
        }
        if peer.uid == 0 and not as_guard:
            handlers |= {
                "block": lambda request: self._decide(request, "block", "operator", peer),
                "throttle": lambda request: self._decide(request, "throttle", "operator", peer),
                "lift": lambda request: self._lift(request, {"own", "operator", "policy", "blocklist"}),
                "confirm": lambda _request: self._confirm(peer),
                "panic": lambda _request: self._panic(),
                "resume": lambda _request: self._resume(),
            }
        return handlers

    def _decide(self, request: Request, measure: Measure, origin: Origin, peer: Peer | None = None) -> Answer:
        """Set a measure decided by the guard, within its caps, or by an operator, without caps."""
        self._check_panic()
        network, seconds, port = read_decision(request, origin, self._config.longest)
        if origin == "own":
            seconds = min(seconds, self._caps.longest(port))
        elif peer is not None and measure == "block" and self._is_operators(request, peer, network):
            raise Refused("you are logged in from it")
        self._check_possible(port)
        self._check_target(network, measure, origin)
        known = self._same(network, measure, origin)
        if origin == "own" and measure == "block" and known is None and self._kernel.has_contacted(network):
            raise Refused(CONTACTED, instead=self._weaker(network, measure, origin))
        now = self._clocks.boot()
        if origin == "own" and (known is None or known.port != port):  # a witness of another port proves nothing
            capped = self._caps.refusal(network, port, now)
            if capped is not None:
                raise Refused(capped)
        if known is None:  # the caps come first: a guard cannot have the login records read without end
            self._never.refresh(within=0.0)
            self._check_target(network, measure, origin)
        identifier = known.id if known is not None else f"fen-{os.urandom(6).hex()}"
        text = str(request.get("reason", ""))[:256]
        self.enforcement.put(
            ManifestEntry(identifier, measure, network, origin, text, port, self._clocks.wall(), now + seconds)
        )
        return {"outcome": "taken", "id": identifier, "measure": measure, "value": written(network), "seconds": seconds}

    def _check_target(self, network: Network, measure: Measure, origin: Origin) -> None:
        reason = self._never.refusal(network, measure, origin)
        if reason is not None:
            raise Refused(reason, instead=self._weaker(network, measure, origin))

    def _is_operators(self, request: Request, peer: Peer, network: Network) -> bool:
        """Return whether the asking operator is logged in from a network, as it says or as its process shows."""
        named = request.get("operatorAt")
        for text in named[:16] if isinstance(named, list) else ():
            with suppress(ValueError, TypeError):
                if single(text) in network:
                    return True
        return self._host.operator_is_at(peer.pid, network)

    def _weaker(self, network: Network, measure: Measure, origin: Origin) -> Measure | None:
        """Return `throttle` where only a block is refused."""
        may_be_slowed = measure == "block" and self._never.refusal(network, "throttle", origin) is None
        return "throttle" if may_be_slowed else None

    def _check_panic(self) -> None:
        if self._manifest.state(_PANIC) == "true":
            raise Refused("the fence is stopped by `panic`; `panguard guard resume` lets it go on")

    def _check_possible(self, port: int | None = None) -> None:
        missing = self.enforcement.missing()
        if missing is not None:
            raise Refused(missing, "impossible")
        if port is not None and self._kernel.has_witness(port) and not self._host.listens(port):
            raise Refused(
                f"nothing listens on port {port} in this network namespace: run the fence with the host's network",
                "impossible",
            )

    def _same(self, network: Network, measure: Measure, origin: Origin) -> ManifestEntry | None:
        entries = self._manifest.entries.values()
        return next((e for e in entries if (e.network, e.measure, e.origin) == (network, measure, origin)), None)

    def _take_managed(self, request: Request) -> Answer:
        """Verify and apply a signed policy, blocklist snapshot or blocklist change."""
        self._check_panic()
        self._check_possible()
        topic, payload, wall = str(request["topic"]), str(request["payload"]).encode(), self._clocks.wall()
        managed = self._managed.issuers.verify(topic, payload, wall)
        self._managed.take(managed, request.get("managerTime"), self._clocks.boot(), wall)
        kept = {entry.network for entry in self._manifest.entries.values()}
        self._ineffective = {network: why for network, why in self._ineffective.items() if network in kept}
        return {"outcome": "taken", **self._enforced()}

    def _lift(self, request: Request, origins: set[str]) -> Answer:
        """Remove measures by id or by value."""
        if "id" in request:
            found = [entry for entry in self._manifest.entries.values() if entry.id == request["id"]]
        else:
            network = parse(request["value"])
            found = [entry for entry in self._manifest.entries.values() if entry.network == network]
        lifted = [entry for entry in found if entry.origin in origins]
        if not lifted:
            raise Refused("the manager or an operator set it: lift it as root" if found else "nothing is set there")
        self.enforcement.lift(lifted)
        self._forget_ineffective(lifted)
        self._managed.give_up(lifted, "root lifted it on this host")
        ids = [entry.id for entry in lifted]
        return {"outcome": "lifted", "ids": ids, **self._still_covered(lifted), **self._owed()}

    def _still_covered(self, lifted: list[ManifestEntry]) -> Answer:
        """Name the measures that still hold for an address that was lifted."""
        over = [
            f"{written(entry.network)} ({entry.measure}, {entry.origin})"
            for entry in self._manifest.entries.values()
            if any(covers(entry.network, each.network) for each in lifted)
        ]
        return {"covered": over[:_REASONS], "reason": f"still covered by {', '.join(over[:_REASONS])}"} if over else {}

    def _owed(self) -> Answer:
        """Say if what was lifted could not be written, and so would be back after a restart of the fence."""
        fault = self._manifest.fault
        return {"unwritten": f"{fault}; until it can, a restart of the fence brings it back"} if fault else {}

    def _release(self) -> Answer:
        """Lift whatever the guard and the manager have set, for mode learning; an operator's measures stay."""
        own = [entry for entry in self._manifest.entries.values() if entry.origin == "own"]
        self.enforcement.lift(own)
        released = [*own, *self._managed.release()]
        self._forget_ineffective(released)
        return {"outcome": "lifted", "count": len(released), **self._owed()}

    def _seen(self, request: Request) -> Answer:
        """Say whether this host sent payload to an address, from a port or any protected port, within ten minutes."""
        address, port = single(request["value"]), request.get("port")
        if self.enforcement.missing() is not None:
            return {"seen": False}
        ports = [each for each in self._config.protected_ports if port in {None, each}]
        return {"seen": any(self._kernel.has_seen(each, address) for each in ports)}

    def _begin_trial(self, request: Request) -> Answer:
        """Begin the trial of mode protection; unless it is confirmed in time, `check` releases all measures."""
        self._trial.begin(self._clocks.boot(), float(request["seconds"]))
        return {"outcome": "noted"}

    def _confirm(self, peer: Peer) -> Answer:
        """Confirm the guard's trial of mode protection, from a session that was opened after its beginning."""
        reason = self._trial.confirm(peer.pid, self._clocks.boot())
        if reason is not None:
            raise Refused(reason)
        return {"outcome": "confirmed"}

    def _panic(self) -> Answer:
        """Remove every measure and refuse new ones until `resume`."""
        count = self.measures
        self._kernel.remove()
        self._manifest.withdraw(list(self._manifest.entries), {_PANIC: "true", **RELEASED})
        self._ineffective.clear()
        self.enforcement.build()
        return {"outcome": "lifted", "count": count, **self._owed()}

    def _resume(self) -> Answer:
        self._manifest.change([], [], {_PANIC: "false"})
        return {"outcome": "resumed"}

    def _still_through(self, request: Request) -> Answer:
        """Record the guard's statement that a blocked address still reaches the service."""
        network = parse(request["value"])
        over = [
            entry
            for entry in self._manifest.entries.values()
            if entry.measure == "block" and covers(entry.network, network)
        ]
        if not over or self._clocks.wall() - min(entry.added_at for entry in over) < _STILL_THROUGH_AFTER:
            return {"outcome": "noted"}
        for entry in over:
            self._ineffective[entry.network] = _LIKELY
        return {"outcome": "ineffective", "reason": _LIKELY}

    def check(self) -> Answer:
        """Check the table, repair it, and return the enforced measures."""
        ended = self.enforcement.expire()
        self._forget_ineffective(ended)
        self._managed.ended(ended)
        if self._trial.end_if_over(self._clocks.boot()):
            self._log({"event": "trial_ended", **self._release()})
        self.enforcement.check()
        spared = self.enforcement.to_spare()
        for entry, reason in spared:
            self._managed.give_up([entry], reason, for_now=True)
            self._log({"event": "measure_spared", "value": written(entry.network), "reason": reason})
        if spared:
            self._forget_ineffective([entry for entry, _ in spared])
            self.enforcement.lift([entry for entry, _ in spared])
        set_again = self._managed.try_again(self._clocks.boot(), self._clocks.wall())
        if set_again:
            first = ", ".join(written(entry.network) for entry in set_again[:_REASONS])
            self._log({"event": "measures_set_again", "count": len(set_again), "first": first})
        return self._enforced()

    def _forget_ineffective(self, entries: list[ManifestEntry]) -> None:
        for entry in entries:
            self._ineffective.pop(entry.network, None)

    def _enforced(self) -> Answer:
        """Return the counts for the guard's heartbeat: measures in the kernel, and missing measures with reasons."""
        refused = self._managed.refused("policy") | self._managed.refused("blocklist")
        reasons = [{"value": written(network), "reason": reason} for network, reason in self._ineffective.items()]
        reasons += [{"value": value, "reason": reason} for value, reason in reversed(refused.items())]
        if self._manifest.fault is not None:
            reasons.insert(0, {"value": "the manifest", "reason": self._manifest.fault})
        missing, unset = self.enforcement.missing(), self.enforcement.unset_because
        kept = self.measures
        return {
            "enforcement": "nftables" if missing is None else "impossible",
            "missing": missing,
            "signKeys": self._managed.issuers.sign_keys,
            "policyVersion": self._managed.issuers.in_force("policy"),
            "blocklistSequence": self._managed.issuers.in_force("blocklist"),
            "set": 0 if missing or unset else kept - len(self._ineffective),
            "ineffective": len(self._ineffective),
            "refused": len(refused),
            "impossible": kept if missing else 0,
            "failed": kept if unset and not missing else 0,
            "reasons": reasons[:_REASONS],
            "measures": kept,
            "waiting": self._managed.waits,
            "byGuard": sum(entry.origin != "operator" for entry in self._manifest.entries.values()),
            "ownBlocks": own_blocks_digest(self._manifest),
            "measuresLost": self.enforcement.times_lost,
            "confirmed": self._trial.is_confirmed,
            "trialSecondsLeft": self._trial.seconds_left(self._clocks.boot()),
            "panic": self._manifest.state(_PANIC) == "true",
        }

    def status(self) -> Answer:
        """Return the fence's state for operators."""
        self._never.refresh()
        ports = self._config.protected_ports
        return {
            **self._enforced(),
            "protectedPorts": list(ports),
            "sshPorts": list(self._config.ssh_ports),
            "listening": [port for port in ports if self._host.listens(port)],
            "privateTargets": self._config.private_targets,
            "organizationId": self._managed.issuers.organization or None,
            "unread": self._never.unread,
            "auditIntact": self._manifest.audit_is_whole(),
        }

    def _list(self, request: Request) -> Answer:
        """Return the measures, newest first: all, or those that cover `value` or have one `origin`."""
        value = request.get("value")
        covering = None if value is None else parse(value)
        return {
            "entries": listed(self._manifest, self._clocks.boot(), covering, request.get("origin"), self._ineffective)
        }

    def mark_time(self) -> None:
        """Write the current time to the manifest, for the remaining times after a reboot."""
        self._manifest.mark_time(self._clocks.boot(), self._clocks.wall())

    def _record(self, peer: Peer, name: str, request: Request, answer: Answer) -> None:
        line: dict[str, Any] = {
            "uid": peer.uid,
            "request": name,
            **{key: str(request[key])[:128] for key in ("value", "id", "topic", "seconds", "port") if key in request},
            **{key: answer[key] for key in ("outcome", "reason") if key in answer},
        }
        self._log({"event": "request", **line})
        try:
            self._manifest.audit(self._clocks.wall(), line, by_root=peer.uid == 0)
        except ManifestError as error:
            self._log({"event": "audit_failed", "reason": str(error)})


def _unknown(request: Request) -> Answer:
    raise Refused(f"no such request for this user: {str(request.get('request'))[:40]!r}")
