"""Wrong passwords of sudo, su and the console are counted by user."""

import pytest

from tests.support.ssh_story import SshStory

PAM = (
    "pam_unix({service}:auth): authentication failure; logname=bob uid=1001 euid=0 tty=/dev/pts/0 ruser=bob rhost= "
    " user=bob"
)


def test_sudo_failures_count_once() -> None:
    """PAM's line and sudo's sum of three are three failures; two such calls are an attack by that user."""
    story = SshStory()
    wrong = "     bob : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/home/bob ; USER=root ; COMMAND=/bin/ls"
    for begin in (0, 60):
        story.log(begin, PAM.format(service="sudo"), program="sudo")
        story.log(begin + 9, wrong, program="sudo")
    (verdict,) = story.verdicts
    assert (verdict.rule_id, verdict.count, verdict.severity) == ("sudo-brute-force", 6, "medium")
    accounts = {"userExists": True, "targetUserExists": True}
    assert verdict.evidence == {"targetService": "sudo", "user": "bob", "targetUser": "root", **accounts}
    assert verdict.target is None


def test_three_wrong_passwords_are_nothing() -> None:
    """One call of sudo with three wrong passwords is a mistyping user."""
    story = SshStory()
    story.log(
        0, "bob : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls", program="sudo"
    )
    assert story.verdicts == []


def test_user_who_may_not_use_sudo_is_told_at_once() -> None:
    """A user outside of sudoers who calls sudo is a verdict of medium severity."""
    story = SshStory()
    story.log(0, "bob : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls", program="sudo")
    assert [(v.rule_id, v.severity) for v in story.verdicts] == [("sudo-not-allowed", "medium")]


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("su", [PAM.format(service="su"), "FAILED SU (to root) bob on pts/0"]),
        ("su", [PAM.format(service="su-l")]),
        ("su", ["BAD SU bob to root on pts/0"]),
        ("login", ["FAILED LOGIN (1) on '/dev/tty1' FOR 'bob', Authentication failure"]),
        ("login", ["FAILED LOGIN 1 FROM tty1 FOR bob, Authentication failure"]),
    ],
)
def test_five_failures_of_su_or_a_console(program: str, lines: list[str]) -> None:
    """Five wrong passwords within five minutes are an attack; each stands in one line or two."""
    story = SshStory()
    for second in range(5):
        assert story.verdicts == []
        for line in lines:
            story.log(second, line, program=program)
    assert [(v.rule_id, v.count, v.evidence["user"]) for v in story.verdicts] == [(f"{program}-brute-force", 5, "bob")]


def test_command_line_that_looks_like_a_failure_is_none() -> None:
    """What a user writes into a command of sudo is not read as sudo's own words."""
    story = SshStory()
    for second in range(10):
        story.log(
            second,
            "bob : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/echo eve : 9 incorrect password attempts ; USER=root",
            program="sudo",
        )
    assert story.verdicts == []
