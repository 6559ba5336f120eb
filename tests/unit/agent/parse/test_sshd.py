"""Which messages of sshd are events, and of whom."""

import pytest

from agent.events import EventKind
from agent.parse.sshd import MAX_USER, read

PEER = {"sourceIp": "192.0.2.7", "port": 4022}


@pytest.mark.parametrize(
    ("message", "user", "method", "valid"),
    [
        ("Failed password for root from 192.0.2.7 port 4022 ssh2", "root", "password", 1),
        ("Failed password for invalid user oracle from 192.0.2.7 port 4022 ssh2", "oracle", "password", 0),
        ("Failed password for invalid user  from 192.0.2.7 port 4022 ssh2", "", "password", 0),
        (
            "Failed keyboard-interactive/pam for root from 192.0.2.7 port 4022 ssh2",
            "root",
            "keyboard-interactive/pam",
            1,
        ),
        (
            "Failed publickey for root from 192.0.2.7 port 4022 ssh2: ED25519 SHA256:47DEQpj8HBSa+/TImW5JCeu",
            "root",
            "publickey",
            1,
        ),
        (
            "Failed publickey for a from 192.0.2.7 port 4022 ssh2: RSA-CERT ID x (serial 1) CA RSA SHA256:b",
            "a",
            "publickey",
            1,
        ),
        ("Failed password for root from 192.0.2.7 port 4022 ssh2 [preauth]", "root", "password", 1),
    ],
)
def test_refused_credential(message: str, user: str, method: str, valid: int) -> None:
    """Each credential that sshd refused is one failed login, with the method and whether the user exists."""
    fields = {**PEER, "user": user, "method": method, "valid_user": valid}
    assert read(message) == (EventKind.LOGIN_FAILED, fields, 1)


@pytest.mark.parametrize(
    ("message", "user", "valid"),
    [
        ("error: PAM: Authentication failure for root from 192.0.2.7", "root", 1),
        ("error: PAM: Authentication failure for illegal user x from 192.0.2.7", "x", 0),
        (
            "error: PAM: User not known to the underlying authentication module for illegal user x from 192.0.2.7",
            "x",
            0,
        ),
        ("error: PAM: Authentication error for illegal user x y from 192.0.2.7", "x y", 0),
        ("error: PAM: Authentication failure for illegal user x from 9.9.9.9 from 192.0.2.7", "x from 9.9.9.9", 0),
    ],
)
def test_keyboard_interactive_failure_of_pam(message: str, user: str, valid: int) -> None:
    """At level INFO a guess by keyboard-interactive stands in PAM's words only, without a port."""
    found = read(message)
    fields = {"sourceIp": "192.0.2.7", "user": user, "method": "keyboard-interactive/pam", "valid_user": valid}
    assert found == (EventKind.LOGIN_FAILED, fields, 1)


