"""Policies over HTTP: documents set by admins, their history, and agents that poll."""

from pathlib import Path

import httpx2
import pytest

from tests.integration.api.served import Served

pytestmark = pytest.mark.usefixtures("each_system")


def test_a_document_can_be_read_as_it_was_set(served: Served, admin: httpx2.Client) -> None:
    """GET gives back exactly what PUT took, for each scope, and never what the manager fills in."""
    agent = served.enroll("srv-01")
    document = {"thresholds": {"autoRespond": 70}, "blocklist": {"ips": ["198.51.100.7"]}}
    for path in ("global", "organizations/acme", f"agents/{agent.agent_id}"):
        assert admin.get(f"/api/policies/{path}").json()["data"] == {}
        done = admin.put(f"/api/policies/{path}", json=document)
        assert done.status_code == 200, done.text
        read = admin.get(f"/api/policies/{path}").json()
        assert (read["data"], read["author"]) == (document, "admin")
        assert read["revision"] == done.json()["data"]["revision"]


def test_a_change_reaches_the_agents_that_it_touches(served: Served, admin: httpx2.Client) -> None:
    """PUT tells how many agents got a new effective policy, and their poll shows it."""
    inside = served.enroll("a", organization_id="acme")
    served.enroll("b")
    done = admin.put("/api/policies/organizations/acme", json={"thresholds": {"autoRespond": 70}}).json()["data"]
    assert done == {"scope": "organization", "target": "acme", "revision": 2, "changed": True, "agents": 1}
    policy = admin.get(f"/api/policy/agent/{inside.agent_id}").json()["data"]
    assert (policy["version"], policy["thresholds"]["autoRespond"]) == (2, 70)


def test_the_same_document_again_changes_nothing(admin: httpx2.Client) -> None:
    """A PUT of what stands already is no revision."""
    first = admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}}).json()["data"]
    again = admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}}).json()["data"]
    assert first["changed"] is True
    assert again == {**first, "changed": False, "agents": 0}


def test_a_mistyped_document_is_refused_with_all_its_errors(admin: httpx2.Client) -> None:
    """One answer names every error, with what was meant; nothing is set."""
    document = {
        "thresholds": {"autoRespnd": 1, "notifyAndWait": 200}, "colour": "red", "monitors": {"enabled": []},
        "blocklist": {"ips": [{"value": "203.0.113.7", "resaon": "x"}]},
        "response": {"actions": ["blok_ip"], "escalation": {"repeatTreshold": 3}},
        "rules": [{"type": "block_ip", "value": "nowhere"}, {"type": "auto_respond", "valu": 3}],
    }  # fmt: skip
    answer = admin.put("/api/policies/global", json=document)
    assert answer.status_code == 400
    errors = dict(error.split(": ", 1) for error in answer.json()["error"].split("; "))
    expected = {
        "thresholds.notifyAndWait": "less than or equal to 100", "thresholds.autoRespnd": "did you mean autoRespond?",
        "colour": "no such field", "monitors.enabled": "without a detector",
        "blocklist.ips.0.resaon": "did you mean reason?", "response.actions.0": "did you mean block_ip?",
        "response.escalation.repeatTreshold": "did you mean repeatThreshold?", "rules.0.value": "IP address",
        "rules.1.valu": "did you mean value?", "rules.1.value": "confidence",
    }  # fmt: skip
    assert {path: text in errors.get(path, "") for path, text in expected.items()} == dict.fromkeys(expected, True)
    assert admin.get("/api/policies/global").json()["data"] == {}


def test_unknown_fields_are_taken_with_a_warning_where_it_is_asked_for(admin: httpx2.Client) -> None:
    """`allow_unknown` ignores them; all other errors are still errors."""
    options = {"allow_unknown": "true"}
    document = {"thresholds": {"autoRespnd": 1}, "colour": "red"}
    answer = admin.put("/api/policies/global", json=document, params=options).json()
    assert answer["ok"] is True
    assert [warning.partition(":")[0] for warning in answer["warnings"]] == ["thresholds.autoRespnd", "colour"]
    wrong = admin.put("/api/policies/global", json={**document, "monitors": {"enabled": []}}, params=options)
    assert wrong.status_code == 400


def test_a_dry_run_shows_the_effect_and_sets_nothing(served: Served, admin: httpx2.Client) -> None:
    """The differences of effective policies; an unknown agent is 404."""
    served.enroll("srv-01")
    answer = admin.put(
        "/api/policies/global", json={"thresholds": {"autoRespond": 61}}, params={"dry_run": "true"}
    ).json()
    assert (answer["data"]["dryRun"], answer["data"]["changed"]) == (True, True)
    assert "thresholds.autoRespond" in {each["path"] for each in answer["data"]["differences"]}
    assert admin.get("/api/policies/global").json()["data"] == {}
    assert admin.get("/api/policies/history").json()["data"] == []
    unknown = "/api/policies/agents/ag-0000000000000000"
    assert admin.put(unknown, json={"thresholds": {"autoRespond": 61}}, params={"dry_run": "true"}).status_code == 404


