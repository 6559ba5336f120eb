"""Rotations of the signing key against a hostile broker: any order of rotations, absences, replays and clock steps."""

from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agent.connection.key_succession import followed
from fence.manifest import Manifest
from fence.request_verification import UntrustedRequest
from fence.successions import Successions, to_base64url
from manager.domain.signing_keys import RotationError, SigningKeys
from schemas import message_codes
from schemas.keys import ManagerKeyring
from schemas.message_codes import from_base64url
from schemas.model import utc
from schemas.presence import ManagerKeys
from schemas.succession import PERIOD, TrustedKeys, signed_link
from schemas.topics import MANAGER_KEYS

DAY = 86_400.0
GUARDS = 3
DAYS = st.sampled_from([0.0, 0.5, 1.0, 10.0, 29.0, 29.9, 30.0, 31.0, 65.0])


class ManifestInMemory:
    """The state of a fence's manifest, without its file."""

    def __init__(self) -> None:
        self._state: dict[str, str] = {}

    def state(self, key: str) -> str | None:
        return self._state.get(key)

    def change(self, _added: object, _removed: object, state: dict[str, str]) -> None:
        self._state |= state

    def withdraw(self, _removed: object, state: dict[str, str]) -> None:
        self._state |= state


@dataclass
class Host:
    """A guard and its fence; `heard_at` is when it last heard the manager itself, `step` the error of its clock."""

    trusted: TrustedKeys
    manifest: ManifestInMemory = field(default_factory=ManifestInMemory)
    heard_at: float = 0.0
    step: float = 0.0
    was_ahead: bool = False
    """Whether its clock has been wrong, so that it may have taken a succession as ended."""

    is_reinstalled: bool = False
    """Whether its fence begins at a later key than its guard, and so takes no key before that."""

    def __post_init__(self) -> None:
        self.root = self.trusted.root

    def fence(self) -> Successions:
        """Return the fence as a restart leaves it."""
        return Successions([from_base64url(self.root)], cast("Manifest", self.manifest))

    def looks_at_its_clock(self, now: float) -> None:
        """Note what has ended by the host's clock."""
        self.trusted = self.trusted.at(now + self.step)
        self.fence().accepted(now + self.step)

    def hears(self, payload: bytes, now: float) -> None:
        """Pass a message of the broker to the guard, which passes on what it follows."""
        self.trusted, _ = followed(self.trusted, payload, now + self.step)
        links = [link.model_dump(mode="json", by_alias=True) for link in self.trusted.links]
        has_newest = self.trusted.current in map(to_base64url, self.fence().current)
        try:
            self.fence().follow(links, now + self.step)
        except UntrustedRequest as refused:
            if not has_newest:  # a guard asks no fence that has its newest key
                raise AssertionError(str(refused)) from refused

    def reinstalls_its_fence(self, *, keeps_state: bool) -> None:
        """Write the guard's newest key into fence.conf."""
        self.root = self.trusted.current
        self.is_reinstalled = True
        if not keeps_state:
            self.manifest = ManifestInMemory()


def message(keys: SigningKeys, now: float, signer: bytes | None = None, links: Any = None) -> bytes:
    """Return ManagerKeys as the manager publishes it, or as a thief does who has another seed."""
    keyring = ManagerKeyring(signer or keys.seed)
    body = ManagerKeys(
        sign_key=keyring.sign_public,
        seal_key=keyring.seal_public,
        sent_at=utc(now),
        successions=list(keys.at(now).links if links is None else links) or None,
    ).body()
    return message_codes.with_signature(keyring.sign_key, MANAGER_KEYS.below_root(), body)


