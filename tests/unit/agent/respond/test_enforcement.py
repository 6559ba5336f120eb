"""What a guard does about threats and policies, on a virtual clock."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.clock import Clock
from agent.events import Verdict
from agent.manager_time import ManagerTime
from agent.respond.desired_measures import Effective
from agent.respond.enforcement import NO_FENCE, Enforcement
from agent.respond.mode import ModeControl
from agent.respond.own_blocks import OwnBlocks
from agent.respond.recording_responder import RecordingResponder
from agent.respond.responder import Measure, ResponderError
from agent.storage.database import Database
from schemas.decoding import validate
from schemas.policy import PolicySections
from schemas.presence import Mode
from schemas.threats import ResponseTaken

ATTACKER = "203.0.113.7"


class Time:
    """Both clocks, standing until they are moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now)


def _mode(database: Database, time: Time, mode: Mode) -> ModeControl:
    return ModeControl(database, time.clock(), ManagerTime(time.clock()), host=mode)


class World:
    """An enforcement with its neighbours."""

    def __init__(self, database: Database, mode: Mode = Mode.PROTECTION) -> None:
        self.time = Time()
        self.database = database
        self.organization: list[Measure] = []
        self.recorder = RecordingResponder(database)
        self.enforcement = Enforcement(
            responder=self.recorder,
            own=OwnBlocks(database),
            organization=lambda: self.organization,
            mode=_mode(database, self.time, mode),
            protected=["10.0.0.1"],
            duration=3600,
            clock=self.time.clock(),
        )

    def obey(self, **sections: object) -> list[str]:
        return self.enforcement.obey(Effective(validate(PolicySections, sections)))

    def blocked(self) -> list[str]:
        return sorted(measure.value for measure in self.recorder.in_force())


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def threat(confidence: int, address: str = ATTACKER, severity: str = "high", *, vouched: bool = True) -> Verdict:
    return Verdict(
        type="brute_force",
        technique="T1110",
        severity=severity,  # type: ignore[arg-type]
        confidence=confidence,
        rule_id="sshd-brute-force",
        count=40,
        first_seen=0,
        last_seen=1,
        detected_at=1,
        evidence={"sourceIp": address},
        target="sourceIp",
        vouched=frozenset({"sourceIp"} if vouched else ()),
    )


def act(world: World, found: Verdict) -> tuple[str, str | None] | None:
    response: ResponseTaken | None = world.enforcement.respond(found)
    return None if response is None else (response.action, response.outcome)


def test_confidence_decides_between_nothing_notify_and_block(world: World) -> None:
    """The policy's thresholds are bounds from which on, inclusive, the guard notifies or blocks."""
    world.obey(thresholds={"autoRespond": 80, "notifyAndWait": 60})
    assert act(world, threat(59)) is None
    assert act(world, threat(60)) == ("notify", None)
    assert act(world, threat(79)) == ("notify", None)
    assert world.blocked() == []
    assert act(world, threat(80)) == ("block_ip", f"impossible: {NO_FENCE}")
    assert world.blocked() == [ATTACKER]


def test_an_address_that_nobody_vouches_for_is_never_acted_upon(world: World) -> None:
    """However sure the verdict is: where any local user may have written the line, the action is `notify`."""
    assert act(world, threat(100, severity="critical", vouched=False)) == ("notify", None)
    assert world.blocked() == []


def test_a_threat_from_before_the_first_start_is_never_acted_upon(world: World) -> None:
    """While the guard looks back its responses are those of mode learning."""
    response = world.enforcement.respond(threat(100), past=True)
    assert response is not None
    assert (response.action, response.outcome) == ("block_ip", "would_be_taken")
    assert world.blocked() == []


def test_alerting_below_its_severity_is_silent(world: World) -> None:
    """`alerting.minimumSeverity` keeps small things from people, and blocks all the same."""
    world.obey(alerting={"minimumSeverity": "critical"})
    assert act(world, threat(70, severity="high")) is None
    assert act(world, threat(70, severity="critical")) == ("notify", None)
    assert act(world, threat(90, severity="low")) == ("block_ip", f"impossible: {NO_FENCE}")


