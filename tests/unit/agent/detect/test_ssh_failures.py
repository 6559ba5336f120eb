"""Failures of one source, and sprays from many, are found, and their near misses are not."""

import pytest

from agent.events import Verdict
from tests.support.accounts import FakeAccounts
from tests.support.ssh_story import SshEvents, SshStory, by_rule, worst

A = "203.0.113.7"
HOUR = 3600.0
DAY = 86_400.0
THRESHOLD_FOR_A_RESPONSE = 85


def counts(verdicts: list[Verdict]) -> list[tuple[str, int]]:
    return [(verdict.rule_id, verdict.count) for verdict in verdicts]


def test_fifth_failure_reaches_the_threshold_for_a_response() -> None:
    """The fifth judged failure is a verdict at or above the default threshold; the fourth is none at all."""
    story = SshStory()
    assert [story.fail(second, A) for second in range(4)] == [[]] * 4
    (verdict,) = story.fail(4, A)
    assert (verdict.rule_id, verdict.count, verdict.confidence) == ("sshd-brute-force", 5, 90)
    assert verdict.confidence >= THRESHOLD_FOR_A_RESPONSE
    assert verdict.evidence == {"sourceIp": A, "targetService": "sshd", "user": "root", "userExists": True}
    assert verdict.target == "sourceIp"


def test_attack_is_repeated_as_its_count_doubles() -> None:
    """An attack that goes on is told at 5, 10, 20 and 40 failures, high from 20 on, and not in between."""
    story = SshStory()
    for second in range(79):
        story.fail(second, A)
    told = [(verdict.count, verdict.severity) for verdict in story.verdicts]
    assert told == [(5, "medium"), (10, "medium"), (20, "high"), (40, "high")]


@pytest.mark.parametrize(("last", "expected"), [(300.0, ["sshd-brute-force"]), (300.5, [])])
def test_window_includes_both_ends(last: float, expected: list[str]) -> None:
    """Five failures in exactly 300 seconds are an attack; a moment more and they are not."""
    story = SshStory()
    for second in (0, 75, 150, 225, last):
        story.fail(second, A)
    assert story.rules() == expected


def test_connections_that_only_offer_keys_are_one_failure_each() -> None:
    """Five connections that offer three keys each and end without a login are five failures, not fifteen."""
    story = SshStory()
    for number in range(5):
        port = story.connect()
        for key in range(3):
            story.log(number * 10 + key, f"Failed publickey for root from {A} port {port} ssh2: RSA SHA256:k{key}")
        story.log(number * 10 + 5, f"Connection closed by authenticating user root {A} port {port} [preauth]")
    assert counts(story.verdicts) == [("sshd-brute-force", 5)]


def test_keys_without_a_logged_end_count_after_the_time_to_log_in() -> None:
    """Where the end of a connection is not logged, its offered keys count once it can no longer log in."""
    story = SshStory()
    for number in range(5):
        story.log(number, f"Failed publickey for root from {A} port {story.connect()} ssh2: RSA SHA256:k")
    assert story.verdicts == []
    story.fail(130, "198.51.100.1")
    assert counts(story.verdicts) == [("sshd-brute-force", 5)]


def test_lines_about_one_attempt_count_once() -> None:
    """`Invalid user`, `Failed password`, PAM's line and `Connection closed` of one connection are one failure."""
    story = SshStory()
    for number in range(4):
        port = story.connect()
        story.log(number, f"Invalid user x from {A} port {port}")
        story.log(number, f"error: PAM: Authentication failure for illegal user x from {A}")
        story.log(number, f"Failed keyboard-interactive/pam for invalid user x from {A} port {port} ssh2")
        story.log(number, f"Connection closed by invalid user x {A} port {port} [preauth]")
    assert story.verdicts == []
    assert counts(story.fail(5, A)) == [("sshd-brute-force", 5)]


