"""Which lines of sshd are logins, from where and when."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent.parse.sshd import MAX_USER, FailedLogin, SuccessfulLogin, parse

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC).timestamp()
AT = datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC).timestamp()


def read(message: str, tag: str = "sshd[4321]") -> FailedLogin | SuccessfulLogin | None:
    """Parses a message as sshd logs it, at `AT`."""
    return parse(f"Nov 22 10:00:01 host {tag}: {message}", NOW, UTC)


def epoch(line_time: str, now: str, zone: str = "UTC") -> float | None:
    """The time that is read from a timestamp at a given moment in a given zone."""
    event = parse(
        f"{line_time} host sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2",
        datetime.fromisoformat(now).timestamp(),
        ZoneInfo(zone),
    )
    return None if event is None else event.at


@pytest.mark.parametrize(
    ("message", "user"),
    [
        ("Failed password for root from 192.0.2.7 port 4022 ssh2", "root"),
        ("Failed password for invalid user oracle from 192.0.2.7 port 4022 ssh2", "oracle"),
        ("Failed password for invalid user  from 192.0.2.7 port 4022 ssh2", ""),
        ("Failed keyboard-interactive/pam for root from 192.0.2.7 port 4022 ssh2", "root"),
        ("Failed publickey for root from 192.0.2.7 port 4022 ssh2: ED25519 SHA256:47DEQpj8HBSa+/TImW5JCeu", "root"),
        ("Failed publickey for a from 192.0.2.7 port 4022 ssh2: RSA-CERT ID x (serial 1) CA RSA SHA256:b", "a"),
        ("Failed password for root from 192.0.2.7 port 4022 ssh2 [preauth]", "root"),
    ],
)
def test_refused_credential(message: str, user: str) -> None:
    """Each credential that sshd refused is one failed login."""
    assert read(message) == FailedLogin(AT, "192.0.2.7", 4022, user)


@pytest.mark.parametrize(
    "message",
    [
        "Invalid user admin from 192.0.2.7 port 4022",
        "Connection closed by authenticating user admin 192.0.2.7 port 4022 [preauth]",
        "Connection closed by invalid user admin 192.0.2.7 port 4022 [preauth]",
        "Connection reset by authenticating user admin 192.0.2.7 port 4022 [preauth]",
        "Disconnected from authenticating user admin 192.0.2.7 port 4022 [preauth]",
        "error: maximum authentication attempts exceeded for admin from 192.0.2.7 port 4022 ssh2 [preauth]",
        "error: maximum authentication attempts exceeded for invalid user admin from 192.0.2.7 port 4022 ssh2",
    ],
)
def test_connection_without_login(message: str) -> None:
    """A connection that has an unknown user or ends without a login is a failure that no credential was judged for."""
    assert read(message) == FailedLogin(AT, "192.0.2.7", 4022, "admin", judged=False)


def test_repeated_message_counts_each() -> None:
    """What rsyslog folded into `message repeated 5 times` stands for five failures."""
    message = "message repeated 5 times: [ Failed password for root from 192.0.2.7 port 4022 ssh2]"
    assert read(message) == FailedLogin(AT, "192.0.2.7", 4022, "root", count=5)


@pytest.mark.parametrize(
    "message",
    [
        "Accepted password for deploy from 192.0.2.7 port 4022 ssh2",
        "Accepted publickey for deploy from 192.0.2.7 port 4022 ssh2: RSA SHA256:47DEQpj8HBSa+/TImW5JCeu",
        "Accepted gssapi-with-mic for deploy from 192.0.2.7 port 4022 ssh2: deploy@EXAMPLE.ORG",
    ],
)
def test_successful_login(message: str) -> None:
    """An accepted credential is a successful login."""
    assert read(message) == SuccessfulLogin(AT, "192.0.2.7", "deploy")


@pytest.mark.parametrize("tag", ["sshd[1]", "sshd-session[4321]", "sshd-auth[99]"])
def test_programs_of_sshd(tag: str) -> None:
    """The daemon of OpenSSH 8 and 9.7, and the session and authentication programs of later ones, are all sshd."""
    assert read("Failed password for root from 192.0.2.7 port 4022 ssh2", tag) is not None


@pytest.mark.parametrize(
    "line",
    [
        "Nov 22 10:00:01 host cron[1]: Failed password for root from 192.0.2.7 port 22 ssh2",
        "Nov 22 10:00:01 host notsshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2",
        "Nov 22 10:00:01 host app[1]: Nov 22 10:00:01 host sshd[1]: Failed password for x from 192.0.2.7 port 22 ssh2",
        "Nov 22 10:00:01 host sshd[1]: note: Failed password for root from 192.0.2.7 port 22 ssh2",
        "Nov 22 10:00:01 host sshd[1]: Failed none for invalid user x from 192.0.2.7 port 22 ssh2",
        "Nov 22 10:00:01 host sshd[1]: Partial publickey for root from 192.0.2.7 port 22 ssh2",
        "Nov 22 10:00:01 host sshd[1]: Connection closed by 192.0.2.7 port 22 [preauth]",
        "Nov 22 10:00:01 host sshd[1]: pam_unix(sshd:auth): authentication failure; rhost=192.0.2.7 user=root",
        "Nov 22 10:00:01 host sshd[1]: message repeated 0 times: [ Failed password for x from 192.0.2.7 port 22 ssh2]",
        "Nov 22 10:00:01 host sshd[1]: Failed password for root from attacker.example.org port 22 ssh2",
        "Nov 22 10:00:01 host sshd[1]: Failed password for root from 192.0.2.7 port 22 ss",
        "Nov 31 10:00:01 host sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2",
        "2026-13-22T10:00:01Z host sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2",
        "",
    ],
)
def test_what_is_no_login(line: str) -> None:
    """Other programs' lines, other messages, host names, broken lines and dates that do not exist say nothing."""
    assert parse(line, NOW, UTC) is None


