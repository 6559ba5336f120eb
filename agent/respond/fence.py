"""The guard's side of the fence: asks for measures, passes on signed messages, and knows what the fence enforces."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agent.clock import Clock
from agent.logs import EventLog
from agent.manager_time import ManagerTime
from agent.respond.decision import MeasureKind
from agent.respond.fence_client import FenceClient, FenceError
from agent.respond.responder import EnforcementKind
from schemas.presence import Enforced, Unenforced
from schemas.succession import TrustedKeys

_log = EventLog("fence")

CHECK_EVERY = 30.0
"""Seconds between two checks while the fence holds measures or lacks some."""

IDLE_CHECK_EVERY = 900.0
"""Seconds between two checks of a fence without measures: a check starts it, and it ends by itself after a minute."""

_TRIAL_CHECK_EVERY = 2.0
_SEEN_FOR = 60.0
_UNSEEN_FOR = 2.0
_MOST_ANSWERS = 4096
_MOST_REASONS = 5
_LONGEST = 500
_MOST = 2**53 - 1

Source = Literal["policy", "blocklist"]

_LABEL: dict[Source, str] = {"policy": "policy version", "blocklist": "blocklist sequence"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fence's answer to a measure of the guard's own decision.

    Attributes:
        word: `taken`, `refused`, `impossible`, `failed` or `ineffective`.
        reason: One clause; empty where it was taken.
        measure: What was taken or refused: the fence may take a throttle where a block is refused.
        seconds: The seconds for which the fence took it, which may be less than asked; None if it was not taken.
    """

    word: str
    reason: str = ""
    measure: MeasureKind = "block"
    seconds: float | None = None

    @property
    def text(self) -> str:
        """The outcome as a report carries it."""
        return f"{self.word}: {self.reason}" if self.reason else self.word