def test_twelve_keyboard_interactive_guesses_at_info() -> None:
    """Guesses that stand mostly in PAM's words, three to a connection, are twelve failures."""
    story = SshStory()
    for connection in range(4):
        port, begin = story.connect(), connection * 10
        for guess in range(3):
            story.log(begin + guess, f"error: PAM: Authentication failure for root from {A}")
        story.log(begin + 3, f"Failed keyboard-interactive/pam for root from {A} port {port} ssh2")
        exceeded = f"error: maximum authentication attempts exceeded for root from {A} port {port} ssh2 [preauth]"
        story.log(begin + 4, exceeded)
    assert counts(story.verdicts) == [("sshd-brute-force", 5), ("sshd-brute-force", 10)]
    for connection in range(8):
        story.fail(60 + connection, A)
    assert counts(story.verdicts)[2:] == [("sshd-brute-force", 20)]


def test_six_failures_in_the_repeated_form_of_bsd() -> None:
    """One line and `last message repeated 5 times` are six failures; after another line it says nothing of sshd."""
    story = SshStory()
    assert story.fail(0, A) == []
    assert counts(story.line(30, "last message repeated 5 times")) == [("sshd-brute-force", 6)]
    story = SshStory()
    story.fail(0, A)
    story.log(1, "(root) CMD (true)", program="CRON")
    assert story.line(30, "last message repeated 5 times") == []


def test_six_failures_in_the_repeated_form_of_rsyslog() -> None:
    """One line and `message repeated 5 times` are six failures."""
    story = SshStory()
    story.fail(0, A)
    again = f"message repeated 5 times: [ Failed password for root from {A} port {story.port} ssh2]"
    assert counts(story.log(30, again)) == [("sshd-brute-force", 6)]


def test_one_failure_every_76_seconds_for_eight_hours() -> None:
    """An attacker who stays below five in five minutes is found at the tenth failure."""
    story = SshStory()
    for number in range(int(8 * HOUR / 76)):
        story.fail(number * 76, A)
    assert set(story.rules()) == {"sshd-slow-brute-force"}
    assert story.verdicts[0].count == 10
    assert story.verdicts[0].confidence >= THRESHOLD_FOR_A_RESPONSE
    assert story.verdicts[-1].count == 320


def test_slow_failures_of_a_source_that_logs_in_are_no_attack() -> None:
    """Ten failures in a day from where somebody logged in are forgetfulness."""
    story = SshStory()
    story.login(0, A, "alice")
    for number in range(1, 20):
        story.fail(number * HOUR, A, "alice")
    assert "sshd-slow-brute-force" not in story.rules()


def test_nine_failures_in_a_day_are_no_slow_attack() -> None:
    """Nine failures within each 24 hours are not enough, for however long."""
    story = SshStory()
    for number in range(40):
        story.fail(number * (DAY / 9 + 1), A)
    assert story.verdicts == []


def test_eighty_failures_from_forty_addresses_of_one_network() -> None:
    """Two failures of each of forty addresses of a /64 are an attack by the /64."""
    story = SshStory()
    for number in range(80):
        story.fail(number, f"2001:db8:1:2::{number % 40 + 1:x}")
    verdict = story.verdicts[0]
    assert (verdict.rule_id, verdict.count) == ("sshd-brute-force-network", 5)
    assert (verdict.target, verdict.evidence["sourceNetwork"]) == ("sourceNetwork", "2001:db8:1:2::/64")
    assert verdict.evidence["sourceIp"] == "2001:db8:1:2::5"
    assert story.verdicts[-1].count == 80


def test_one_address_of_a_network_is_reported_by_itself() -> None:
    """An IPv6 address that fails five times is the target, not its whole /64."""
    story = SshStory()
    for second in range(5):
        story.fail(second, "2001:db8:1:2::9")
    (verdict,) = story.verdicts
    assert (verdict.rule_id, verdict.evidence["sourceIp"]) == ("sshd-brute-force", "2001:db8:1:2::9")
    assert "sourceNetwork" not in verdict.evidence