def test_actions_that_are_not_allowed_are_not_taken(world: World) -> None:
    """Without `block_ip` a guard notifies, without `notify` it only reports."""
    world.obey(response={"actions": ["notify"]})
    assert act(world, threat(95)) == ("notify", None)
    world.obey(response={"actions": []})
    assert act(world, threat(95)) is None
    assert world.blocked() == []


def test_a_learning_guard_only_says_what_it_would_do(database: Database) -> None:
    """In mode learning nothing of its own is blocked, and the report has the action with its outcome."""
    world = World(database, Mode.LEARNING)
    assert act(world, threat(95)) == ("block_ip", "would_be_taken")
    assert act(world, threat(70)) == ("notify", "would_be_taken")
    assert world.blocked() == []


def test_an_own_block_ends_by_itself_and_grows_with_repetition(world: World) -> None:
    """Blocks last the setting's hour; after three of them, the policy's day."""
    for _ in range(3):
        act(world, threat(95))
        world.time.now += 3600
        assert world.enforcement.due <= world.time.now
        world.enforcement.tick(world.time.now)
        assert world.blocked() == []
    act(world, threat(95))
    world.time.now += 86_399
    world.enforcement.tick(world.time.now)
    assert world.blocked() == [ATTACKER]
    world.time.now += 1
    world.enforcement.tick(world.time.now)
    assert world.blocked() == []


def test_an_entry_of_two_seconds_is_gone_in_time(world: World) -> None:
    """The guard wakes for the first expiry, with nobody's help."""
    world.obey(blocklist={"ips": [{"value": ATTACKER, "expiresAt": "1970-01-12T13:46:42Z"}, "198.51.100.1"]})
    assert world.blocked() == ["198.51.100.1", ATTACKER]
    assert world.enforcement.due == world.time.now + 2
    world.time.now += 2
    world.enforcement.tick(world.time.now)
    assert world.blocked() == ["198.51.100.1"]


def test_an_expired_policy_gives_way_to_the_defaults(world: World) -> None:
    """At the policy's own end its thresholds and its blocks are over."""
    sections = validate(PolicySections, {"blocklist": {"ips": [ATTACKER]}, "thresholds": {"autoRespond": 1}})
    world.enforcement.obey(Effective(sections, expires_at=world.time.now + 5))
    assert world.blocked() == [ATTACKER]
    assert world.enforcement.due == world.time.now + 5
    world.time.now += 5
    world.enforcement.tick(world.time.now)
    assert world.blocked() == []
    assert world.enforcement.sections == PolicySections()


def test_the_allowlist_beats_everybody(world: World) -> None:
    """Policy, organization and the guard's own decision spare what is allowed, and undo what was set before."""
    world.organization = [Measure("ip", ATTACKER)]
    act(world, threat(95))
    world.obey(blocklist={"ips": [ATTACKER]})
    assert world.blocked() == [ATTACKER]
    world.obey(blocklist={"ips": [ATTACKER]}, allowlist={"ips": ["203.0.113.0/24"]})
    assert world.blocked() == []
    assert act(world, threat(95)) == ("none", "refused: it is on the allowlist")


