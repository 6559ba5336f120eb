"""`guard install` on a host with a fence.conf: it changes what an enrollment says, and keeps what an operator set."""

import tomllib
from pathlib import Path

import pytest

from agent.cli.fence_configuration import EnrollmentNames, missing_from_never, names_of, new, updated
from agent.connection.identity import Enrolled, IdentityFile
from agent.errors import ConfigurationError
from fence.config import build
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.succession import signed_link

KEY, OTHER_KEY = (ManagerKeyring(bytes([number]) * 32).sign_public for number in (0, 1))
AGENT, NEXT = "ag-0123456789abcdef", "ag-fedcba9876543210"
PATH = Path("/etc/panguard/fence.conf")

OPERATORS = f"""# ours
guard_uid = 10001   # by number
sign_keys = [
  "{KEY}",  # the first manager
]
agent_id = "{AGENT}"
organization_id = "acme"
protected_ports = [22, 443]
never = ["192.0.2.0/24"]"""


def test_a_new_enrollment_changes_its_settings_alone() -> None:
    """Key, agent and organization are those of the enrollment; each other line is the operator's."""
    text, changes = updated(OPERATORS, EnrollmentNames(OTHER_KEY, OTHER_KEY, NEXT, "other"), PATH)
    assert text.splitlines() == [
        "# ours",
        "guard_uid = 10001   # by number",
        f'sign_keys = ["{OTHER_KEY}"]',
        f'agent_id = "{NEXT}"',
        'organization_id = "other"',
        "protected_ports = [22, 443]",
        'never = ["192.0.2.0/24"]',
    ]
    assert [each.partition(":")[0] for each in changes] == ["sign_keys", "agent_id", "organization_id"]
    assert changes[1] == f'agent_id: "{NEXT}", instead of "{AGENT}"'


def test_the_same_enrollment_changes_nothing() -> None:
    """A second run keeps each byte, and a second key that root has added."""
    names = EnrollmentNames(KEY, KEY, AGENT, "acme")
    assert updated(OPERATORS, names, PATH) == (OPERATORS, [])
    both = OPERATORS.replace(f'"{KEY}",', f'"{OTHER_KEY}", "{KEY}",')
    assert updated(both, names, PATH) == (both, [])


def test_the_guards_word_changes_no_key() -> None:
    """Without a token the key that the guard has stored is not taken: only root names whom the fence trusts."""
    text, _ = updated(OPERATORS, EnrollmentNames("", OTHER_KEY, AGENT, "acme"), PATH)
    assert tomllib.loads(text)["sign_keys"] == [KEY]


def test_with_a_token_of_another_manager_the_names_are_left_to_its_messages() -> None:
    """They are not known before the guard has registered there."""
    text, changes = updated(OPERATORS, EnrollmentNames(OTHER_KEY, KEY, is_other_manager=True), PATH)
    config = build(tomllib.loads(text))
    assert (config.agent_id, config.organization_id) == ("", "")
    assert f'agent_id: left to the signed policy, instead of "{AGENT}"' in changes
    again, changes = updated(text, EnrollmentNames(OTHER_KEY, OTHER_KEY, NEXT, "other"), PATH)
    assert (tomllib.loads(again)["agent_id"], "organization_id" in tomllib.loads(again)) == (NEXT, False)
    assert changes == [f'agent_id: "{NEXT}"']


def test_a_file_without_the_settings_gets_them_at_its_end() -> None:
    """It needs no comment of ours."""
    text, _ = updated("never = []", EnrollmentNames(KEY, KEY, AGENT, "acme"), PATH)
    assert text.splitlines() == ["never = []", f'sign_keys = ["{KEY}"]', f'agent_id = "{AGENT}"']


def test_a_file_that_is_no_toml_is_left_with_the_remedy() -> None:
    """It may be an operator's unfinished work."""
    with pytest.raises(ConfigurationError, match=r"is no TOML .*mend it, or remove it"):
        updated("never = [", EnrollmentNames(KEY), PATH)


@pytest.mark.parametrize("names", [EnrollmentNames(), EnrollmentNames(KEY), EnrollmentNames("", KEY, AGENT, "acme")])
def test_a_new_file_names_no_organization(names: EnrollmentNames) -> None:
    """So the host follows its agent; the fence can read it."""
    document = tomllib.loads(new("root", names, ["203.0.113.5"]))
    config = build({**document, "guard_uid": 10_001})
    assert config.organization_id == ""
    assert config.agent_id == names.agent_id
    assert len(config.sign_keys) == bool(names.sign_key or names.registered_key)


def test_an_address_of_the_manager_that_never_lacks_is_named() -> None:
    """Its list is the operator's, so it is said and not changed."""
    assert list(missing_from_never(OPERATORS, ["192.0.2.7", "203.0.113.5"])) == ["203.0.113.5"]
    assert list(missing_from_never('never = ["not one"]', ["192.0.2.7"])) == ["192.0.2.7"]


def test_the_names_are_those_of_the_guards_registration(tmp_path: Path) -> None:
    """Unless the token is of another manager."""
    assert names_of(None, tmp_path, over_http=False) == EnrollmentNames()
    IdentityFile(tmp_path, over_http=False).enroll(Enrolled(AGENT, "acme", KEY), 1)
    token = EnrollmentToken.new(KEY)
    assert names_of(token, tmp_path, over_http=False) == EnrollmentNames(KEY, KEY, AGENT, "acme")
    assert names_of(EnrollmentToken.new(OTHER_KEY), tmp_path, over_http=False) == EnrollmentNames(
        OTHER_KEY, KEY, is_other_manager=True
    )


@pytest.mark.parametrize("named", [KEY, OTHER_KEY])
def test_a_token_from_before_or_after_a_rotation_is_of_the_same_manager(tmp_path: Path, named: str) -> None:
    """A guard that has followed the manager's key to its successor keeps its names with either token."""
    pair = (ManagerKeyring(bytes([number]) * 32).sign_key for number in (0, 1))
    link = signed_link(*pair, number=1, now=1_800_000_000.0)
    IdentityFile(tmp_path).enroll(Enrolled(AGENT, "acme", KEY, successions=(link,)), 0)
    token = EnrollmentToken.new(named)
    assert names_of(token, tmp_path, over_http=False) == EnrollmentNames(named, OTHER_KEY, AGENT, "acme")
    assert names_of(None, tmp_path, over_http=False).registered_key == OTHER_KEY
