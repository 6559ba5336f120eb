import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.event import KINDS, Event
from manager.notifications.rendering.cloud_event import cloud_event
from manager.notifications.rendering.ecs import document
from manager.notifications.rendering.json_values import encoded
from manager.notifications.told_events import event_message
from tests.unit.manager.notifications.ecs_fields import errors_of
from tests.unit.manager.notifications.messages import AT, HOSTILE, IDENTITY, event, message

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.sampled_from(["203.0.113.9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(
    [
        "sourceIp",
        "user",
        "fileHash",
        "technique",
        "ruleId",
        "process",
        "count",
        "x",
        "",
        "value",
        "values",
        "threats",
        "kind",
        "agents",
    ]
)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_event_is_a_valid_document(name: str) -> None:
    """The document of each event has names, types and values of the ECS reference, and only those."""
    members = {"technique": "T1078", "ruleId": "sshd-login", "fileHash": "A" * 64, "process": "sshd", "count": 3}
    assert errors_of(document(message(event(name, **members)), IDENTITY)) == []


def test_a_summary_is_a_valid_document() -> None:
    """A message that sums up events, and has none of its own, is a valid document with its text."""
    made = document(message(None), IDENTITY)
    assert errors_of(made) == []
    assert "after 12 failures" in made["message"]
    assert made["panguard"]["command"] == "panguard manager blocks add 203.0.113.9 --for 4h"


@given(data=st.dictionaries(MEMBERS, VALUES, max_size=8), name=st.sampled_from(sorted(KINDS)))
def test_whatever_the_data_is_the_document_is_valid_json(data: dict[str, Any], name: str) -> None:
    """Members of any type and text make a document that is valid and that every JSON parser reads."""
    made = document(message(event(name, **data)), IDENTITY)
    assert errors_of(made) == []
    assert json.loads(encoded(made)) == made


def test_fields_of_a_login() -> None:
    """A login's document has address, user, host and time in ECS's own fields."""
    made = document(message(event(user=HOSTILE)), IDENTITY)
    assert made["source"]["ip"] == "203.0.113.9"
    assert made["host"]["name"] == "web-1"
    assert made["message"].startswith("Login as `alice` after 12 failures on `web-1` from `203.0.113.9`, user `")
    assert made["message"].count("\n") == 0
    assert "@everyone" not in made["message"]
    assert made["event"]["outcome"] == "success"
    assert made["@timestamp"] == "2026-09-21T14:13:20.250Z"
    assert AT == 1_790_000_000.25
    assert made["user"]["name"] == HOSTILE.replace("\ud800", "?")
    line = encoded(made)
    assert line.isascii()
    assert b"\x1b" not in line
    assert b"\n" not in line


def _about(name: str, **data: Any) -> Event:
    """Return an event of an organization with no data but these."""
    return Event(41, AT, name, KINDS[name].severity, "acme", data=data)


THREATS = [
    {"id": f"t-{number}", "hostname": f"web-{number % 2}", "sourceIp": f"203.0.113.{number}"} for number in range(5)
]


@pytest.mark.parametrize(
    ("of", "source", "addresses", "text"),
    [
        (
            _about("incident_opened", kind="source_ip", value="203.0.113.9", agents=3),
            "203.0.113.9", ["203.0.113.9"], "incident opened, `203.0.113.9`, 3 agents",
        ),
        (
            _about("incident_response", kind="source_ip", value="203.0.113.9", state="applied", reason="3 agents"),
            "203.0.113.9", ["203.0.113.9"], "incident response, `203.0.113.9`: `3 agents`",
        ),
        (
            _about("threats_reported", count=1, threats=THREATS[:1]),
            "203.0.113.0", ["203.0.113.0"], "1 threat reported on `web-0` from `203.0.113.0`",
        ),
        (
            _about("threats_reported", count=70, threats=THREATS),
            None, [f"203.0.113.{number}" for number in range(5)],
            "70 threats reported on `web-0`, `web-1` from `203.0.113.0`, `203.0.113.1`, `203.0.113.2` and 2 more",
        ),
        (
            _about("blocks_added", count=2, scope="fleet", values=["203.0.113.9", "198.51.100.0/24"]),
            "203.0.113.9", ["203.0.113.9"], "2 blocks added, `203.0.113.9`, scope `fleet`",
        ),
        (
            _about("policy_created", scope="global", revision=7, agents=40),
            None, [], "policy created, 40 agents, revision 7, scope `global`",
        ),
        (_about("incident_opened", kind="file_hash", value="a" * 64, agents=1), None, [],
         f"incident opened, `{'a' * 64}`, 1 agent"),
    ],
    ids=lambda each: each.name if isinstance(each, Event) else "",
)  # fmt: skip
def test_an_event_about_an_address_carries_it(of: Event, source: str | None, addresses: list[str], text: str) -> None:
    """In ECS's own fields, in the CloudEvent's data, and in the sentence, with the number and the hosts."""
    made = document(event_message(of), IDENTITY)
    assert errors_of(made) == []
    assert made.get("source", {}).get("ip") == source
    assert made.get("related", {}).get("ip", []) == addresses
    assert made["message"] == text
    assert made.get("related", {}).get("hash", []) == ([of.data["value"]] if of.data.get("kind") == "file_hash" else [])
    data = cloud_event(event_message(of), IDENTITY)["data"]
    assert (data["addresses"], data["text"]) == (addresses, text)
