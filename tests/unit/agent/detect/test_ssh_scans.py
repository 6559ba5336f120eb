"""Contacts that name no user are scans and probes, and never reach the threshold for a response."""

import random

import pytest

from tests.support.ssh_story import SshStory

A = "203.0.113.7"
THRESHOLD_FOR_A_RESPONSE = 85


@pytest.mark.parametrize("interval", [5, 10, 30, 60])
def test_load_balancer_is_a_probe(interval: int) -> None:
    """A check at a steady interval for hours is one probe of severity low, and never a scan."""
    story = SshStory()
    for number in range(360):
        jitter = (number % 3) / 10
        story.log(number * interval + jitter, f"Connection closed by {A} port {story.connect()} [preauth]")
    assert [(v.type, v.severity, v.confidence) for v in story.verdicts] == [("probe", "low", 50)]


def test_check_that_writes_two_lines_is_a_probe() -> None:
    """Two lines about one connection are one contact."""
    story = SshStory()
    for number in range(100):
        port = story.connect()
        story.log(number * 10, f"banner exchange: Connection from {A} port {port}: invalid format")
        story.log(number * 10, f"Connection closed by {A} port {port}")
    assert story.rules() == ["sshd-probe"]


def test_scanner_is_a_scan_and_never_reaches_the_threshold() -> None:
    """Contacts without a user at no steady interval are a scan of severity low, however many they are."""
    story, chance = SshStory(), random.Random(1)  # noqa: S311 -- the same story at each run
    second = 0.0
    for number in range(200):
        second += chance.choice([0.2, 1, 5, 20])
        port = story.connect()
        story.log(
            second,
            (
                f"Did not receive identification string from {A} port {port}",
                f"Unable to negotiate with {A} port {port}: no matching MAC found. Their offer: x [preauth]",
                f"banner exchange: Connection from {A} port {port}: invalid format",
                f"drop connection #10 from [{A}]:{port} on [192.0.2.1]:22 past MaxStartups",
            )[number % 4],
        )
    assert {(verdict.rule_id, verdict.severity) for verdict in story.verdicts} == {("sshd-scan", "low")}
    assert max(verdict.confidence for verdict in story.verdicts) < THRESHOLD_FOR_A_RESPONSE


def test_penalty_without_a_failure_is_a_contact() -> None:
    """Dropped connections of a source that failed no login are a scan."""
    story = SshStory()
    for number in range(6):
        drop = f"drop connection #0 from [{A}]:4{number} on [192.0.2.1]:22 penalty: exceeded LoginGraceTime"
        story.log(number**2, drop)
    assert story.rules() == ["sshd-scan"]


def test_four_contacts_are_nothing() -> None:
    """Four contacts within five minutes are below the rule."""
    story = SshStory()
    for number in range(4):
        story.log(number, f"Did not receive identification string from {A} port {story.connect()}")
    story.log(305, f"Did not receive identification string from {A} port {story.connect()}")
    assert story.verdicts == []


def test_timeout_of_a_connection_that_offered_keys_is_a_failure() -> None:
    """A connection that offers keys and then lets its time run out is a failed login and no contact."""
    story = SshStory()
    for number in range(5):
        port = story.connect()
        story.log(number, f"Failed publickey for root from {A} port {port} ssh2: RSA SHA256:k")
        story.log(number + 60, f"Timeout before authentication for connection from {A} to 192.0.2.1, pid = {port}")
    assert story.rules() == ["sshd-brute-force"]
