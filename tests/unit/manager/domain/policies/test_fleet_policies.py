"""Effective policies: layers, expiry, emergency entries, urgency, history, and what is really in force."""

import gc
from typing import Any

import pytest

from manager.domain.agents.agent import Agent, Credential, Door, InForce
from manager.domain.agents.host import Host
from manager.domain.policies.diff import Difference, diff, is_urgent
from manager.domain.policies.drift import drifts
from manager.domain.policies.fleet_policies import GLOBAL, Alike, Emergency, Policies, Scope
from manager.domain.policies.groups import Placement
from manager.domain.policies.layers import EmergencyBlock, RaisedSensitivity, read_document
from manager.domain.policies.preview import preview
from manager.domain.policies.revision_history import differences, documents_at
from manager.domain.response.progress import ProgressTracker
from manager.errors import Invalid
from schemas.model import iso
from schemas.policy import default_sections

ACME = Scope("organization", "acme")
NOW = 1_800_000_000.0


def fleet(agents: int = 3) -> Policies:
    """Return policies with so many agents of one organization."""
    policies = Policies()
    for number in range(agents):
        policies.assign(f"ag-{number}", Placement("acme"), NOW)
    return policies


def change(policies: Policies, scope: Scope, document: dict[str, Any] | None, at: float = NOW) -> list[str]:
    """Set a document as the engine does; return the agents whose policy changed."""
    policies.set(scope, document, at, "test")
    return [policy.agent_id for policy in policies.recompute(policies.affected_by(scope), at)]


def ips(policies: Policies, agent_id: str = "ag-0") -> list[str]:
    """Return the addresses that an agent blocks."""
    entries = policies.effective[agent_id].resolved.sections["blocklist"]["ips"]
    return [entry["value"] if isinstance(entry, dict) else entry for entry in entries]


def block(value: str, expires_at: float) -> EmergencyBlock:
    """Return an emergency entry."""
    return EmergencyBlock(value, "several agents", "inc-1", expires_at)


def test_layers_lie_over_each_other() -> None:
    """Defaults, global, organization, agent, emergency entries: mappings merge, block- and allowlists unite."""
    policies = fleet()
    change(policies, GLOBAL, {"thresholds": {"autoRespond": 90}, "blocklist": {"ips": ["203.0.113.1"]}})
    change(policies, ACME, {"thresholds": {"notifyAndWait": 40}, "blocklist": {"ips": ["203.0.113.2"]}})
    change(policies, Scope("agent", "ag-0"), {"thresholds": {"autoRespond": 70}, "monitors": {"enabled": ["log"]}})
    policies.set_emergency({"ag-0": Emergency(addresses=(block("203.0.113.3", NOW + 60),))}, NOW)
    sections = policies.effective["ag-0"].resolved.sections
    assert sections["thresholds"] == {"autoRespond": 70, "notifyAndWait": 40}
    assert sections["monitors"]["enabled"] == ["log"]
    assert ips(policies) == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
    assert policies.effective["ag-0"].resolved.scope == "agent"
    assert policies.effective["ag-1"].resolved.scope == "organization"
    assert policies.effective["ag-1"].resolved.sections["thresholds"]["autoRespond"] == 90


def test_a_change_touches_each_agent_once_and_one_that_alters_nothing_nobody() -> None:
    """A global change gives each of 1,000 agents one new version; the same document again gives none."""
    policies = fleet(1000)
    assert len(change(policies, GLOBAL, {"thresholds": {"autoRespond": 90.0}})) == 1000
    assert {policy.version for policy in policies.effective.values()} == {2}
    assert policies.set(GLOBAL, {"thresholds": {"autoRespond": 90.0}}, NOW, "test") is None
    assert change(policies, ACME, {"thresholds": {"autoRespond": 90.0}}) == []


def test_agents_without_layers_of_their_own_share_one_policy() -> None:
    """However many agents and changes: one object for all that have nothing of their own, one for equal entries."""
    policies = fleet(50)
    for threshold in range(60, 70):
        change(policies, GLOBAL, {"thresholds": {"autoRespond": threshold}})
    policies.assign("ag-new", Placement("acme"), NOW)
    assert len({id(policy.resolved) for policy in policies.effective.values()}) == 1
    emergency = {f"ag-{number}": Emergency(sensitivity=RaisedSensitivity(NOW + 60, 10, 50)) for number in range(20)}
    policies.set_emergency(emergency, NOW)
    assert len({id(policy.resolved) for policy in policies.effective.values()}) == 2
    policies.expire(NOW + 61)
    assert len({id(policy.resolved) for policy in policies.effective.values()}) == 1
    gc.collect()
    assert len(policies._resolved) == 1