@pytest.mark.parametrize("users", [["root"], [f"user{number}" for number in range(500)]])
@pytest.mark.parametrize("pause", [1, 60])
def test_five_hundred_addresses_with_one_failure_each(users: list[str], pause: int) -> None:
    """A botnet that tries each address once, with one name or with many, is a spray; no address is a target."""
    story = SshStory()
    for number in range(500):
        story.fail(number * pause, f"198.51.{number // 250}.{number % 250}", users[number % len(users)])
    assert set(story.rules()) == {"sshd-password-spray"}
    assert story.verdicts[0].count == 20
    assert all(verdict.target is None for verdict in story.verdicts)
    assert max(verdict.count for verdict in story.verdicts) == 320


def test_nineteen_addresses_are_no_spray() -> None:
    """Nineteen sources that fail once are below the rule."""
    story = SshStory()
    for number in range(19):
        story.fail(number, f"198.51.100.{number}", "root")
    assert story.verdicts == []


def test_people_who_mistype_and_log_in_are_no_spray() -> None:
    """Forty people who each mistype once before they log in are no spray."""
    story = SshStory()
    for number in range(40):
        story.fail(number * 10, f"198.51.100.{number}", f"person{number}")
        story.login(number * 10 + 5, f"198.51.100.{number}", f"person{number}")
    assert "sshd-password-spray" not in story.rules()
    assert worst(story.verdicts) == "low"


def test_key_only_host_counts_invalid_and_forbidden_users() -> None:
    """Where only keys are accepted, five connections that name users who may not log in are an attack."""
    story = SshStory()
    for number in range(3):
        port = story.connect()
        story.log(number, f"Invalid user admin{number} from {A} port {port}")
        story.log(number, f"Connection closed by invalid user admin{number} {A} port {port} [preauth]")
    for number in range(3, 5):
        port = story.connect()
        story.log(number, f"User git from {A} not allowed because not listed in AllowUsers")
        story.log(number, f"Connection closed by invalid user git {A} port {port} [preauth]")
    assert counts(story.verdicts) == [("sshd-brute-force", 5)]


def ends(story: SshStory, users: list[str]) -> None:
    for number, user in enumerate(users):
        port = story.connect()
        story.log(number**1.5, f"Connection closed by authenticating user {user} {A} port {port} [preauth]")


def test_key_only_host_counts_three_different_users() -> None:
    """Connections that end before authentication and name three existing users are failures."""
    story = SshStory()
    ends(story, ["root", "root", "alice", "alice", "bob", "bob"])
    assert counts(by_rule(story.verdicts, "sshd-brute-force")) == [("sshd-brute-force", 5)]


def test_wrong_key_of_a_robot_is_low() -> None:
    """A job that tries one user with a key that is not accepted, again and again, is no attack."""
    story = SshStory()
    ends(story, ["deploy"] * 20)
    assert story.verdicts
    assert worst(story.verdicts) == "low"
    assert by_rule(story.verdicts, "sshd-brute-force") == []


def test_penalty_after_a_failure_counts_for_two() -> None:
    """One refused password and two connections that sshd drops as a penalty are five failures."""
    story = SshStory()
    story.fail(0, A)
    drop = f"drop connection #0 from [{A}]:40022 on [192.0.2.1]:22 penalty: failed authentication"
    assert story.log(10, drop) == []
    assert counts(story.log(20, drop)) == [("sshd-brute-force", 5)]


def test_acquaintance_is_not_a_target() -> None:
    """Five failures of a user from where the user logs in are low and below the threshold for a response."""
    story = SshStory()
    story.login(0, A, "alice", "publickey")
    for second in range(1, 6):
        story.fail(second, A, "alice")
    (verdict,) = by_rule(story.verdicts, "sshd-brute-force")
    assert (verdict.severity, verdict.confidence, verdict.throttle) == ("low", 70, False)
    assert verdict.evidence["lastLogin"] == "2026-03-02T08:00:00.000Z"


