"""The logs that a real sshd and real syslog daemons wrote, and CrowdSec's test logs, give the verdicts they should."""

import time
from datetime import UTC
from pathlib import Path

import pytest

from agent.cli.try_log import LogTrial, log_lines, try_lines
from tests.support.ssh_story import by_rule, worst

TRANSCRIPTS = Path(__file__).parents[3] / "transcripts"
ATTACKER = "203.0.113.7"
SSHD = sorted(folder.name for folder in TRANSCRIPTS.glob("sshd-*"))
FORMATS = sorted(path.stem for path in (TRANSCRIPTS / "formats").glob("*.log"))


def tried(folder: str, name: str) -> LogTrial:
    """The verdicts on a transcript."""
    with log_lines(str(TRANSCRIPTS / folder / f"{name}.log")) as lines:
        return try_lines(lines, UTC, time.time())


def rules(trial: LogTrial) -> set[tuple[str, str]]:
    """The rules that were met, and by whom."""
    return {(verdict.rule_id, str(verdict.evidence[verdict.target or "sourceIp"])) for verdict in trial.verdicts}


@pytest.mark.parametrize("name", FORMATS)
def test_format_of_a_syslog_daemon(name: str) -> None:
    """Six guesses and a line that stands there six times are twelve failures in every daemon's format."""
    trial = tried("formats", name)
    assert rules(trial) == {("sshd-brute-force", ATTACKER)}
    assert trial.verdicts[0].count >= 10
    assert trial.lines - trial.understood <= 2  # the daemon's own start and stop


def test_formats_are_all_there() -> None:
    """Four daemons, the journal and both ways of folding lines are among the transcripts."""
    assert {name.partition("-")[0] for name in FORMATS} == {"busybox", "inetutils", "journalctl", "rsyslog", "syslog"}
    text = {name: (TRANSCRIPTS / "formats" / f"{name}.log").read_text() for name in ("inetutils", "rsyslog-folded")}
    assert " last message repeated " in text["inetutils"]
    assert ": message repeated " in text["rsyslog-folded"]


@pytest.mark.parametrize("version", SSHD)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("guesses", {("sshd-brute-force", ATTACKER)}),
        ("keyboard-interactive", {("sshd-brute-force", ATTACKER)}),
        ("agent-keys", set()),
        ("forbidden-users", {("sshd-brute-force", ATTACKER)}),
        ("balancer", {("sshd-probe", "203.0.113.30")}),
        ("scanner", {("sshd-scan", ATTACKER)}),
        ("network", {("sshd-brute-force-network", "2001:db8:0:7::/64")}),
    ],
)
def test_scenario_of_a_real_sshd(version: str, name: str, expected: set[tuple[str, str]]) -> None:
    """Each attack that was made on a real sshd is found, and a key agent's offers are not."""
    assert rules(tried(version, name)) == expected


def test_guessed_password_is_critical() -> None:
    """The login after thirty guesses is critical, once, and the end of its session is found."""
    trial = tried("sshd-9.2", "breach")
    met = {verdict.rule_id for verdict in trial.verdicts}
    assert met == {"sshd-brute-force", "sshd-login-after-failures", "sshd-suspicious-session-ended"}
    (ended,) = by_rule(trial.verdicts, "sshd-suspicious-session-ended")
    assert (ended.evidence["loginSource"], ended.evidence["user"], ended.target) == (ATTACKER, "alice", None)
    (verdict,) = by_rule(trial.verdicts, "sshd-login-after-failures")
    assert (verdict.severity, verdict.count, verdict.evidence["user"]) == ("critical", 30, "alice")


def test_penalties_of_sshd_10_count_for_the_attacker() -> None:
    """Version 10 of sshd drops the attacker's later connections, the one with the right password too."""
    text = (TRANSCRIPTS / "sshd-10.0" / "breach.log").read_text()
    drops = text.count("drop connection #")
    assert drops
    assert "Accepted password" not in text
    (verdict,) = tried("sshd-10.0", "breach").verdicts
    assert (verdict.rule_id, verdict.evidence["sourceIp"]) == ("sshd-brute-force", ATTACKER)
    judged = text.count("Failed password")
    assert verdict.count <= judged + 2 * drops < 2 * verdict.count


@pytest.mark.parametrize("version", SSHD)
def test_hostile_names_accuse_nobody_else(version: str) -> None:
    """Names that look like addresses and like lines of a log lead to their sender, if to anybody."""
    text = (TRANSCRIPTS / version / "hostile-names.log").read_text()
    assert "198.51.100.9" in text
    assert {source for _, source in rules(tried(version, "hostile-names"))} <= {ATTACKER}


@pytest.mark.parametrize("version", SSHD)
def test_benign_work_gives_nothing_above_low(version: str) -> None:
    """Logins by key and password, wrong keys, one mistyped password, many transfers and a burst of jobs are low."""
    assert worst(tried(version, "benign").verdicts) == "low"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("opnsense-sshd", {("sshd-brute-force", "1.2.3.4")}),
        (
            "sshd-bad-keyexchange-bf",
            {("sshd-scan", "206.189.59.169"), ("sshd-scan", "123.57.135.134"), ("sshd-scan", "123.123.123.123")},
        ),
        ("sshd-impossible-travel", {("sshd-new-source", "9.8.8.8")}),
        ("ssh-generic-test", set()),
        ("sshd-logs-fp", set()),
        ("pam-logs", set()),
    ],
)
def test_scenarios_of_crowdsecs_hub(name: str, expected: set[tuple[str, str]]) -> None:
    """The hub's ssh logs raise what they should as docs/detections.md claims, its near misses nothing."""
    assert rules(tried("crowdsec-hub", name)) == expected
