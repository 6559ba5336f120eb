"""Automatic responses: scope, duration and removal of entries."""

import pytest

from manager.domain.correlation import Indicator
from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.policies.layers import EMERGENCY_ROOM
from manager.domain.response import EmergencyEntry, RepeatOffenderRule, ResponderSettings, ResponseState, Subject
from schemas.limits import AGENT_EMERGENCY_ENTRIES, BLOCKLIST_LIMIT, ORGANIZATION_EMERGENCY_ENTRIES, POLICY_LIMIT
from schemas.policy import canonical
from tests.support.responding import Scene

IP = "203.0.113.9"
HASH = "ab" * 32
HOUR = 3600.0


def test_two_agents_block_a_shared_address_themselves() -> None:
    """With two agents the address stands in both agents' own policies, with reason and end, and nowhere else."""
    scene = Scene()
    assert not scene.report("ag-1", ip=IP)
    response_changes = scene.report("ag-2", ip=IP)
    assert scene.blocked_on("ag-1") == scene.blocked_on("ag-2") == [IP]
    assert scene.blocked_in() == []
    (entry,) = scene.policies.effective["ag-1"].resolved.sections["blocklist"]["ips"]
    assert entry["incidentId"] == scene.incident(IP).id
    assert entry["reason"] == "several agents were attacked from this address"
    assert [each.expires_at - scene.now for each in response_changes.added] == [4 * HOUR] * 2
    assert scene.response(IP).state is ResponseState.APPLIED


def test_one_agent_twice_does_nothing() -> None:
    """One agent's word is no incident, however often it is given."""
    scene = Scene()
    assert not scene.attack(IP, ["ag-1"] * 5)
    assert len(scene.responder.entries) == 0


