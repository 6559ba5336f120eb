import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.event import KINDS
from manager.notifications.rendering.ecs import document
from manager.notifications.rendering.json_values import encoded
from tests.unit.manager.notifications.ecs_fields import errors_of
from tests.unit.manager.notifications.messages import AT, HOSTILE, IDENTITY, event, message

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.sampled_from(["203.0.113.9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(["sourceIp", "user", "fileHash", "technique", "ruleId", "process", "count", "x", ""])


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