@pytest.mark.parametrize("where", ["global", "emergency"])
def test_entries_end_on_time(where: str) -> None:
    """An entry is in the policy until its `expiresAt`, then a new version goes without it, once."""
    policies = fleet()
    if where == "global":
        entry = {"value": "203.0.113.1", "expiresAt": iso(NOW + 2)}
        change(policies, GLOBAL, {"blocklist": {"ips": [entry, "203.0.113.2"]}})
    else:
        change(policies, GLOBAL, {"blocklist": {"ips": ["203.0.113.2"]}})
        policies.set_emergency({"ag-0": Emergency(addresses=(block("203.0.113.1", NOW + 2),))}, NOW)
    before = policies.effective["ag-0"].version
    assert policies.next_expiry() == NOW + 2
    assert policies.expire(NOW + 1.999) == []
    assert "203.0.113.1" in ips(policies)
    changed = policies.expire(NOW + 2)
    assert {policy.agent_id for policy in changed} == ({"ag-0", "ag-1", "ag-2"} if where == "global" else {"ag-0"})
    assert ips(policies) == ["203.0.113.2"]
    assert all(policy.version > before and not policy.published and policy.urgent for policy in changed)
    assert policies.expire(NOW + 3) == []
    assert policies.next_expiry() is None


def test_a_document_that_was_replaced_ends_nothing() -> None:
    """The end of an entry that is no longer in a document touches nobody."""
    policies = fleet()
    change(policies, GLOBAL, {"blocklist": {"ips": [{"value": "203.0.113.1", "expiresAt": iso(NOW + 2)}]}})
    change(policies, GLOBAL, {"blocklist": {"ips": [{"value": "203.0.113.1", "expiresAt": iso(NOW + 9)}]}})
    assert policies.next_expiry() == NOW + 9
    assert policies.expire(NOW + 5) == []
    assert ips(policies) == ["203.0.113.1"]


def test_what_expired_while_the_manager_was_down_is_gone_when_it_is_back() -> None:
    """Restored later, agents whose entries have ended get a new version, all the same one; others keep theirs."""
    policies = fleet()
    change(policies, GLOBAL, {"blocklist": {"ips": [{"value": "203.0.113.1", "expiresAt": iso(NOW + 2)}]}})
    emergency = {"ag-1": Emergency(addresses=(block("203.0.113.3", NOW + 500),))}
    policies.set_emergency(emergency, NOW)
    for at, changed in ((NOW + 1, []), (NOW + 60, ["ag-0", "ag-1", "ag-2"])):
        again = Policies()
        again.load(policies.revision, policies.documents, at, emergency)
        alike: Alike = {}
        restored = [
            again.restore(
                each.agent_id,
                Placement("acme"),
                each.version,
                each.resolved.digest,
                each.updated_at,
                published=True,
                alike=alike,
            )
            for each in policies.effective.values()
        ]
        assert [policy.agent_id for policy in restored if policy] == changed
        assert again.revision == policies.revision + bool(changed)
        assert all(policy.version == again.revision for policy in restored if policy)
        assert "203.0.113.3" in ips(again, "ag-1")
        assert "203.0.113.3" not in ips(again, "ag-0")
        assert again.effective["ag-0"].resolved is again.effective["ag-2"].resolved
        assert again.expire(at) == []


@pytest.mark.parametrize(
    ("allowed", "left"),
    [
        (["203.0.113.7"], ["2001:db8::1", "203.0.113.0/24"]),
        (["203.0.113.0/25"], ["2001:db8::1", "203.0.113.0/24"]),
        (["203.0.112.0/23"], ["2001:db8::1"]),
        (["2001:db8::/32"], ["203.0.113.0/24", "203.0.113.7"]),
        (["0.0.0.0/0", "::/0"], []),
        (["198.51.100.1"], ["2001:db8::1", "203.0.113.0/24", "203.0.113.7"]),
    ],
)
def test_the_allowlist_beats_the_blocklist(allowed: list[str], left: list[str]) -> None:
    """The allowlist of any layer removes addresses from the blocklist, also as part of an allowed CIDR."""
    policies = fleet()
    change(policies, Scope("agent", "ag-0"), {"blocklist": {"ips": ["203.0.113.7", {"value": "203.0.113.0/24"}]}})
    policies.set_emergency({"ag-0": Emergency(addresses=(block("2001:db8::1", NOW + 60),))}, NOW)
    change(policies, GLOBAL, {"allowlist": {"ips": allowed}})
    assert ips(policies) == left