def test_a_third_agent_makes_a_block_organization_wide_by_one_change() -> None:
    """From three agents on the organization's blocklist has it; further agents change nothing and push nothing."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    third = scene.report("ag-3", ip=IP)
    assert scene.blocked_in() == [IP]
    (change,) = scene.blocklists.changes(third, scene.policies.advance)
    assert [entry.value for entry in change.added] == [IP]
    assert (change.from_sequence, change.sequence) == (0, scene.policies.revision)
    for number in range(4, 40):
        assert not scene.report(f"ag-{number}", ip=IP)
    assert len(scene.responder.entries) == 3
    assert scene.response(IP).organization_wide


def test_organizations_never_mix() -> None:
    """A block of one organization is in no other one's list, and two organizations' agents make no incident."""
    scene = Scene()
    scene.report("ag-9", ip=IP, organization_id="other")
    scene.attack(IP, ["ag-1", "ag-2", "ag-3"])
    assert scene.blocked_in() == [IP]
    assert scene.blocked_in("other") == scene.blocked_on("ag-9") == []


def test_a_private_address_stays_with_its_site() -> None:
    """192.168.1.77 is another host behind each NAT: its agents block it, however many, and never the organization."""
    scene = Scene()
    for number in range(6):
        scene.report(f"ag-{number}", ip="192.168.1.77", site="berlin")
    scene.report("ag-9", ip="192.168.1.77", site="oslo")
    assert all(scene.blocked_on(f"ag-{number}") == ["192.168.1.77"] for number in range(6))
    assert scene.blocked_on("ag-9") == scene.blocked_in() == []
    assert "private address" in scene.response("192.168.1.77").reason


def test_a_late_report_blocks_nobody() -> None:
    """An incident that rests on a report which waited an hour is shown with its refusal, and blocks nobody."""
    scene = Scene()
    scene.report("ag-1", ip=IP, late=HOUR)
    scene.report("ag-2", ip=IP, late=HOUR)
    assert scene.incident(IP).late
    assert len(scene.responder.entries) == 0
    assert scene.response(IP).state is ResponseState.REFUSED
    scene.report("ag-3", ip=IP)
    scene.report("ag-4", ip=IP)
    assert scene.blocked_on("ag-3") == scene.blocked_on("ag-4") == [IP]
    assert scene.blocked_on("ag-1") == []


@pytest.mark.parametrize(
    ("value", "says"), [("ab" * 32, "block decided"), ("ab" * 20, "alert decided"), ("ab" * 16, "alert decided")]
)
def test_a_shared_hash_goes_to_the_same_two_places(value: str, says: str) -> None:
    """Any hash is listed on two agents, then in the organization; what is no SHA-256 is alerted on only."""
    scene = Scene()
    for agent_id in ("ag-1", "ag-2"):
        scene.report(agent_id, file_hash=value, filePath="/home/ann/payload")
    assert scene.blocked_on("ag-1") == scene.blocked_on("ag-2") == [value]
    scene.report("ag-3", file_hash=value)
    assert scene.blocked_in() == [value]
    assert scene.response(value).reason == f"{says} for the whole organization"


@pytest.mark.parametrize("path", ["/usr/bin/ls", "/bin/sh", "/lib/x86_64/libc.so.6", r"C:\Windows\System32\cmd.exe"])
def test_a_system_binary_is_not_quarantined_on_the_rest_of_the_fleet(path: str) -> None:
    """A hash that any agent found where a system keeps its programs stays on the agents that report it."""
    scene = Scene()
    for number in range(5):
        scene.report(f"ag-{number}", file_hash=HASH, **({"filePath": path} if number == 1 else {}))
    assert scene.blocked_in() == []
    assert scene.blocked_on("ag-4") == [HASH]
    assert path in scene.response(HASH).reason


def test_a_path_that_comes_to_light_later_takes_the_hash_off_the_organization() -> None:
    """A system path reported by a fourth agent removes the organization's entry; the agents' own entries stay."""
    scene = Scene()
    for number in range(3):
        scene.report(f"ag-{number}", file_hash=HASH)
    assert scene.blocked_in() == [HASH]
    response_changes = scene.report("ag-3", file_hash=HASH, filePath="/usr/sbin/sshd")
    assert scene.blocked_in() == []
    assert all(scene.blocked_on(f"ag-{number}") == [HASH] for number in range(4))
    (change,) = scene.blocklists.changes(response_changes, scene.policies.advance)
    assert [entry.value for entry in change.removed] == [HASH]


def test_the_hash_of_an_empty_file_is_never_blocked() -> None:
    """Every host has an empty file: three agents that report its hash get a refusal."""
    scene = Scene()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for number in range(3):
        scene.report(f"ag-{number}", file_hash=empty)
    assert "empty file" in scene.response(empty).reason
    assert len(scene.responder.entries) == 0


def test_a_shared_technique_makes_agents_attentive_once() -> None:
    """Auto-respond falls by ten and the alert severity to low, and a second technique makes it fall no further."""
    scene = Scene()
    for technique in ("T1059", "T1110.001"):
        for agent_id in ("ag-1", "ag-2"):
            scene.report(agent_id, technique=technique)
    sections = scene.policies.effective["ag-1"].resolved.sections
    assert sections["thresholds"]["autoRespond"] == 75
    assert sections["alerting"]["minimumSeverity"] == "low"
    assert scene.pushes == {"ag-1": 1, "ag-2": 1}
    scene.pass_time(4 * HOUR)
    assert scene.policies.effective["ag-1"].resolved.sections["thresholds"]["autoRespond"] == 85


@pytest.mark.parametrize(("own", "lowered"), [(85, 75), (55, 50), (50, 50), (30, 30)])
def test_a_technique_never_lowers_below_the_floor(own: float, lowered: float) -> None:
    """The floor stops the fall, and an operator's own threshold below the floor stays as it is."""
    scene = Scene(ResponderSettings(auto_respond_floor=50))
    scene.policies.set(GLOBAL, {"thresholds": {"autoRespond": own, "notifyAndWait": 20}}, scene.now, "test")
    for agent_id in ("ag-1", "ag-2"):
        scene.report(agent_id, technique="T1059")
    assert scene.policies.effective["ag-1"].resolved.sections["thresholds"]["autoRespond"] == lowered