@pytest.mark.parametrize(
    ("message", "kind", "fields"),
    [
        ("Invalid user admin from 192.0.2.7 port 4022", EventKind.INVALID_USER, {**PEER, "user": "admin"}),
        ("Invalid user admin from 192.0.2.7", EventKind.INVALID_USER, {"sourceIp": "192.0.2.7", "user": "admin"}),
        (
            "Connection closed by authenticating user admin 192.0.2.7 port 4022 [preauth]",
            EventKind.CONNECTION_CLOSED,
            {**PEER, "user": "admin", "valid_user": 1},
        ),
        (
            "Connection closed by invalid user admin 192.0.2.7 port 4022 [preauth]",
            EventKind.CONNECTION_CLOSED,
            {**PEER, "user": "admin", "valid_user": 0},
        ),
        (
            "Connection reset by authenticating user admin 192.0.2.7 port 4022 [preauth]",
            EventKind.CONNECTION_CLOSED,
            {**PEER, "user": "admin", "valid_user": 1},
        ),
        (
            "Disconnected from authenticating user admin 192.0.2.7 port 4022 [preauth]",
            EventKind.CONNECTION_CLOSED,
            {**PEER, "user": "admin", "valid_user": 1},
        ),
        *(
            (f"{begin} user deploy 192.0.2.7 port 4022", EventKind.SSH_SESSION_ENDED, {**PEER, "user": "deploy"})
            for begin in (
                "Disconnected from",
                "Connection closed by",
                "Connection reset by",
                "Timeout, client not responding from",
            )
        ),
        ("Connection closed by 192.0.2.7 port 4022 [preauth]", EventKind.CONNECTION_CLOSED, PEER),
        ("Connection closed by 192.0.2.7 port 4022", EventKind.CONNECTION_CLOSED, PEER),
        ("Disconnected from 192.0.2.7 port 4022 [preauth]", EventKind.CONNECTION_CLOSED, PEER),
        (
            "Received disconnect from 192.0.2.7: 11: Bye Bye [preauth]",
            EventKind.CONNECTION_CLOSED,
            {"sourceIp": "192.0.2.7"},
        ),
        (
            "error: maximum authentication attempts exceeded for admin from 192.0.2.7 port 4022 ssh2 [preauth]",
            EventKind.MAX_ATTEMPTS,
            {**PEER, "user": "admin", "valid_user": 1},
        ),
        (
            "error: maximum authentication attempts exceeded for invalid user admin from 192.0.2.7 port 4022 ssh2",
            EventKind.MAX_ATTEMPTS,
            {**PEER, "user": "admin", "valid_user": 0},
        ),
        (
            "Disconnecting authenticating user admin 192.0.2.7 port 4022: Too many authentication failures [preauth]",
            EventKind.MAX_ATTEMPTS,
            {**PEER, "user": "admin", "valid_user": 1},
        ),
        (
            "User admin from 192.0.2.7 not allowed because not listed in AllowUsers",
            EventKind.USER_REFUSED,
            {"sourceIp": "192.0.2.7", "user": "admin", "reason": "not listed in AllowUsers"},
        ),
        (
            "User git from 192.0.2.7 not allowed because none of user's groups are listed in AllowGroups",
            EventKind.USER_REFUSED,
            {
                "sourceIp": "192.0.2.7",
                "user": "git",
                "reason": "none of user's groups are listed in AllowGroups",
            },
        ),
        (
            "ROOT LOGIN REFUSED FROM 192.0.2.7 port 4022 [preauth]",
            EventKind.USER_REFUSED,
            {**PEER, "user": "root", "reason": "root login refused"},
        ),
    ],
)
def test_connection_that_names_a_user_or_ends(message: str, kind: EventKind, fields: dict[str, str | int]) -> None:
    """Users who may not log in, used up attempts and ends before authentication are events of their own."""
    assert read(message) == (kind, fields, 1)


@pytest.mark.parametrize(
    ("message", "kind", "fields"),
    [
        ("Did not receive identification string from 192.0.2.7 port 4022", EventKind.BANNER_FAULT, PEER),
        ("Did not receive identification string from 192.0.2.7", EventKind.BANNER_FAULT, {"sourceIp": "192.0.2.7"}),
        (
            "Bad protocol version identification 'x' from 9.9.9.9 port 1' from 192.0.2.7 port 4022",
            EventKind.BANNER_FAULT,
            PEER,
        ),
        (
            "Protocol major versions differ for 192.0.2.7 port 4022: SSH-2.0-OpenSSH_8.4 vs. SSH-1.5-x from 9.9.9.9",
            EventKind.BANNER_FAULT,
            PEER,
        ),
        ("banner exchange: Connection from 192.0.2.7 port 4022: invalid format", EventKind.BANNER_FAULT, PEER),
        (
            "Unable to negotiate with 192.0.2.7 port 4022: no matching MAC found. Their offer: x from 9.9.9.9",
            EventKind.KEY_EXCHANGE_FAULT,
            PEER,
        ),
        (
            "fatal: Unable to negotiate with 2001:db8::1: no matching host key type found. Their offer: x [preauth]",
            EventKind.KEY_EXCHANGE_FAULT,
            {"sourceIp": "2001:db8::1"},
        ),
        (
            "ssh_dispatch_run_fatal: Connection from 192.0.2.7 port 4022: Broken pipe [preauth]",
            EventKind.KEY_EXCHANGE_FAULT,
            PEER,
        ),
        ("fatal: Timeout before authentication for 192.0.2.7 port 4022", EventKind.AUTH_TIMEOUT, PEER),
        (
            "Timeout before authentication for connection from 192.0.2.7 to 192.0.2.1, pid = 77",
            EventKind.AUTH_TIMEOUT,
            {"sourceIp": "192.0.2.7", "pid": 77},
        ),
        ("refused connect from x (192.0.2.7)", EventKind.CONNECTION_REFUSED, {"sourceIp": "192.0.2.7"}),
        (
            "drop connection #10 from [192.0.2.7]:4022 on [192.0.2.1]:22 past MaxStartups",
            EventKind.MAX_STARTUPS,
            {**PEER, "reason": "past MaxStartups"},
        ),
        (
            "drop connection #0 from [192.0.2.7]:4022 on [192.0.2.1]:22 penalty: failed authentication",
            EventKind.PENALTY,
            {**PEER, "reason": "penalty: failed authentication"},
        ),
    ],
)
def test_contact_without_a_user(message: str, kind: EventKind, fields: dict[str, str | int]) -> None:
    """Faults of identification and key exchange, timeouts and dropped connections name the peer."""
    assert read(message) == (kind, fields, 1)