def test_an_allowlisted_hash_is_not_blocked() -> None:
    """The allowlist beats emergency entries of hashes, too."""
    policies = fleet()
    policies.set_emergency({"ag-0": Emergency(file_hashes=(block("ab" * 32, NOW + 60),))}, NOW)
    assert change(policies, GLOBAL, {"allowlist": {"fileHashes": ["ab" * 32]}}) == ["ag-0", "ag-1", "ag-2"]
    assert policies.effective["ag-0"].resolved.sections["blocklist"]["fileHashes"] == []


def test_of_two_entries_with_one_value_the_longer_one_counts() -> None:
    """A permanent block of the operator's is not shortened by an emergency entry."""
    policies = fleet()
    change(policies, GLOBAL, {"blocklist": {"ips": ["203.0.113.1"]}})
    policies.set_emergency({"ag-0": Emergency(addresses=(block("203.0.113.1", NOW + 2),))}, NOW)
    policies.expire(NOW + 3)
    assert ips(policies) == ["203.0.113.1"]


def test_only_blocks_and_switching_off_are_urgent() -> None:
    """A changed block, in either direction, and auto-respond off are urgent; other changes are not."""
    urgent = {
        "block": {"blocklist": {"ips": ["203.0.113.1"]}},
        "off": {"response": {"actions": ["notify"]}},
        "rule": {"rules": [{"type": "auto_respond", "value": False}]},
    }
    ordinary = {
        "threshold": {"thresholds": {"autoRespond": 70}},
        "alerting": {"alerting": {"minimumSeverity": "low"}},
        "fewer": {"response": {"actions": ["block_ip", "notify"]}},
    }
    for document in [*urgent.values(), *ordinary.values()]:
        policies = fleet(1)
        change(policies, GLOBAL, document)
        assert policies.effective["ag-0"].urgent is (document in list(urgent.values()))
    policies = fleet(1)
    change(policies, GLOBAL, urgent["block"])
    change(policies, GLOBAL, {**urgent["block"], **ordinary["threshold"]})
    assert policies.effective["ag-0"].urgent, "an urgent change that is not published yet stays urgent"
    policies.effective["ag-0"].published = True
    change(policies, GLOBAL, {**urgent["block"], **ordinary["alerting"]})
    assert not policies.effective["ag-0"].urgent
    assert is_urgent(policies.effective["ag-0"].resolved.sections, default_sections())


def test_history_can_be_looked_at_compared_and_gone_back_to() -> None:
    """The documents of any revision can be had; going back is as many new revisions as scopes differ."""
    policies = fleet()
    history = [
        policies.set(GLOBAL, {"thresholds": {"autoRespond": 90}}, NOW, "ann"),
        policies.set(ACME, {"blocklist": {"ips": ["203.0.113.1"]}}, NOW, "ann"),
        policies.set(GLOBAL, {"thresholds": {"autoRespond": 60}}, NOW, "bob"),
        policies.set(ACME, None, NOW, "bob"),
        policies.set(Scope("agent", "ag-1"), {"monitors": {"enabled": []}}, NOW, "bob"),
    ]
    kept = [revision for revision in reversed(history) if revision]
    then = documents_at(kept, 3)
    assert then == {GLOBAL: {"thresholds": {"autoRespond": 90}}, ACME: {"blocklist": {"ips": ["203.0.113.1"]}}}
    found = differences(documents_at(kept, 6), then)
    assert found[GLOBAL] == [Difference("thresholds.autoRespond", 60, 90)]
    assert found[ACME] == [Difference("blocklist.ips[203.0.113.1]", None, "203.0.113.1")]
    revisions = policies.rollback(then, NOW + 1, "eve")
    assert [revision.revision for revision in revisions] == [7, 8, 9]
    assert policies.documents == then
    assert differences(documents_at([*kept, *revisions], 9), then) == {}
    assert policies.rollback(then, NOW + 2, "eve") == []


def test_a_rollback_brings_no_expired_block_and_no_removed_agent_back() -> None:
    """A rule is as old as it was when it was set, and the document of a removed agent stays away."""
    policies = fleet()
    change(policies, GLOBAL, {"rules": [{"type": "block_ip", "value": "203.0.113.1", "duration": "1h"}]})
    change(policies, Scope("agent", "ag-1"), {"monitors": {"enabled": []}})
    then = dict(policies.documents)
    change(policies, GLOBAL, None)
    policies.forget("ag-1")
    policies.rollback(then, NOW + 7200, "eve")
    policies.recompute(policies.affected_by(GLOBAL), NOW + 7200)
    assert ips(policies) == []
    assert list(policies.documents) == [GLOBAL]