@pytest.mark.parametrize(("users", "failures"), [(["alice"], 30), (["root", "admin", "bob", "alice", "alice"], 5)])
def test_acquaintance_that_goes_too_far_is_throttled(users: list[str], failures: int) -> None:
    """Thirty failures, or failures of three other users, from where a person logs in, end in a high throttle."""
    story = SshStory()
    story.login(0, A, "alice", "publickey")
    for number in range(failures):
        story.fail(1 + number, A, users[number % len(users)])
    verdict = story.verdicts[-1]
    assert (verdict.throttle, verdict.severity, verdict.confidence, verdict.count) == (True, "high", 90, failures)
    assert not any(earlier.throttle for earlier in story.verdicts[:-1])


@pytest.mark.parametrize("user", ["root", "www-data"])
def test_account_of_a_service_protects_nothing(user: str) -> None:
    """A login of root or of a service does not keep its address from being a target."""
    story = SshStory(FakeAccounts(services=("www-data",)))
    story.login(0, A, user, "publickey")
    for second in range(1, 6):
        story.fail(second, A, user)
    assert [verdict.confidence for verdict in by_rule(story.verdicts, "sshd-brute-force")] == [90]


def test_protection_ends_after_seven_days() -> None:
    """An address whose last login is older than seven days is a stranger's."""
    story = SshStory()
    story.login(0, A, "alice", "publickey")
    for second in range(5):
        story.fail(7 * DAY + 1 + second, A, "alice")
    assert [verdict.confidence for verdict in story.verdicts] == [90]


def test_second_rule_on_the_same_target_adds_confidence() -> None:
    """A slow attack by an address that another rule has found is five more certain."""
    story = SshStory()
    for second in range(5):
        story.fail(second, A)
    for number in range(1, 7):
        story.fail(number * 400, A)
    (slow,) = by_rule(story.verdicts, "sshd-slow-brute-force")
    assert slow.confidence == 90


def test_unproven_lines_neither_accuse_nor_protect() -> None:
    """Forged lines do not add up with sshd's own, and a forged login protects no address."""
    story = SshStory(vouched=True)
    story.forge(0, f"Accepted password for alice from {A} port 9 ssh2")
    for second in range(4):
        story.forge(second, "Failed password for alice from 198.51.100.1 port 9 ssh2")
    story.fail(5, "198.51.100.1", "alice")
    assert story.verdicts == []
    for second in range(10, 15):
        story.fail(second, A, "alice")
    verdict = story.verdicts[-1]
    assert verdict.vouched == frozenset(verdict.evidence)
    assert verdict.confidence == 90
    assert "lastLogin" not in verdict.evidence


def test_findings_of_unproven_lines_are_not_vouched() -> None:
    """What anybody could have written is detected, and vouches for nothing."""
    story = SshStory(vouched=True)
    for second in range(5):
        story.forge(second, f"Failed password for alice from {A} port {second} ssh2")
    assert [verdict.vouched for verdict in story.verdicts] == [frozenset()]


def test_attacker_is_found_behind_twenty_thousand_other_sources() -> None:
    """Twenty thousand other sources that fail once between each two of its tries do not hide an attacker."""
    story = SshEvents()
    for attempt in range(4):
        assert story.fail(attempt * 60, A, "alice") == []
        for number in range(20_000):
            story.fail(attempt * 60 + number / 1000, f"10.{attempt}.{number // 250}.{number % 250}", f"u{number % 3}")
    assert [(v.rule_id, v.evidence["sourceIp"]) for v in story.fail(240, A, "alice") if v.target] == [
        ("sshd-brute-force", A)
    ]


def test_list_hit_adds_confidence() -> None:
    """A slow attack from an address on a list of attackers is ten more certain; from any other it is not."""
    story = SshStory(listed=lambda target: target == A)
    for number in range(10):
        story.fail(number * 76 * 5, A)
        story.fail(number * 76 * 5, "198.51.100.1")
    assert [(verdict.evidence["sourceIp"], verdict.confidence) for verdict in story.verdicts] == [
        (A, 95),
        ("198.51.100.1", 85),
    ]
