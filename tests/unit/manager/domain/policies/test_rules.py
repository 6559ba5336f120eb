"""Typed rules: the documented shapes, what they do to the sections, and what is refused with the field named."""

from math import inf
from typing import Any

import pytest

from manager.domain.policies.fleet_policies import GLOBAL, Policies, Scope
from manager.domain.policies.groups import Placement
from manager.domain.policies.layers import read_document
from manager.domain.policies.rules import (
    AlertThreshold,
    AutoRespond,
    BlockIp,
    Custom,
    effects,
    parse_duration,
    parse_rule,
    rule_expiry,
    stamp_rules,
)
from manager.errors import Invalid
from schemas.model import iso
from schemas.threats import Severity

NOW = 1_800_000_000.0
IP = "203.0.113.7"


@pytest.mark.parametrize(
    ("rule", "meaning"),
    [
        ({"type": "block_ip", "value": IP, "duration": "24h", "reason": "scan"}, BlockIp(IP, 86_400.0, "scan")),
        ({"type": "block_ip", "value": "203.0.113.99/24"}, BlockIp("203.0.113.0/24", None, None)),
        ({"type": "block_ip", "value": f"::ffff:{IP}", "duration": "permanent"}, BlockIp(IP, None, None)),
        ({"type": "block_ip", "config": {"ip": IP, "duration": "7d"}, "enabled": True}, BlockIp(IP, 604_800.0, None)),
        (
            {
                "ruleId": "r-1",
                "type": "block_ip",
                "condition": {"sourceIp": IP},
                "action": "block",
                "severity": "high",
                "description": "a scanner",
            },
            BlockIp(IP, None, None),
        ),
        ({"ruleId": "r-2", "type": "block_ip", "condition": IP, "action": "block"}, BlockIp(IP, None, None)),
        ({"type": "alert_threshold", "value": "high"}, AlertThreshold(Severity.HIGH, None)),
        ({"type": "alert_threshold", "config": {"minimumSeverity": "low"}}, AlertThreshold(Severity.LOW, None)),
        ({"type": "alert_threshold", "config": {"threshold": 70}}, AlertThreshold(None, 70.0)),
        (
            {"ruleId": "r-3", "type": "alert_threshold", "condition": {"confidence": 5}, "severity": "critical"},
            AlertThreshold(Severity.CRITICAL, None),
        ),
        ({"type": "auto_respond", "value": 90}, AutoRespond(90.0)),
        ({"type": "auto_respond", "config": {"threshold": 60.5}}, AutoRespond(60.5)),
        ({"type": "auto_respond", "condition": {"confidence": 0}}, AutoRespond(0.0)),
        ({"type": "auto_respond", "value": False}, AutoRespond(None)),
        ({"type": "auto_respond", "value": "off"}, AutoRespond(None)),
        ({"type": "auto_respond", "config": {"enabled": False, "threshold": 80}}, AutoRespond(None)),
        ({"type": "custom", "config": {"anything": [1]}}, Custom()),
    ],
)
def test_each_documented_shape_is_understood(rule: dict[str, Any], meaning: object) -> None:
    """The three shapes of the API say the same in different places, and each is taken by the document's reader."""
    assert parse_rule(rule, "rules.0") == meaning
    assert len(read_document({"rules": [rule]})["rules"]) == 1


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"type": "reboot"}, "rules.0.type"),
        ({}, "rules.0.type"),
        ({"type": "block_ip"}, "rules.0.value"),
        ({"type": "block_ip", "value": 7}, "rules.0.value"),
        ({"type": "block_ip", "config": {"ip": "203.0.113.256"}}, "rules.0.config.ip"),
        ({"type": "block_ip", "condition": {"cidr": "x/8"}}, "rules.0.condition.cidr"),
        ({"type": "block_ip", "condition": "anyone"}, "rules.0.condition"),
        ({"type": "block_ip", "value": "0.0.0.0/0"}, "rules.0.value"),
        ({"type": "block_ip", "value": "::/0"}, "rules.0.value"),
        ({"type": "block_ip", "value": IP, "duration": "1 hour"}, "rules.0.duration"),
        ({"type": "block_ip", "config": {"ip": IP, "duration": 0}}, "rules.0.config.duration"),
        ({"type": "block_ip", "value": IP, "config": {"setAt": "then"}}, "rules.0.config.setAt"),
        ({"type": "alert_threshold"}, "rules.0.value"),
        ({"type": "alert_threshold", "value": "awful"}, "rules.0.value"),
        ({"type": "alert_threshold", "config": {"threshold": 101}}, "rules.0.config.threshold"),
        ({"type": "auto_respond", "value": True}, "rules.0.value"),
        ({"type": "auto_respond", "config": {"threshold": "high"}}, "rules.0.config.threshold"),
        ({"type": "auto_respond", "config": {"threshold": -1}}, "rules.0.config.threshold"),
    ],
)
def test_what_a_rule_does_not_say_is_named(rule: dict[str, Any], field: str) -> None:
    """An error begins with the field that is missing or wrong, where that shape has it, also in a disabled rule."""
    for tried in (rule, {**rule, "enabled": False}):
        with pytest.raises(Invalid, match=rf"^{field.replace('.', '[.]')}: "):
            parse_rule(tried, "rules.0")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2), ("90m", 5400), ("1h", 3600), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600), ("permanent", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    """A number and a unit, or `permanent`."""
    assert parse_duration(text, "duration") == seconds


@pytest.mark.parametrize("text", ["", "0h", "-1h", "1", "h", "1h ", "1.5h", "99999d", "1H", "٣h", None, 0.5, True])
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Anything else is refused rather than guessed, and so is a block of more than ten years."""
    with pytest.raises(Invalid, match=r"^duration: "):
        parse_duration(text, "duration")


def effective(policies: Policies) -> Any:
    """Return the sections of the one agent."""
    return policies.effective["ag-1"].resolved.sections


def set_rules(policies: Policies, at: float, *rules: dict[str, Any]) -> int:
    """Give everybody rules; return the revision that it made, or 0."""
    revision = policies.set(GLOBAL, {"rules": list(rules)}, at, "test")
    policies.recompute(policies.affected_by(GLOBAL), at)
    return revision.revision if revision else 0


@pytest.fixture
def policies() -> Policies:
    policies = Policies()
    policies.assign("ag-1", Placement("acme"), NOW)
    return policies


def test_a_block_rule_is_an_entry_until_its_time_is_over(policies: Policies) -> None:
    """It blocks from when it was set, with its reason; afterwards neither the entry nor the rule is in the policy."""
    set_rules(policies, NOW, {"type": "block_ip", "value": IP, "duration": "2s", "reason": "scan"}, {"type": "custom"})
    assert effective(policies)["blocklist"]["ips"] == [{"value": IP, "reason": "scan", "expiresAt": iso(NOW + 2)}]
    assert policies.next_expiry() == NOW + 2
    assert policies.expire(NOW + 1.9) == []
    assert len(policies.expire(NOW + 2)) == 1
    assert effective(policies)["blocklist"]["ips"] == []
    assert effective(policies)["rules"] == [{"type": "custom"}]


def test_setting_the_same_rules_again_prolongs_nothing(policies: Policies) -> None:
    """A block's time counts from when it was first set, while it lasts; after its end it can be set anew."""
    rule = {"type": "block_ip", "value": IP, "duration": "1h"}
    assert set_rules(policies, NOW, rule) == 2
    assert set_rules(policies, NOW + 60, rule) == 0
    assert set_rules(policies, NOW + 120, rule, {"type": "custom"}) == 3
    assert policies.next_expiry() == NOW + 3600
    written_back = policies.document(GLOBAL)
    assert written_back is not None
    assert policies.set(GLOBAL, written_back, NOW + 180, "test") is None
    policies.expire(NOW + 3600)
    assert set_rules(policies, NOW + 4000, rule) > 0
    assert policies.next_expiry() == NOW + 7600


def test_a_changed_duration_counts_from_when_the_rule_was_set(policies: Policies) -> None:
    """A document that is read, changed and written back keeps its dates."""
    set_rules(policies, NOW, {"type": "block_ip", "value": IP, "duration": "1h"})
    (rule,) = policies.documents[GLOBAL]["rules"]
    set_rules(policies, NOW + 600, {**rule, "duration": "2h"})
    assert policies.next_expiry() == NOW + 7200


def test_what_the_other_rules_do(policies: Policies) -> None:
    """Alert threshold and auto-respond set the members they name; off leaves nothing but notifying."""
    set_rules(
        policies,
        NOW,
        {"type": "alert_threshold", "value": "high"},
        {"type": "alert_threshold", "value": 42},
        {"type": "auto_respond", "value": 91},
    )
    assert effective(policies)["alerting"]["minimumSeverity"] == "high"
    assert effective(policies)["thresholds"] == {"autoRespond": 91.0, "notifyAndWait": 42.0}
    set_rules(policies, NOW, {"type": "auto_respond", "value": False})
    assert effective(policies)["response"]["actions"] == ["notify"]


def test_a_disabled_rule_does_nothing_and_stays(policies: Policies) -> None:
    """It stands in the policy's rules, and in no other section."""
    rule = {"type": "block_ip", "value": IP, "enabled": False}
    set_rules(policies, NOW, rule)
    assert effective(policies)["blocklist"]["ips"] == []
    assert effective(policies)["rules"][0]["value"] == IP


def test_rules_act_in_their_own_layer(policies: Policies) -> None:
    """An agent's own document beats a global rule's threshold, and a global block stays beside the agent's rules."""
    set_rules(policies, NOW, {"type": "auto_respond", "value": 91}, {"type": "block_ip", "value": IP})
    own = Scope("agent", "ag-1")
    policies.set(own, {"thresholds": {"autoRespond": 50}, "rules": [{"type": "custom"}]}, NOW, "test")
    policies.recompute(["ag-1"], NOW)
    assert effective(policies)["thresholds"]["autoRespond"] == 50
    assert effective(policies)["blocklist"]["ips"] == [{"value": IP}]
    assert effective(policies)["rules"] == [{"type": "custom"}]


def test_a_stored_rule_that_is_no_longer_understood_does_no_harm(policies: Policies) -> None:
    """A manager starts with whatever an earlier release stored; such rules do nothing, the rest counts."""
    later = Policies()
    later.load(5, {GLOBAL: {"rules": [{"type": "teleport"}], "thresholds": {"autoRespond": 61}}}, NOW)
    later.restore(
        "ag-1", Placement("acme"), 5, policies.effective["ag-1"].resolved.digest, NOW, published=True, alike={}
    )
    assert effective(later)["thresholds"]["autoRespond"] == 61


@pytest.mark.parametrize("where", ["duration", "config"])
def test_a_number_is_a_duration_in_seconds(where: str) -> None:
    """In the rule itself, where it is stored as text for every guard, or in its config."""
    rule = {"type": "block_ip", "value": "203.0.113.7"}
    rule |= {"duration": 3600} if where == "duration" else {"config": {"duration": 3600}}  # type: ignore[dict-item]
    (read,) = read_document({"rules": [rule]})["rules"]
    assert read.get("duration") == ("3600s" if where == "duration" else None)
    parsed = parse_rule(read, "rules.0")
    assert isinstance(parsed, BlockIp)
    assert parsed.duration == 3600


@pytest.mark.parametrize("duration", [0, -1, True, 1e12, "soon", 0.5])
def test_no_other_number_is_a_duration(duration: object) -> None:
    """Named, with the forms that are."""
    with pytest.raises(Invalid, match="duration"):
        read_document({"rules": [{"type": "block_ip", "value": "203.0.113.7", "duration": duration}]})


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "block_ip", "condition": {"minSeverity": "high"}, "action": "block_ip"},
        {"type": "block_ip", "condition": {}, "duration": "1h"},
        {"type": "auto_respond", "condition": {}, "action": "block_ip"},
        {"type": "auto_respond", "condition": {"severity": "critical"}},
    ],
)
def test_a_rule_with_a_condition_alone_is_left_to_guards(rule: dict[str, object]) -> None:
    """It is taken, changes no other section, expires never and gets no date."""
    document = read_document({"rules": [rule]})
    assert list(effects(document)) == []
    assert rule_expiry(document["rules"][0]) == inf
    assert stamp_rules(document, None, 1.0) == document


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"type": "block_ip"}, "value"),
        ({"type": "block_ip", "condition": {"ip": "nowhere"}}, "condition.ip"),
        ({"type": "auto_respond"}, "value"),
        ({"type": "auto_respond", "condition": {"confidence": 200}}, "condition.confidence"),
    ],
)
def test_a_rule_without_value_and_condition_is_refused(rule: dict[str, object], field: str) -> None:
    """A value in the condition must be right, too."""
    with pytest.raises(Invalid, match=rf"rules\.0\.{field}"):
        read_document({"rules": [rule]})


def test_a_condition_with_an_address_blocks_it() -> None:
    """`condition.ip` is an address like any other."""
    (effect,) = effects(read_document({"rules": [{"type": "block_ip", "condition": {"ip": "203.0.113.7"}}]}))
    assert effect["blocklist"]["ips"][0]["value"] == "203.0.113.7"


@pytest.mark.parametrize("flag", [True, False])
def test_monitors_advanced_is_a_flag_too(*, flag: bool) -> None:
    """It is stored as an object, which guards of every release take."""
    assert read_document({"monitors": {"advanced": flag}}) == {"monitors": {"advanced": {"enabled": flag}}}