def test_a_document_tells_what_nothing_uses_yet(admin: httpx2.Client) -> None:
    """Conditions and custom rules are taken with a warning by name, in a dry run too; off rules are not."""
    document = {
        "rules": [
            {"type": "block_ip", "value": "203.0.113.7", "condition": {"country": "XX", "sourceIp": "203.0.113.7"}},
            {"type": "auto_respond", "condition": {"confidence": 80, "technique": "T1110"}},
            {"type": "block_ip", "condition": {"failures": 9}},
            {"type": "alert_threshold", "config": {"value": "high"}, "condition": "at night"},
            {"type": "custom", "condition": {"x": 1}},
            {"type": "custom", "enabled": False, "condition": {"x": 1}},
        ],
    }  # fmt: skip
    ignored, nothing = (
        "no guard evaluates it yet, so the rule applies",
        "no guard evaluates it yet, so the rule changes",
    )
    expected = [
        ("rules.0.condition.country", ignored),
        ("rules.1.condition.technique", ignored),
        ("rules.2.condition.failures", nothing), ("rules.3.condition", ignored), ("rules.4.condition.x", nothing),
        ("rules.4", "no guard runs custom rules"),
    ]  # fmt: skip
    for options in ({"dry_run": "true"}, {}):
        warnings = admin.put("/api/policies/global", json=document, params=options).json()["warnings"]
        assert [warning.partition(":")[0] for warning in warnings] == [path for path, _ in expected]
        assert all(text in warning for warning, (_, text) in zip(warnings, expected, strict=True))
    posted = admin.post("/api/policy", json={"rules": document["rules"]}).json()
    assert posted["ok"], posted
    assert [warning.partition(":")[0] for warning in posted["warnings"]] == [path for path, _ in expected]


AUTO_80, AUTO_90 = {"type": "auto_respond", "value": 80}, {"type": "auto_respond", "value": 90}
BLOCK = {"type": "block_ip", "value": "203.0.113.7"}


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ([AUTO_80, AUTO_90], "rules.1: it sets thresholds.autoRespond, as rules.0 does, to another value"),
        ([BLOCK, {**BLOCK, "reason": "x"}], "rules.1: it sets blocklist.ips[203.0.113.7], as rules.0 does, to another"),
        ([{"type": "alert_threshold", "value": "high"}, {"type": "alert_threshold", "value": 60}], ""),
        ([AUTO_80, {**AUTO_90, "enabled": False}], ""),
        ([AUTO_80, {"type": "auto_respond", "value": "off"}], ""),
    ],
)
def test_no_rule_replaces_another_silently(admin: httpx2.Client, rules: list[dict[str, object]], error: str) -> None:
    """Two values for one thing are refused, by both routes and by a comparison."""
    document = {"rules": rules}
    for answer in (
        admin.put("/api/policies/global", json=document),
        admin.post("/api/policies/diff", json={"scope": "global", "document": document}),
        admin.post("/api/policy", json=document),
    ):
        assert (answer.status_code == 400) == bool(error), answer.json()
        assert error in answer.json().get("error", "")


def test_a_rule_that_replaces_a_section_is_said(admin: httpx2.Client) -> None:
    """A rule is stronger than the section beside it."""
    answer = admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 60}, "rules": [AUTO_80]}).json()
    assert answer["warnings"] == ["rules.0: it replaces the value of thresholds.autoRespond in this document"]


def test_the_same_rule_twice_is_said(admin: httpx2.Client) -> None:
    """It changes nothing, so it is taken with a warning."""
    rule = {"type": "auto_respond", "value": 80}
    answer = admin.put("/api/policies/global", json={"rules": [rule, rule]}).json()
    assert answer["warnings"] == ["rules.1: it sets thresholds.autoRespond, as rules.0 does, to the same value"]


def test_the_document_of_an_unknown_agent_is_404(admin: httpx2.Client) -> None:
    """Neither read, set nor cleared: there is no such agent."""
    path = "/api/policies/agents/ag-0000000000000000"
    assert admin.get(path).status_code == 404
    assert admin.put(path, json={}).status_code == 404


def test_an_organization_of_another_grammar_is_400(admin: httpx2.Client) -> None:
    """An id that could never be an organization's is refused by name."""
    answer = admin.put("/api/policies/organizations/a%20b", json={})
    assert answer.status_code == 400
    assert "organization_id" in answer.json()["error"]