class Fence:
    """The fence as this guard knows it. No call raises: a fence that does not answer makes everything `impossible`.

    Args:
        client: Asks it.
        clock: The host's clocks.
        manager_time: The manager's time.
    """

    def __init__(self, client: FenceClient, clock: Clock, manager_time: ManagerTime) -> None:
        self._client = client
        self._clock = clock
        self._manager_time = manager_time
        self._seen: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._refused: dict[Source, tuple[str, str]] = {}
        """Outcome and reason of messages that the fence did not take."""

        self.state: dict[str, Any] = {}
        """The last answer to `check` or `managed`; empty while the fence does not answer."""

        self.missing: str | None = "the fence was not asked yet"
        """The missing condition of any block; None if the fence enforces."""

        self.ports: tuple[int, ...] = ()
        """The protected ports."""

        self.ssh_ports: tuple[int, ...] = ()
        """The protected ports on which sshd listens."""

        self.due = 0.0
        self.in_trial = False
        self._trusted: TrustedKeys | None = None
        self._refused_keys: tuple[str, ...] = ()

    @property
    def kind(self) -> EnforcementKind:
        """The means of enforcement."""
        return "impossible" if self.missing is not None else "nftables"

    def number(self, source: Source) -> int:
        """Return the version of the policy, or the sequence of the blocklist, in force at the fence; 0 for none."""
        return self.count("policyVersion" if source == "policy" else "blocklistSequence")

    def count(self, name: str) -> int:
        """Return a number of the last answer; 0 where it has none."""
        value = self.state.get(name)
        return min(value, _MOST) if type(value) is int and value > 0 else 0

    @property
    def holds(self) -> int:
        """The number of measures that the guard and the manager have set."""
        return self.count("byGuard")

    @property
    def ineffective(self) -> str | None:
        """The reason why a measure does not keep its address out; None if all measures bite."""
        if not self.count("ineffective"):
            return None
        return next((f"{each.value}: {each.reason}" for each in self._reasons()), "an address still gets through")

    @property
    def stopped(self) -> str | None:
        """The reason why the fence takes no measures although it could; None if it takes them."""
        if not self.state.get("panic"):
            return None
        return "stopped by `panic`: nothing is blocked on this host until `panguard guard resume`"

    def _reasons(self) -> list[Unenforced]:
        listed = self.state.get("reasons")
        return [
            Unenforced(value=str(each["value"])[:_LONGEST], reason=_short(each.get("reason")))
            for each in (listed if isinstance(listed, list) else ())
            if isinstance(each, dict) and each.get("value")
        ]

    def check(self, now: float) -> None:
        """Ask what is enforced, and set the next check; `now` is on the monotonic clock."""
        if self.missing is None:
            answer = self._ask("check")
        else:
            answer = self._ask("status")
            self.ports, self.ssh_ports = _ports(answer.get("protectedPorts")), _ports(answer.get("sshPorts"))
        self._note(answer)
        unheard = not self._pass_keys_on()
        holds = self.state.get("measures") or self.state.get("waiting")
        busy = unheard or self.missing is not None or self.stopped or holds or self._refused
        self.due = now + (_TRIAL_CHECK_EVERY if self.in_trial else CHECK_EVERY if busy else IDLE_CHECK_EVERY)

    def trust(self, trusted: TrustedKeys | None) -> None:
        """Set the manager's signing keys that this guard trusts; the fence follows their rotations by itself."""
        self._trusted = trusted
        self._refused_keys = ()
        if not self._pass_keys_on():
            self.due = min(self.due, self._clock.monotonic() + CHECK_EVERY)

    def _pass_keys_on(self) -> bool:
        """Give the fence the rotations that it has not followed; return False if it has to be asked again.

        A refusal counts for the keys that the fence had then; after any other failure the next check asks again.
        """
        trusted, known = self._trusted, self.state.get("signKeys")
        if trusted is None or not trusted.links or not isinstance(known, list) or trusted.current in known:
            return True
        asked = (trusted.current, *map(str, known))
        if asked == self._refused_keys:
            return True
        answer = self._ask("keys", successions=[link.model_dump(mode="json", by_alias=True) for link in trusted.links])
        if answer.get("ok"):
            self._refused.clear()
            self._note(answer)
            return True
        outcome = answer.get("outcome")
        _log.warning("fence_refused", source="keys", outcome=outcome, reason=_short(answer.get("reason")))
        if outcome != "refused":
            return False
        self._refused_keys = asked
        return True

    def decide(self, measure: MeasureKind, value: str, seconds: float, reason: str, *, ssh: bool) -> Outcome:
        """Ask for a measure of the guard's own decision.

        Args:
            measure: The measure; where the fence refuses a block and offers a throttle, that is taken.
            value: The address.
            seconds: How long.
            reason: For people.
            ssh: The attack was on sshd: the kernel must have seen the address on a port of sshd's.
        """
        if self.missing is not None:
            self.check(self._clock.monotonic())
        if self.missing is not None:
            return Outcome("impossible", self.missing, measure)
        answers: list[dict[str, Any]] = []
        for port in self.ssh_ports if ssh and self.ssh_ports else (None,):
            beside = {} if port is None else {"port": port}
            answer = self._ask(measure, value=value, seconds=seconds, reason=reason, own=True, **beside)
            if answer.get("instead") == "throttle":
                measure = "throttle"
                answer = self._ask(measure, value=value, seconds=seconds, reason=reason, own=True, **beside)
            answers.append(answer)
            if answer.get("outcome") == "taken":
                break
        self.due = 0.0  # the counts have changed
        answer = next((each for each in reversed(answers) if each.get("outcome") in {"taken", "refused"}), answers[-1])
        word = str(answer.get("outcome") or "failed")
        if word != "taken":
            return Outcome(word, _short(answer.get("reason")), measure)
        taken = answer.get("seconds")
        return Outcome(word, "", measure, float(taken) if isinstance(taken, int | float) else None)

    def still_through(self, value: str) -> str | None:
        """Tell the fence that a blocked address still reaches the service; return why, None if that is too early."""
        answer = self._ask("still_through", value=value)
        self.due = 0.0
        return _short(answer.get("reason")) if answer.get("outcome") == "ineffective" else None

    def take(self, source: Source, topic: str, payload: bytes) -> None:
        """Pass a signed message on, byte for byte.

        Args:
            source: The kind of message.
            topic: The topic below the root, which the signature covers.
            payload: The message as the broker delivered it.
        """
        beside = {} if self._manager_time.known is None else {"managerTime": self._manager_time.known}
        answer = self._ask("managed", topic=topic, payload=payload.decode(errors="replace"), **beside)
        if answer.get("outcome") == "taken":
            self._refused.pop(source, None)
            self._note(answer)
        else:
            outcome, reason = str(answer.get("outcome")), _short(answer.get("reason"))
            if self._refused.get(source) != (outcome, reason):
                _log.warning("fence_refused", source=source, outcome=outcome, reason=reason)
            self._refused[source] = outcome, reason
        self.due = min(self.due, self._clock.monotonic() + CHECK_EVERY)

    def has_refused(self, source: Source) -> bool:
        """Return whether the fence refused the last message of this kind; a failure is no refusal."""
        return self._refused.get(source, ("", ""))[0] == "refused"

    def release(self) -> None:
        """Lift whatever guard and manager have set: the mode is learning."""
        answer = self._ask("release")
        if answer.get("outcome") == "lifted":
            _log.info("measures_released", count=answer.get("count"))
        self._refused.clear()
        self.due = 0.0

    @property
    def knows_trial(self) -> bool:
        """Whether the fence has a trial, confirmed or running, that was begun before the guard's last start."""
        return self.state.get("trialSecondsLeft") is not None or bool(self.state.get("confirmed"))

    def begin_trial(self, seconds: float) -> bool:
        """Tell the fence that a trial of so many seconds begins; return whether it knows."""
        self.in_trial = self._ask("trial", seconds=seconds).get("outcome") == "noted"
        self.state.pop("confirmed", None)
        self.due = 0.0
        return self.in_trial

    def has_seen(self, address: str) -> bool:
        """Return whether the kernel confirms that this host answered an address on a port of sshd's."""
        now = self._clock.monotonic()
        known = self._seen.get(address)
        if known is not None and now < known[1]:
            return known[0]
        if self.missing is not None:
            return False
        seen = any(self._ask("seen", value=address, port=port).get("seen") for port in self.ssh_ports)
        self._seen[address] = (seen, now + (_SEEN_FOR if seen else _UNSEEN_FOR))
        self._seen.move_to_end(address)
        while len(self._seen) > _MOST_ANSWERS:
            self._seen.popitem(last=False)
        return seen

    def has_own_blocks(self, values: Iterable[str]) -> bool:
        """Return whether exactly these addresses were blocked by the guard's own decision at the last answer."""
        digest = hashlib.sha256("\n".join(sorted(values)).encode()).hexdigest()[:16]
        return self.state.get("ownBlocks") == digest

    def own_blocks(self) -> list[str] | None:
        """Return the addresses that the fence blocks by the guard's own decision; None if it does not answer."""
        entries = self._ask("list", origin="own").get("entries")
        if not isinstance(entries, list):
            return None
        return [str(each.get("value")) for each in entries if isinstance(each, dict) and each.get("measure") == "block"]

    def enforced(self) -> Enforced:
        """Return the counts and reasons for heartbeats and `policy/applied`."""
        reasons = [Unenforced(value=_LABEL[source], reason=reason) for source, (_, reason) in self._refused.items()]
        reasons += self._reasons()
        counts = {name: self.count(name) for name in ("set", "ineffective", "refused", "impossible", "failed")}
        return Enforced(
            policy_version=self.number("policy") or None,
            blocklist_sequence=self.number("blocklist") or None,
            reasons=reasons[:_MOST_REASONS],
            **counts,
        )

    def _note(self, answer: dict[str, Any]) -> None:
        if "enforcement" in answer:
            self.state = answer
        before, missing = self.missing, None
        if not self.state or "enforcement" not in answer:
            missing, self.state = _short(answer.get("reason")), {}
        elif answer["enforcement"] == "impossible":
            missing = _short(answer.get("missing") or "nothing can be blocked here")
        self.missing = missing
        if before != self.missing:
            _log.info("enforcement", kind=self.kind, needs=self.missing)

    def _ask(self, request: str, **members: Any) -> dict[str, Any]:
        try:
            return self._client.ask(request, **members)
        except FenceError as error:
            answer = {"ok": False, "outcome": "impossible", "reason": str(error)}
            self.due = min(self.due, self._clock.monotonic() + CHECK_EVERY)
            self._note(answer)
            return answer


def _short(text: Any) -> str:
    return str(text or "no reason was given")[:_LONGEST]


def _ports(listed: Any) -> tuple[int, ...]:
    return tuple(port for port in listed if type(port) is int) if isinstance(listed, list) else ()
