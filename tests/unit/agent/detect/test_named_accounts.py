"""Reports state whether the user that they name is an account of the host: a mistyped password is none."""

import os
import pwd

import pytest

from agent.accounts import HostAccounts
from tests.support.accounts import FakeAccounts
from tests.support.ssh_story import SshStory

A = "203.0.113.7"


@pytest.mark.parametrize(("user", "exists"), [("alice", True), ("invalid user hunter2", False)])
def test_failed_ssh_logins(user: str, exists: bool) -> None:
    """Of ssh logins sshd itself says whether the user exists, also of a log of another host."""
    story = SshStory(FakeAccounts(another_host=True))
    for second in range(5):
        story.fail(second, A, user)
    evidence = story.verdicts[0].evidence
    assert evidence["user"] == user.removeprefix("invalid user ")
    assert evidence["userExists"] is exists


def test_a_user_whose_attempts_are_forgotten_is_not_stated() -> None:
    """Of the most tried name, if none of its attempts is among the last ten, nothing is stated."""
    story = SshStory()
    for second in range(10):
        story.fail(second, A, "alice")
    for second in range(10, 20):
        story.fail(second, A, f"invalid user x{second}")
    last = story.verdicts[-1].evidence
    assert last["user"] == "alice"
    assert "userExists" not in last


def test_sprays() -> None:
    """A spray for one name states it of that name."""
    for user, exists in (("alice", True), ("invalid user hunter2", False)):
        story = SshStory()
        for number in range(20):
            story.fail(60.0 * number, f"203.0.113.{number}", user)
        (verdict,) = [each for each in story.verdicts if each.rule_id == "sshd-password-spray"]
        assert verdict.evidence["userExists"] is exists


def test_logins_are_of_accounts() -> None:
    """Whoever has logged in has an account."""
    story = SshStory()
    for second in range(5):
        story.fail(second, A, "bob")
    (verdict,) = [each for each in story.login(10, A, "bob") if each.type == "login_after_failures"]
    assert (verdict.evidence["user"], verdict.evidence["userExists"]) == ("bob", True)


def test_a_password_at_the_console() -> None:
    """A name at the console's login prompt that is no account is stated to be none; of another host nothing is."""
    for accounts, stated in ((FakeAccounts(strangers={"hunter2"}), False), (FakeAccounts(another_host=True), None)):
        story = SshStory(accounts)
        for second in range(5):
            line = "FAILED LOGIN (1) on '/dev/tty1' FOR 'hunter2', Authentication failure"
            story.log(second, line, program="login")
        evidence = story.verdicts[0].evidence
        assert evidence["user"] == "hunter2"
        assert evidence.get("userExists") is stated


def test_accounts_of_the_host() -> None:
    """The user database says who exists; it says nothing of the users of another host's log."""
    own = pwd.getpwuid(os.getuid()).pw_name
    assert HostAccounts().exists(own) is True
    assert HostAccounts().exists("hunter2-is-nobody") is False
    assert HostAccounts().exists("nul\0") is False
    assert HostAccounts(unknown=True).exists(own) is None
    assert HostAccounts(unknown=True).exists("hunter2-is-nobody") is None
