"""Logins are judged by what came before them."""

import random

import pytest

from tests.support.accounts import FakeAccounts
from tests.support.ssh_story import SshEvents, SshStory, worst

A = "203.0.113.7"
HOUR = 3600.0
DAY = 86_400.0


def test_success_after_thirty_failures_is_critical_at_once() -> None:
    """The login that ends a guessing attack is critical with the line that tells of it."""
    story = SshStory()
    for second in range(30):
        story.fail(second, A, "alice")
    (verdict,) = story.login(31, A, "alice")
    assert (verdict.rule_id, verdict.severity, verdict.count) == ("sshd-login-after-failures", "critical", 30)
    assert (verdict.evidence["sourceIp"], verdict.evidence["user"]) == (A, "alice")
    assert story.login(40, A, "alice") == []


def test_success_after_ten_failures_of_the_user_from_elsewhere_is_critical() -> None:
    """A password that a botnet guessed is critical though the address that logs in never failed."""
    story = SshStory()
    for number in range(10):
        story.fail(number * 60, f"198.51.100.{number}", "alice")
    assert worst(story.login(700, A, "alice")) == "critical"


@pytest.mark.parametrize(("own", "throttle"), [(0, True), (3, True), (9, True), (10, False)])
def test_nobody_has_a_user_blocked_by_failing_as_the_user_from_elsewhere(own: int, throttle: bool) -> None:
    """Others who fail as a user have the user's address throttled at most; ten failures of its own block it."""
    story = SshStory()
    for number in range(30):
        story.fail(number * 60, f"198.51.100.{number}", "alice")
    for number in range(own):
        story.fail(1800 + number * 400, A, "alice")  # too slow for the rule of five in five minutes
    (verdict,) = [found for found in story.login(9000, A, "alice") if found.type == "login_after_failures"]
    assert (verdict.severity, verdict.throttle) == ("critical", throttle)


@pytest.mark.parametrize(("failures", "severity"), [(0, "none"), (1, "low"), (2, "low"), (3, "critical")])
@pytest.mark.parametrize("method", ["password", "keyboard-interactive/pam"])
def test_stranger_who_mistypes(failures: int, severity: str, method: str) -> None:
    """One or two failures before a stranger's login are low, three are critical."""
    story = SshStory()
    for second in range(failures):
        story.fail(second, A, "alice", method=method)
    assert worst(story.login(10, A, "alice", method)) == severity


def test_stranger_who_tries_other_names_first() -> None:
    """Failures for three other users count as much as for the one that logs in."""
    story = SshStory()
    for second, user in enumerate(("root", "admin", "bob")):
        story.fail(second, A, user)
    assert worst(story.login(10, A, "alice")) == "critical"


def test_failures_of_yesterday_do_not_count() -> None:
    """A login a day after three failures is nothing."""
    story = SshStory()
    for second in range(3):
        story.fail(second, A, "alice")
    assert story.login(DAY + 3, A, "alice") == []


def test_known_user_who_mistypes_is_low() -> None:
    """After many failures the login of a pair that was seen together within seven days is low."""
    story = SshStory()
    story.login(0, A, "alice")
    for number in range(12):
        story.fail(HOUR + number * 400, A, "alice")
    assert worst(story.login(3 * HOUR, A, "alice")) == "low"


def test_login_by_key_after_failures_is_nothing() -> None:
    """Nobody guesses a key."""
    story = SshStory()
    for second in range(4):
        story.fail(second, A, "alice")
    assert story.login(10, A, "alice", "publickey") == []


def test_five_keys_of_an_agent_and_then_a_login_are_nothing() -> None:
    """An agent that offers five keys before the right one, or before a password, leads to nothing, twice over."""
    story = SshStory()
    for begin, method in ((0, "publickey"), (60, "password")):
        port = story.connect()
        for key in range(5):
            story.log(begin + key, f"Failed publickey for alice from {A} port {port} ssh2: RSA SHA256:k{key}")
        story.log(begin + 6, f"Accepted {method} for alice from {A} port {port} ssh2")
    assert story.chain.finish() == []
    assert story.verdicts == []