def test_history_keeps_every_change_newest_first(admin: httpx2.Client) -> None:
    """A document that was taken away stands in the history as null."""
    admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
    admin.delete("/api/policies/global")
    changes = admin.get("/api/policies/history").json()["data"]
    assert [(change["revision"], change["scope"], change["document"]) for change in changes] == [
        (3, "global", None),
        (2, "global", {"thresholds": {"autoRespond": 70}}),
    ]
    assert admin.get("/api/policies/global").json()["data"] == {}


def test_an_agent_that_has_the_version_gets_304(served: Served, admin: httpx2.Client) -> None:
    """The version counts as query, as If-None-Match and as X-Policy-Version; a 304 has no body."""
    agent = served.enroll("srv-01")
    admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
    path = f"/api/policy/agent/{agent.agent_id}"
    with served.client(agent.keys.http_token) as own:
        fresh = own.get(path)
        assert (fresh.status_code, fresh.headers["ETag"]) == (200, '"2"')
        for ask in (
            {"params": {"version": "2"}},
            {"headers": {"If-None-Match": '"2"'}},
            {"headers": {"If-None-Match": 'W/"7", "2"'}},
            {"headers": {"X-Policy-Version": "2"}},
        ):
            answer = own.get(path, **ask)
            assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", '"2"')
        for ask in ({"params": {"version": "1"}}, {"headers": {"If-None-Match": '"1"'}}, {"params": {"version": "9"}}):
            assert own.get(path, **ask).status_code == 200
        assert own.get(path, params={"version": "two"}).status_code == 400


def test_a_policy_has_the_names_of_both_generations(served: Served, admin: httpx2.Client) -> None:
    """The effective policy has its own members and those that earlier guards read."""
    agent = served.enroll("srv-01")
    policy = admin.get(f"/api/policy/agent/{agent.agent_id}").json()["data"]
    assert policy["policyVersion"] == policy["version"] == 1
    assert policy["policyId"].startswith("pol-")
    assert policy["appliedAt"] == policy["updatedAt"]
    assert policy["agentId"] == agent.agent_id
    assert {"rules", "thresholds", "blocklist", "digest"} <= policy.keys()


def test_channels_that_the_manager_does_not_have_are_refused_with_those_there_are(tmp_path: Path) -> None:
    """A misspelled name is answered with the right one, in a document, a group and a preview; unknown fields or not."""
    with Served(tmp_path, channels=frozenset({"pager", "siem"})) as served, served.client() as admin:
        for path, around in (("global", None), ("groups/web", {"selector": {"tagsAny": ["web"]}, "priority": 1})):
            for name, hint in (("pagr", "did you mean pager?"), ("mail", "the manager has pager, siem")):
                document = {"alerting": {"channels": ["siem", name]}}
                body = document if around is None else {**around, "policy": document}
                answer = admin.put(f"/api/policies/{path}", json=body, params={"allow_unknown": "true"})
                assert answer.status_code == 400
                assert "alerting.channels.1: no such channel" in answer.json()["error"]
                assert hint in answer.json()["error"]
        wrong = {"scope": "global", "document": {"alerting": {"channels": ["mail"]}}}
        assert admin.post("/api/policies/diff", json=wrong).status_code == 400
        good = {"alerting": {"channels": ["siem", "pager"]}}
        assert admin.put("/api/policies/global", json=good).status_code == 200


@pytest.mark.parametrize(
    ("quiet", "path"),
    [
        ({"start": "22:00", "end": "07:00", "timeZone": "Europe/Vienna"}, None),
        ({"start": "22:00", "end": "07:00", "timeZone": "Vienna"}, "alerting.quietHours.timeZone"),
        ({"start": "22:00", "end": "07:00", "timeZone": "../../etc/passwd"}, "alerting.quietHours.timeZone"),
        ({"start": "22:00", "end": "22:00", "timeZone": "UTC"}, "alerting.quietHours"),
        ({"start": "24:00", "end": "07:00", "timeZone": "UTC"}, "alerting.quietHours.start"),
        ({"start": "22:00", "end": "07:00"}, "alerting.quietHours.timeZone"),
    ],
)
def test_quiet_hours_are_two_times_of_a_local_day(admin: httpx2.Client, quiet: dict[str, str], path: str) -> None:
    """Their zone is named by its IANA name; anything else is refused by its path."""
    answer = admin.put("/api/policies/global", json={"alerting": {"quietHours": quiet}})
    assert answer.status_code == (200 if path is None else 400)
    assert path is None or answer.json()["error"].startswith(f"{path}: ")