def test_a_difference_names_the_member() -> None:
    """Members by path, entries of block- and allowlists by value, other lists as a whole."""
    before = {"monitors": {"enabled": ["log"], "advanced": {"a": {"b": 1}}}, "blocklist": {"ips": ["203.0.113.1"]}}
    after = {
        "monitors": {"enabled": ["log", "file"], "advanced": {"a": {"b": 2}}},
        "blocklist": {"ips": [{"value": "203.0.113.1", "reason": "x"}]},
        "rules": [],
    }
    assert diff(before, after) == [
        ("blocklist.ips[203.0.113.1]", "203.0.113.1", {"value": "203.0.113.1", "reason": "x"}),
        ("monitors.advanced.a.b", 1, 2),
        ("monitors.enabled", ["log"], ["log", "file"]),
        ("rules", None, []),
    ]
    assert diff(after, after) == []


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"thresholds": {"autoRespond": 101}}, "thresholds.autoRespond"),
        ({"blocklist": {"ips": ["nonsense"]}}, "blocklist.ips.0"),
        ({"blocklist": {"ips": [{"value": "203.0.113.1", "expiresAt": "soon"}]}}, "blocklist.ips.0"),
        ({"alerting": {"minimumSeverity": "awful"}}, "alerting.minimumSeverity"),
        ({"rules": [{"type": "custom"}, {"type": "reboot"}]}, "rules.1.type"),
        ({"rules": [{"type": "block_ip", "value": "nonsense"}]}, "rules.0.value"),
        ("text", ""),
    ],
)
def test_a_document_that_is_none_is_refused_with_the_field_named(document: Any, field: str) -> None:
    """An operator's document is kept as a whole or not at all, and the error names the place."""
    with pytest.raises(Invalid, match=f"^{field}"):
        read_document(document)


def test_a_document_with_a_bad_rule_changes_nothing() -> None:
    """A rule that says nothing useful is refused by preview and set alike, and the revision stays."""
    policies = fleet()
    document = {"rules": [{"type": "block_ip", "value": "203.0.113.1", "duration": "soon"}]}
    with pytest.raises(Invalid, match=r"^rules\.0\.duration"):
        preview(policies, GLOBAL, document)
    with pytest.raises(Invalid, match=r"^rules\.0\.duration"):
        policies.set(GLOBAL, document, NOW, "test")
    assert (policies.revision, policies.documents) == (1, {})


def agent(number: int, in_force: InForce) -> Agent:
    """Return an agent that says what it has in force."""
    credential = Credential(b"")
    host = Host.of("web", "Debian", "x64", "1")
    return Agent(number, f"ag-{number}", "acme", host, credential, None, Door.MQTT, NOW, in_force=in_force)


def test_drift_is_what_guards_say_they_do_not_have() -> None:
    """The right digest, fully applied, is no drift under whatever version; everything else is, with the difference."""
    policies = fleet(6)
    change(policies, GLOBAL, {"thresholds": {"autoRespond": 70}})
    digest = policies.effective["ag-0"].resolved.digest
    said = [
        InForce.of(2, digest, "applied"),
        InForce.of(1, digest, "applied"),
        InForce.of(1, "0" * 64, "applied"),
        InForce.of(2, digest, "partial", error="detection: bad rule"),
        InForce(),
        InForce.of(2),
    ]
    found = list(drifts([agent(number, force) for number, force in enumerate(said)], policies.effective, {}))
    assert [drift.agent_id for drift in found] == ["ag-2", "ag-3", "ag-4"]
    assert (found[1].state, found[1].error, found[1].version) == ("partial", "detection: bad rule", 2)


def test_another_mode_than_the_policy_sets_is_drift() -> None:
    """With the right policy in force, too; not where the policy sets no mode, or the agent states none."""
    policies = fleet(4)
    change(policies, GLOBAL, {"mode": "protection"})
    change(policies, Scope("agent", "ag-3"), {"mode": "learning"})
    agents = [agent(n, InForce.of(9, policies.effective[f"ag-{n}"].resolved.digest, "applied")) for n in range(4)]
    for each, mode in zip(agents, ("learning", "protection", None, "protection"), strict=True):
        each.vitals.mode = mode
    found = [(each.agent_id, each.mode, each.policy_mode) for each in drifts(agents, policies.effective, {})]
    assert found == [("ag-0", "learning", "protection"), ("ag-3", "protection", "learning")]
    change(policies, GLOBAL, None)
    change(policies, Scope("agent", "ag-3"), None)
    for each in agents:
        each.in_force.update(9, policies.effective[each.agent_id].resolved.digest, "applied", None, 1.0)
    assert list(drifts(agents, policies.effective, {})) == []