class KeySuccession(RuleBasedStateMachine):
    """One manager, three hosts, and a broker that has kept every message and knows every former seed."""

    @initialize()
    def begin(self) -> None:
        """Begin with one key that every host has pinned."""
        self.now = 1_800_000_000.0
        self.made = 0
        self.keys = SigningKeys(self._seed())
        self.active = {self.keys.public: self.now}
        """When each key was last active."""

        self.seeds = {self.keys.public: self.keys.seed}
        self.gone: dict[str, int] = {}
        """Keys that were given up as compromised, with the number of the rotation."""

        self.messages = [message(self.keys, self.now)]
        self.hosts = [Host(TrustedKeys(self.keys.public), heard_at=self.now) for _ in range(GUARDS)]

    def _seed(self) -> bytes:
        self.made += 1
        return self.made.to_bytes(32, "big")

    @rule(days=DAYS)
    def wait(self, days: float) -> None:
        """Let time pass; the manager forgets what has ended, and publishes its keys again."""
        self.now += days * DAY
        self.keys = self.keys.at(self.now)
        self.active[self.keys.public] = self.now
        self.messages.append(message(self.keys, self.now))
        for each in self.hosts:  # they look at their clocks all the time
            each.looks_at_its_clock(self.now)

    @rule(compromised=st.booleans())
    def rotate(self, compromised: bool) -> None:
        """Rotate, also while rotations are under way."""
        before = self.keys.public
        try:
            self.keys = self.keys.rotate(self._seed(), self.now, compromised=compromised)
        except RotationError:
            return
        if compromised:
            self.gone[before] = self.keys.number
        self._activated()

    @rule()
    def roll_back(self) -> None:
        """Roll back, where that is possible."""
        try:
            self.keys = self.keys.rollback(self.now)
        except RotationError:
            return
        self._activated()

    def _activated(self) -> None:
        assert self.keys == SigningKeys.load(self.keys.dump())
        self.active[self.keys.public] = self.now
        self.seeds[self.keys.public] = self.keys.seed
        self.messages.append(message(self.keys, self.now))

    @rule(host=st.integers(0, GUARDS - 1))
    def hear(self, host: int) -> None:
        """One that was away for less than 30 days has the manager's key, whatever happened in between."""
        each = self.hosts[host]
        each.hears(message(self.keys, self.now), self.now)
        if self.now - each.heard_at < PERIOD and not each.was_ahead:
            assert each.trusted.current == self.keys.public
        if each.trusted.current == self.keys.public:
            each.heard_at = self.now

    @rule(host=st.integers(0, GUARDS - 1), which=st.integers(0, 1000))
    def replay(self, host: int, which: int) -> None:
        """An old message leads no host back to a key before the one that it has."""
        each = self.hosts[host]
        before = each.trusted
        each.hears(self.messages[which % len(self.messages)], self.now)
        assert each.trusted.links[: len(before.links)] == before.links

    @rule(host=st.integers(0, GUARDS - 1), which=st.integers(0, 1000), number=st.integers(1, 2**40))
    def steal(self, host: int, which: int, number: int) -> None:
        """A thief with any former key makes a successor of its own: no host that has gone on follows it."""
        each = self.hosts[host]
        stolen = sorted(self.seeds)[which % len(self.seeds)]
        if stolen in {self.keys.public, each.trusted.current}:
            return
        own = b"thief".rjust(32, b"\0")
        pair = (ManagerKeyring(self.seeds[stolen]).sign_key, ManagerKeyring(own).sign_key)
        forged = signed_link(*pair, number=number, now=self.now)
        before = each.trusted.at(self.now + each.step)
        for links in ([forged], [*each.trusted.links[-15:], forged]):
            each.hears(message(self.keys, self.now, signer=own, links=links), self.now)
            assert each.trusted == before
            try:
                each.fence().follow([forged.model_dump(mode="json", by_alias=True)], self.now + each.step)
            except UntrustedRequest:
                continue
            assert from_base64url(forged.successor) not in each.fence().accepted(self.now + each.step)

    @rule(host=st.integers(0, GUARDS - 1), days=st.sampled_from([-40.0, -1.0, 1.0, 40.0]))
    def step_clock(self, host: int, days: float) -> None:
        """A host's clock jumps."""
        each = self.hosts[host]
        each.step += days * DAY
        each.was_ahead = True
        each.looks_at_its_clock(self.now)

    @rule(host=st.integers(0, GUARDS - 1))
    def mend_clock(self, host: int) -> None:
        """A host's clock is set right; what it has taken as ended stays ended."""
        each = self.hosts[host]
        before = set(each.trusted.accepted(self.now + each.step))
        each.step = 0.0
        each.looks_at_its_clock(self.now)
        assert set(each.trusted.accepted(self.now)) <= before

    @rule(host=st.integers(0, GUARDS - 1), keeps_state=st.booleans())
    def reinstall(self, host: int, keeps_state: bool) -> None:
        """A fence is installed anew, with the newest key of the guard in its configuration."""
        self.hosts[host].reinstalls_its_fence(keeps_state=keeps_state)

    @invariant()
    def guard_and_fence_agree(self) -> None:
        """Both have the same newest key and take the same former ones; a fence installed later takes fewer."""
        for each in self.hosts:
            fence, now = each.fence(), self.now + each.step
            assert [to_base64url(key) for key in fence.current] == [each.trusted.current]
            taken = {to_base64url(key) for key in fence.accepted(now)}
            if not each.is_reinstalled:
                assert taken == set(each.trusted.accepted(now))
            elif not each.was_ahead:  # without its state it does not know what has ended
                assert taken <= set(each.trusted.accepted(now))

    @invariant()
    def a_former_key_is_useless_in_time(self) -> None:
        """A host with a right clock takes no key that was active last 30 days ago, and none that was given up."""
        for each in self.hosts:
            former = set(each.trusted.accepted(self.now + each.step)) - {each.trusted.current}
            assert all(each.trusted.number < self.gone.get(key, each.trusted.number + 1) for key in former)
            if not each.was_ahead:
                assert all(self.now - self.active[key] < PERIOD for key in former)

    @invariant()
    def the_manager_forgets_the_seeds_of_useless_keys(self) -> None:
        """What cannot be rolled back to is not kept."""
        for each in self.keys.at(self.now).former:
            kept = each.seed is not None
            assert not (kept and (each.compromised or self.now - self.active[each.public] >= PERIOD))


@given(data=st.data(), count=st.integers(1, 6))
def test_a_fence_installed_between_two_rotations_follows_the_later_ones(data: st.DataObject, count: int) -> None:
    """Whatever links it is given, and in whatever order, it has the key that they lead to from its own."""
    now = 1_800_000_000.0
    keys = SigningKeys(bytes(32))
    for number in range(1, count + 1):
        keys = keys.rotate(number.to_bytes(32, "big"), now + number)
    links = keys.at(now + count).links
    publics = [links[0].predecessor, *(link.successor for link in links)]
    start = data.draw(st.integers(0, count))
    fence = Successions([from_base64url(publics[start])], cast("Manifest", ManifestInMemory()))
    reached = start
    for chosen in data.draw(st.lists(st.lists(st.integers(0, count - 1), min_size=1), min_size=1, max_size=4)):
        before = reached
        while reached in chosen:
            reached += 1
        try:
            fence.follow([links[each].model_dump(mode="json", by_alias=True) for each in chosen], now + count)
        except UntrustedRequest:
            assert reached == before
        assert [to_base64url(key) for key in fence.current] == [publics[reached]]
        assert {to_base64url(key) for key in fence.accepted(now + count)} == set(publics[start : reached + 1])


def test_no_order_of_events_leads_a_host_astray() -> None:
    """Rotations, rollbacks, absences, replays, thefts and clock steps in any order."""
    run_state_machine_as_test(KeySuccession, settings=settings(deadline=None, stateful_step_count=30))