def test_keys_of_many_connections_at_once_are_nothing() -> None:
    """Ten connections of a deployment that each offer keys before they log in are nothing, also all at once."""
    story = SshStory()
    ports = [story.connect() for _ in range(10)]
    for port in ports:
        for key in range(3):
            story.log(0, f"Failed publickey for deploy from {A} port {port} ssh2: RSA SHA256:k{key}", pid=port)
    for port in ports:
        story.log(1, f"Accepted publickey for deploy from {A} port {port} ssh2: RSA SHA256:right", pid=port)
    story.log(200, "Server listening on 0.0.0.0 port 22.")
    assert story.chain.finish() == []
    assert story.verdicts == []


def test_connections_that_used_up_their_keys_make_no_login_critical() -> None:
    """Whose agent has too many keys, and who then logs in by password, guessed nothing."""
    story = SshStory()
    for number in range(4):
        port = story.connect()
        exceeded = f"error: maximum authentication attempts exceeded for alice from {A} port {port} ssh2 [preauth]"
        story.log(number * 20, exceeded)
    assert story.login(100, A, "alice") == []


def test_root_by_password_is_told_once_for_a_source() -> None:
    """A login of root by password is medium from a new source, and nothing from the same one on the next day."""
    story = SshStory()
    assert [(v.rule_id, v.severity) for v in story.login(0, A, "root")] == [("sshd-root-password-login", "medium")]
    assert story.login(DAY, A, "root") == []
    assert story.login(DAY, "198.51.100.1", "root", "publickey") == []


def test_new_source_of_a_user_with_sudo() -> None:
    """A known administrator from an unknown source is low; other users and the first source are nothing."""
    story = SshStory(FakeAccounts(admins=("alice",)))
    assert story.login(0, A, "alice", "publickey") == []
    assert story.login(1, A, "bob", "publickey") == []
    assert story.login(2, "198.51.100.1", "bob", "publickey") == []
    told = [(v.rule_id, v.severity) for v in story.login(3, "198.51.100.1", "alice", "publickey")]
    assert told == [("sshd-new-source", "low")]
    assert story.login(4, "198.51.100.1", "alice", "publickey") == []


def a_month_of_people(story: SshStory, chance: random.Random, *, offices: int) -> None:
    """A thousand people log in twice a working day; one try in twenty is mistyped, and some work from an office."""
    for day in range(30):
        if day % 7 in (5, 6):
            continue
        moments = sorted((day * DAY + chance.uniform(0, 9 * HOUR), person) for person in range(1000) for _ in range(2))
        for at, person in moments:
            address = (
                f"198.51.100.{person % offices}"
                if offices and person % 3 == 0
                else f"10.1.{person // 250}.{person % 250}"
            )
            second = at
            while chance.random() < 0.05:
                story.fail(second, address, f"person{person}")
                second += 4
            story.login(second, address, f"person{person}")


@pytest.mark.parametrize("offices", [0, 5])
def test_a_month_of_people_is_at_most_one_critical(offices: int) -> None:
    """1,000 people with 5 % typing errors over 30 days, a third of them behind five shared addresses."""
    story = SshEvents()
    a_month_of_people(story, random.Random(7), offices=offices)  # noqa: S311 -- the same month at each run
    assert sum(verdict.severity == "critical" for verdict in story.verdicts) <= 1
    assert {verdict.rule_id for verdict in story.verdicts} == {"sshd-login-after-failures"}


@pytest.mark.parametrize("attackers", [1, 100])
def test_hundred_guessed_accounts_are_one_critical_each(attackers: int) -> None:
    """Each account that is guessed is one critical verdict, be it by one attacker or by a hundred."""
    story = SshStory()
    for account in range(100):
        address = f"203.0.113.{account % attackers}"
        for guess in range(4 + account % 20):
            story.fail(account * 200 + guess, address, f"person{account}")
        story.login(account * 200 + 30, address, f"person{account}")
        story.login(account * 200 + 60, address, f"person{account}")
    critical = [verdict.evidence["user"] for verdict in story.verdicts if verdict.severity == "critical"]
    assert critical == [f"person{account}" for account in range(100)]


def test_each_proven_login_is_told_and_a_guessed_one_is_marked() -> None:
    """A login after a guessing attack looks guessed, and so do later ones of the pair; a forged line tells nothing."""
    story = SshStory(vouched=True)
    story.login(0, "198.51.100.1", "bob", "publickey")
    for second in range(1, 31):
        story.fail(second, A, "alice")
    story.login(31, A, "alice")
    story.login(40, A, "alice")
    story.forge(50, f"Accepted password for carol from {A} port 1 ssh2")
    assert story.logins == [("198.51.100.1", "bob", False), (A, "alice", True), (A, "alice", True)]