def test_a_chronic_technique_is_pushed_once_to_each_host() -> None:
    """Four hundred hosts that report T1110 once an hour are one incident, and each host's policy changes once."""
    scene = Scene()
    for _hour in range(3):
        for number in range(400):
            scene.report(f"ag-{number}", technique="T1110")
            scene.pass_time(9)
    assert len(scene.incidents) == 1
    assert scene.incident("T1110").chronic
    assert set(scene.pushes.values()) == {1}
    assert len(scene.pushes) == 400


def test_a_returning_indicator_is_blocked_twice_as_long_up_to_a_day() -> None:
    """4, 8, 16 and 24 hours at the first four incidents of an address, and no longer."""
    scene = Scene()
    lasting = []
    scene.facts.escalation = RepeatOffenderRule(1000, 1.0)
    for returns in range(6):
        scene.correlator._history = Past(returns)
        (entry, _) = scene.attack(f"203.0.113.{returns}", ["ag-1", "ag-2"]).added
        lasting.append((entry.expires_at - scene.now) / HOUR)
    assert lasting == [4, 8, 16, 24, 24, 24]


class Past:
    """A store that knows of earlier incidents."""

    def __init__(self, incidents: int) -> None:
        self._count = incidents

    def reports(self, *_: object) -> tuple[()]:
        return ()

    def incidents(self, *_: object) -> tuple[()]:
        return ()

    def incident_count(self, *_: object) -> int:
        return self._count


def test_a_repeated_offender_is_met_as_the_policy_says() -> None:
    """After `repeatThreshold` incidents an address is blocked for `repeatBlockDuration`, also beyond a day."""
    scene = Scene()
    scene.facts.escalation = RepeatOffenderRule(2, 7 * 24 * HOUR)
    lasting = []
    for returns in range(3):
        scene.correlator._history = Past(returns)
        (entry, _) = scene.attack(f"203.0.113.{returns}", ["ag-1", "ag-2"]).added
        lasting.append((entry.expires_at - scene.now) / HOUR)
    assert lasting == [4, 8, 7 * 24]


def test_entries_end_on_time() -> None:
    """After its time a block is in no policy and no blocklist, and those to publish again are named, not before."""
    scene = Scene(ResponderSettings(duration=2.0))
    scene.attack(IP, ["ag-1", "ag-2", "ag-3"])
    assert scene.responder.next_expiry() == scene.now + 2.0
    assert not scene.pass_time(1.999)
    response_changes = scene.pass_time(0.002)
    assert (response_changes.agent_ids, response_changes.organization_ids) == ({"ag-1", "ag-2"}, {"acme"})
    assert scene.blocked_on("ag-1") == scene.blocked_in() == []
    assert scene.responder.next_expiry() is None


def test_a_snapshot_and_the_changes_tell_the_same() -> None:
    """A guard that starts from nothing and takes every change in sequence has what the snapshot has."""
    scene = Scene(ResponderSettings(duration=500.0))
    held: dict[str, str] = {}
    sequence = 0
    for step in range(12):
        response_changes = scene.attack(f"203.0.113.{step % 5}", [f"ag-{step}-{number}" for number in range(3)])
        response_changes.merge(scene.pass_time(120))
        for change in scene.blocklists.changes(response_changes, scene.policies.advance):
            assert change.from_sequence == sequence
            sequence = change.sequence
            for entry in change.removed:
                held.pop(entry.value)
            held.update((entry.value, str(entry.expires_at)) for entry in change.added)
        snapshot = scene.blocklists.snapshot("acme")
        assert {entry.value: str(entry.expires_at) for entry in snapshot.entries} == held
        assert snapshot.sequence == sequence