@pytest.mark.parametrize(("times", "count"), [("5", 5), ("1", 1)])
def test_repeated_message_counts_each(times: str, count: int) -> None:
    """A message that rsyslog folded into `message repeated 5 times` stands for five failures."""
    found = read(f"message repeated {times} times: [ Failed password for root from 192.0.2.7 port 4022 ssh2]")
    assert found is not None
    assert (found[0], found[2]) == (EventKind.LOGIN_FAILED, count)


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
    fields = {**PEER, "user": "deploy", "method": message.split()[1]}
    assert read(message) == (EventKind.LOGIN_SUCCEEDED, fields, 1)


@pytest.mark.parametrize(
    "message",
    [
        "note: Failed password for root from 192.0.2.7 port 22 ssh2",
        "Failed none for invalid user x from 192.0.2.7 port 22 ssh2",
        "Partial publickey for root from 192.0.2.7 port 22 ssh2",
        "Postponed keyboard-interactive for root from 192.0.2.7 port 22 ssh2 [preauth]",
        "pam_unix(sshd:auth): authentication failure; rhost=192.0.2.7 user=root",
        "message repeated 0 times: [ Failed password for x from 192.0.2.7 port 22 ssh2]",
        "Failed password for root from attacker.example.org port 22 ssh2",
        "Failed password for root from 192.0.2.7 port 22 ss",
        "error: PAM: Authentication failure for root from attacker.example.org",
        "User x from 192.0.2.7 not allowed because shell /a from 9.9.9.9 not allowed because b does not exist",
        "Disconnecting invalid user x 192.0.2.7 port 22: Change of username or service not allowed: (x,a) -> (y,b)",
        "Disconnected from 192.0.2.7 port 22",
        "Received disconnect from 192.0.2.7 port 22:11: disconnected by user",
        "Received disconnect from 192.0.2.7: 11: disconnected by user",
        "Close session: user ansible from 192.168.1.1 port 34928 id 0",
        "Connection from 192.0.2.7 port 22 on 192.0.2.1 port 22",
        'error: kex_exchange_identification: client sent invalid protocol identifier "from 192.0.2.7 port 22"',
        "",
    ],
)
def test_message_that_is_no_event(message: str) -> None:
    """Other messages, host names, broken lines and ends that name no user say nothing."""
    assert read(message) is None


@pytest.mark.parametrize(
    ("logged", "address"),
    [("2001:DB8:0::1", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), ("::ffff:192.0.2.7", "192.0.2.7")],
)
def test_address_has_one_spelling(logged: str, address: str) -> None:
    """However an address is logged, it is reported in its one normal form."""
    found = read(f"Failed password for root from {logged} port 22 ssh2")
    assert found is not None
    assert found[1]["sourceIp"] == address


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
    found = read(f"Failed password for {'x' * 5000} from 192.0.2.7 port 4022 ssh2")
    assert found is not None
    assert found[1]["user"] == "x" * MAX_USER