@pytest.mark.parametrize("own", ["127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "192.0.2.5"])
def test_the_own_host_and_the_broker_are_never_blocked(world: World, own: str) -> None:
    """However sure it is, a guard does not cut itself off."""
    world.enforcement.protect("192.0.2.5")
    assert act(world, threat(95, own)) == ("none", "refused: it would cut this host off")
    errors = world.obey(blocklist={"ips": [own]})
    assert len(errors) == 1
    assert world.blocked() == []


def test_measures_survive_a_restart(world: World, database: Database) -> None:
    """A new process knows what an old one set, keeps it, and lifts what should not be any more."""
    act(world, threat(95))
    world.organization = [Measure("ip", "198.51.100.1")]
    world.enforcement.refresh()
    again = World(database)
    assert sorted(measure.value for measure in again.enforcement.measures) == ["198.51.100.1", ATTACKER]
    again.enforcement.refresh()
    assert again.blocked() == [ATTACKER]


def test_rule_packs_are_reported_partial(world: World) -> None:
    """A guard without an engine for rule packs says so, and its other sections are in force."""
    errors = world.obey(blocklist={"ips": [ATTACKER]}, detection={"sigma": ["title: x"]})
    assert [error.partition(":")[0] for error in errors] == ["detection"]
    assert world.blocked() == [ATTACKER]


class Forgetful(RecordingResponder):
    """Loses all that is done together, as on a full disk."""

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._database.transaction() as connection:
            yield
            connection.execute("DELETE FROM measures")
        raise ResponderError("disk full")


def test_a_change_that_fails_as_a_whole_is_not_taken_for_done(database: Database) -> None:
    """What was lost at the end counts as not in force, is reported, and is tried again."""
    time = Time()
    enforcement = Enforcement(
        responder=Forgetful(database),
        own=OwnBlocks(database),
        organization=list,
        mode=_mode(database, time, Mode.PROTECTION),
        protected=[],
        duration=3600,
        clock=time.clock(),
    )
    errors = enforcement.obey(Effective(validate(PolicySections, {"blocklist": {"ips": [ATTACKER]}})))
    assert errors == ["blocklist: all entries: disk full"]
    assert enforcement.measures == []
    assert enforcement.due == time.now + 5


def test_ten_thousand_entries_are_one_change(world: World) -> None:
    """A whole organization's list is set in one transaction, and lifted in one."""
    statements: list[str] = []
    world.database.connection.set_trace_callback(statements.append)
    world.organization = [Measure("ip", f"203.{number // 250}.{number % 250}.7") for number in range(10_000)]
    assert world.enforcement.refresh() == []
    world.organization = []
    assert world.enforcement.refresh() == []
    world.database.connection.set_trace_callback(None)
    assert statements.count("COMMIT") == 2
    assert world.blocked() == []


class Stubborn(RecordingResponder):
    """Fails for one address."""

    def block_address(self, measure: Measure) -> None:
        if measure.value == ATTACKER:
            raise ResponderError("no")
        super().block_address(measure)


def test_a_measure_that_fails_is_reported_and_tried_again(database: Database) -> None:
    """One failure names itself, does not keep the others back, and is tried again within seconds."""
    time = Time()
    enforcement = Enforcement(
        responder=Stubborn(database, simulated=True),
        own=OwnBlocks(database),
        organization=list,
        mode=_mode(database, time, Mode.PROTECTION),
        protected=[],
        duration=3600,
        clock=time.clock(),
    )
    errors = enforcement.obey(Effective(validate(PolicySections, {"blocklist": {"ips": [ATTACKER, "198.51.100.1"]}})))
    assert errors == [f"blocklist: {ATTACKER}: no"]
    assert [measure.value for measure in enforcement.measures] == ["198.51.100.1"]
    assert enforcement.due == time.now + 5
    response = enforcement.respond(threat(95))
    assert response is not None
    assert response.outcome == "failed: the block could not be recorded"


@pytest.mark.parametrize(
    ("target", "listed"),
    [
        (ATTACKER, True),
        ("198.51.100.9", True),
        ("203.0.113.8", False),
        ("198.51.100.0/24", True),
        ("198.51.0.0/16", False),
        ("198.51.100.0/23", False),
        ("2001:db8:1::/64", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
    ],
)
def test_target_is_listed_if_policy_or_organization_contain_all_of_it(world: World, target: str, listed: bool) -> None:
    """An address on the lists is listed, and a prefix that a listed one contains; an expired entry lists nothing."""
    world.organization = [
        Measure("ip", "192.0.2.1", None, world.time.now + 1),
        Measure("ip", "192.0.2.2", None, world.time.now),
    ]
    world.obey(blocklist={"ips": [ATTACKER, "198.51.100.0/24", "2001:db8:1::5"]})
    assert world.enforcement.listed(target) is listed


def test_own_block_lists_nothing(world: World) -> None:
    """A guard does not take its own earlier block for another's word."""
    world.obey()
    world.enforcement.respond(threat(90))
    assert world.blocked() == [ATTACKER]
    world.enforcement.refresh()
    assert not world.enforcement.listed(ATTACKER)