def full_blocklist(scene: Scene) -> None:
    """Fill an organization's blocklist with the largest entries that there are."""
    reason = "several agents were attacked with this technique"
    scene.responder.entries.load(
        EmergencyEntry(
            id=f"ent-{number}",
            scope="organization",
            target="acme",
            subject=Subject("file_hash", f"{number:064x}", "acme", None),
            reason=reason,
            incident_id="i" * 36,
            created_at=scene.now,
            expires_at=scene.now + 1.123,
        )
        for number in range(ORGANIZATION_EMERGENCY_ENTRIES)
    )


def test_a_full_blocklist_fits_in_its_messages() -> None:
    """Ten thousand entries fit in a snapshot; when all end at once, the changes in sequence each fit in a message."""
    scene = Scene()
    full_blocklist(scene)
    snapshot = scene.blocklists.snapshot("acme")
    assert len(snapshot.entries) == ORGANIZATION_EMERGENCY_ENTRIES
    assert len(snapshot.body()) + 1024 <= BLOCKLIST_LIMIT
    changes = list(scene.blocklists.changes(scene.pass_time(2), scene.policies.advance))
    assert sum(len(change.removed) for change in changes) == ORGANIZATION_EMERGENCY_ENTRIES
    assert max(len(change.body()) for change in changes) + 1024 <= POLICY_LIMIT
    assert [later.from_sequence for later in changes[1:]] == [earlier.sequence for earlier in changes[:-1]]


def test_the_emergency_entries_of_an_agent_fit_in_the_room_kept_for_them() -> None:
    """Two hundred of the largest entries make a policy no larger than the room that documents leave."""
    scene = Scene(ResponderSettings(blocks=1000, agent_share=1.0))
    for number in range(AGENT_EMERGENCY_ENTRIES):
        scene.now += 3.1
        for agent_id in (f"ag-{number}", "ag-x"):
            scene.report(agent_id, file_hash=f"{number:064x}", filePath="/bin/sh")
    sections = scene.policies.effective["ag-x"].resolved.sections
    assert len(sections["blocklist"]["fileHashes"]) == AGENT_EMERGENCY_ENTRIES
    grown = len(canonical(sections)) - len(canonical(scene.policies.of_organization("acme", scene.now).sections))
    assert grown + AGENT_EMERGENCY_ENTRIES * len("i" * 36) <= EMERGENCY_ROOM


def test_an_indicator_and_what_is_in_force_about_it_name_each_other() -> None:
    """From an entry's subject the indicator can be told, with its organization and site."""
    indicator = Indicator("source_ip", "192.168.1.5", "acme", "berlin")
    assert Subject.of(indicator).indicator() == indicator


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([(0.0, False), (0.0, True)], "too few of the agents that reported it have a known clock offset"),
        ([(0.0, True), (0.0, False)], "too few of the agents that reported it have a known clock offset"),
        ([(400.0, True), (200.0, True)], "too few agents reported it within 300 s of the attack"),
        ([(250.0, True), (400.0, True)], "too few agents reported it within 300 s of the attack"),
        ([(350.0, True), (100.0, False)], "too few agents reported it within 300 s of the attack and with a known"),
    ],
)
def test_a_refusal_for_the_reports_times_names_the_true_reason(reports: list[tuple[float, bool]], reason: str) -> None:
    """An unknown clock is not called a late report, and the other way round; the right report is answered then."""
    scene = Scene()
    for number, (late, clock_known) in enumerate(reports):
        scene.report(f"ag-{number}", ip=IP, late=late, clock_known=clock_known)
    response = scene.response(IP)
    assert response.state is ResponseState.REFUSED
    assert response.reason.startswith(reason)
    assert ("clock" in response.reason) == any(not known for _, known in reports)
    for number in range(2):
        scene.report(f"ag-{number}", ip=IP)
    assert scene.response(IP).state is ResponseState.APPLIED