def test_a_blocklist_that_is_behind_is_drift() -> None:
    """An agent with the right policy and an older sequence of its organization's blocklist differs, but over HTTP."""
    policies = fleet(3)
    digest = policies.effective["ag-0"].resolved.digest
    agents = [agent(n, InForce.of(2, digest, "applied", blocklist_sequence=4 + n % 2)) for n in range(3)]
    agents[2].door = Door.HTTP
    (found,) = drifts(agents, policies.effective, {"acme": 5, "other": 9})
    assert (found.agent_id, found.blocklist_sequence, found.blocklist_in_force) == ("ag-0", 5, 4)


def test_time_to_immunity_is_measured_at_half_nearly_all_and_all() -> None:
    """Seconds from the first report until that part of the targets said that it has the response in force."""
    watch = ProgressTracker()
    agents = [f"ag-{number}" for number in range(20)]
    watch.track("inc-1", agents, medium="policy", number=7, reported_at=NOW, published_at=NOW + 0.5)
    immunity = watch.get("inc-1")
    assert immunity is not None
    for number, agent_id in enumerate(agents):
        assert watch.applied(agent_id, "policy", 6, NOW + 0.1) == []
        watch.applied(agent_id, "policy", 7 + number, NOW + 1 + number)
        watch.applied(agent_id, "policy", 99, NOW + 1000)
        if number == 9:
            assert immunity.summary() == {50: 10.0, 95: None, 100: None}
    assert immunity.summary() == {50: 10.0, 95: 19.0, 100: 20.0}
    assert immunity.is_complete


def test_immunity_counts_every_target_once() -> None:
    """An agent that has the block by its own policy is no second target when the organization's list has it too."""
    watch = ProgressTracker()
    watch.track("inc-1", ["ag-1", "ag-2"], medium="policy", number=2, reported_at=NOW, published_at=NOW)
    watch.applied("ag-1", "policy", 2, NOW + 1)
    watch.track("inc-1", ["ag-1", "ag-2", "ag-3"], medium="blocklist", number=3, reported_at=NOW, published_at=NOW)
    watch.applied("ag-1", "blocklist", 3, NOW + 2)
    watch.applied("ag-3", "blocklist", 3, NOW + 4)
    watch.forget_agent("ag-2")
    immunity = watch.stop("inc-1")
    assert immunity is not None
    assert (immunity.targets, immunity.summary()) == (2, {50: 1.0, 95: 4.0, 100: 4.0})
    assert (len(watch), watch._awaited) == (0, {})


def test_immunity_is_followed_for_so_many_incidents_only() -> None:
    """The oldest is given up for a new one, with what is known of it."""
    watch = ProgressTracker(most=2)
    given_up = []
    for number in range(5):
        given_up += watch.track(
            f"inc-{number}", ["ag-1"], medium="policy", number=number, reported_at=NOW, published_at=NOW
        )
    assert [immunity.incident_id for immunity in given_up] == ["inc-0", "inc-1", "inc-2"]
    assert {immunity.incident_id for immunity in watch.applied("ag-1", "policy", 9, NOW + 1)} == {"inc-3", "inc-4"}


def test_the_mode_of_a_document_is_published_in_its_response_section() -> None:
    """It is in the digest, a narrower scope's beats a wider one's, and the operator's document keeps its form."""
    policies = fleet(1)
    before = policies.effective["ag-0"].resolved
    assert "mode" not in before.sections["response"]
    change(policies, GLOBAL, {"mode": "learning"})
    change(policies, Scope("organization", "acme"), {"mode": "protection", "response": {"actions": []}})
    after = policies.effective["ag-0"].resolved
    assert (after.sections["response"]["mode"], after.sections["response"]["actions"]) == ("protection", [])
    assert "mode" not in after.sections
    assert after.digest != before.digest
    assert policies.document(GLOBAL) == {"mode": "learning"}


def test_a_target_with_an_exception_has_not_reached_the_response() -> None:
    """An agent that names the version but lists the value among its exceptions is awaited further."""
    watch = ProgressTracker()
    watch.track(
        "inc-1", ["ag-1"], medium="policy", number=4, reported_at=NOW, published_at=NOW, value="203.0.113.66"
    )  # fmt: skip
    assert watch.applied("ag-1", "policy", 5, NOW + 1, frozenset({"203.0.113.66"})) == []
    (progress,) = watch.applied("ag-1", "policy", 5, NOW + 2, frozenset({"203.0.113.67"}))
    assert progress.summary()[100] == 2.0
