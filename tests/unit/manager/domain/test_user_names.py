import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.user_names import UserNames

NAMES = UserNames(b"k" * 32)
PASSWORDS = st.text(min_size=4, max_size=40).filter(lambda text: not text.isspace())


def test_two_characters_and_a_hash() -> None:
    """A mask shows two characters; the same name has the same mask, and another key another one."""
    assert re.fullmatch(r"hu…[0-9a-f]{8}", NAMES.masked("hunter2"))
    assert NAMES.masked("hunter2") == NAMES.masked("hunter2")
    assert NAMES.masked("hunter2") != NAMES.masked("hunter3")
    assert UserNames(b"other" * 8).masked("hunter2") != NAMES.masked("hunter2")


def test_short_names_show_less() -> None:
    """A mask never shows more than half of a name."""
    assert [NAMES.masked(name).partition("…")[0] for name in ("a", "ab", "abc", "abcd")] == ["", "a", "a", "ab"]


def test_accounts_are_shown() -> None:
    """Names that the guard states to be accounts, and root, are shown as they are."""
    assert NAMES.shown({"user": "alice", "userExists": True})["user"] == "alice"
    assert NAMES.shown({"user": "root"})["user"] == "root"
    assert NAMES.of_host("alice", exists=True) == "alice"
    shown = NAMES.shown({"user": "alice", "userExists": True, "targetUser": "hunter2", "targetUserExists": False})
    assert (shown["user"], shown["targetUser"]) == ("alice", NAMES.masked("hunter2"))


@pytest.mark.parametrize("stated", [False, "true", 1, None, [True]])
def test_only_a_plain_true_states_an_account(stated: object) -> None:
    """Whatever else an agent writes, and a guard that states nothing, leaves the name masked."""
    assert NAMES.shown({"user": "hunter2", "userExists": stated})["user"] == NAMES.masked("hunter2")
    assert NAMES.shown({"user": "hunter2"})["user"] == NAMES.masked("hunter2")


@given(password=PASSWORDS, key=st.sampled_from(["user", "targetUser", "username", "userName", "user_name", "users"]))
def test_a_password_stands_nowhere_in_what_is_shown(password: str, key: str) -> None:
    """A name that is no account is in no text of the evidence: neither in a raw line nor in nested members."""
    line = f"sshd[7]: Failed password for invalid user {password} from 203.0.113.9"
    evidence = {key: [password] if key == "users" else password, "raw": line, "more": {"lines": [line, {"x": line}]}}
    before = json.dumps(evidence)
    shown = NAMES.shown(evidence)
    assert json.dumps(evidence) == before
    wanted = rf"(?<!\w){re.escape(password)}(?!\w)"
    if not re.search(wanted, "sshd[7]: Failed password for invalid user  from 203.0.113.9" + NAMES.masked(password)):
        texts = [shown["raw"], shown["more"]["lines"][0], shown["more"]["lines"][1]["x"]]
        assert not any(re.search(wanted, text) for text in texts)
    assert password not in (shown[key] if key == "users" else [shown[key]])


def test_other_members_are_kept() -> None:
    """Words that contain the name, numbers and addresses are unchanged."""
    evidence = {
        "user": "host",
        "raw": "host on localhost",
        "sourceIp": "203.0.113.9",
        "count": 3,
        "deep": [None, 1.5, True],
    }
    shown = NAMES.shown(evidence)
    assert shown["raw"] == f"{NAMES.masked('host')} on localhost"
    assert {**shown, "user": 0, "raw": 0} == {**evidence, "user": 0, "raw": 0}


def test_what_is_nested_too_deep_is_left_out() -> None:
    """A nesting that is not examined is not shown."""
    deep: object = "hunter2"
    for _ in range(40):
        deep = [deep]
    assert "hunter2" not in json.dumps(NAMES.shown({"user": "hunter2", "deep": deep}))