@pytest.mark.parametrize(
    ("logged", "address"),
    [
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_address_has_one_spelling(logged: str, address: str) -> None:
    """However an address is logged, it is reported in its one normal form."""
    event = read(f"Failed password for root from {logged} port 22 ssh2")
    assert event is not None
    assert event.address == address


@pytest.mark.parametrize(
    ("detail", "method"),
    [
        ("RSA-CERT SHA256:a ID x from 203.0.113.9 port 1 ssh2: RSA SHA256:b (serial 1) CA RSA SHA256:c", "publickey"),
        (f"RSA-CERT SHA256:a ID {'x' * 1000} from 203.0.113.9 port 1 ssh2: RSA SHA256:b", "publickey"),
        ("x from 203.0.113.9 port 1 ssh2", "gssapi-with-mic"),
        ('RSA SHA256:a, client user "x from 203.0.113.9 port 1 ssh2", client host "h"', "hostbased"),
    ],
)
def test_peer_that_is_not_certain_is_none(detail: str, method: str) -> None:
    """Where free text behind the peer looks like another peer, be it by sshd's cut, nobody is accused."""
    assert read(f"Failed {method} for root from 192.0.2.7 port 4022 ssh2: {detail}") is None


def test_user_name_is_bounded() -> None:
    """Of a user name only its beginning is kept."""
    event = read(f"Failed password for {'x' * 5000} from 192.0.2.7 port 4022 ssh2")
    assert event is not None
    assert event.user == "x" * MAX_USER


@pytest.mark.parametrize(
    ("logged", "now", "zone", "meant"),
    [
        ("Nov  2 10:00:01", "2026-11-02T10:00:05Z", "UTC", "2026-11-02T10:00:01Z"),
        ("Dec 31 23:59:59", "2027-01-01T00:00:05Z", "UTC", "2026-12-31T23:59:59Z"),
        ("Jan  1 00:00:01", "2026-12-31T23:59:58Z", "UTC", "2027-01-01T00:00:01Z"),
        ("Feb 29 12:00:00", "2028-03-01T00:00:00Z", "UTC", "2028-02-29T12:00:00Z"),
        ("Jul  1 12:00:00", "2026-07-01T10:00:05Z", "Europe/Berlin", "2026-07-01T10:00:00Z"),
        ("Oct 25 02:30:00", "2026-10-25T00:30:05Z", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("Oct 25 02:30:00", "2026-10-25T01:30:05Z", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("2026-11-22T10:00:01.250+01:00", "2030-01-01T00:00:00Z", "UTC", "2026-11-22T09:00:01.250Z"),
        ("2026-11-22T10:00:01+0100", "2030-01-01T00:00:00Z", "UTC", "2026-11-22T09:00:01Z"),
        ("2026-11-22T10:00:01Z", "2030-01-01T00:00:00Z", "Europe/Berlin", "2026-11-22T10:00:01Z"),
        ("2026-11-22T10:00:01", "2030-01-01T00:00:00Z", "Europe/Berlin", "2026-11-22T09:00:01Z"),
    ],
)
def test_time(logged: str, now: str, zone: str, meant: str) -> None:
    """A missing year is the closest one, a repeated hour the closer one, a missing zone the host's."""
    assert epoch(logged, now, zone) == datetime.fromisoformat(meant).timestamp()
