"""Parses messages of OpenSSH 7 to 10: failed and successful logins, and connections without a login.

The client chooses user names, key ids and protocol text, and none of it may ever be read as the peer's address. So a
pattern covers the whole message and is anchored where sshd itself writes the address: at the end, or at the beginning
before any foreign text. A message with an ambiguous address is dropped. Never pass in a message that was cut.
"""

import re
from collections.abc import Callable

from agent.events import EventKind
from agent.parse.addresses import normal_address

PROGRAMS = frozenset({"sshd", "sshd-session", "sshd-auth"})
"""The daemon of OpenSSH 7 to 9.7, and the programs for sessions and authentication of later releases."""

MAX_USER = 128
"""The maximum length of a user name in characters; sshd itself logs at most 100 bytes, escaped."""

# sshd cuts a message at 1,023 characters, and a long certificate key id determines the place. A message shorter than
# this was not cut, so sshd wrote its end.
_DECISIVE_LENGTH = 1000

Fields = dict[str, str | int]
Reading = tuple[EventKind, Fields]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII | re.DOTALL)


_PORT = r"(?: port (?P<port>\d{1,5}))"
_PEER = rf" from (?P<address>\S+){_PORT}"
_VERDICT = r"(?P<outcome>Failed|Accepted) (?P<method>\S+) for (?P<invalid>invalid user )?"
_VALID = r"(?P<valid>authenticating|invalid) user "

_JUDGED = _pattern(rf"{_VERDICT}(?P<user>.*){_PEER} ssh2(?:: [A-Z0-9-]+ [A-Z0-9]+:[A-Za-z0-9+/=:]+)?")
_JUDGED_WITH_DETAIL = _pattern(rf"{_VERDICT}(?P<user>.*){_PEER} ssh2: .+")
_ANY_PEER = _pattern(r" from \S+ port \d{1,5} ssh2")

_INVALID_USER = _pattern(rf"Invalid user (?P<user>.*) from (?P<address>\S+){_PORT}?")
_CLOSED_WITH_USER = _pattern(
    rf"(?:Connection (?:closed|reset) by|Disconnected from) {_VALID}(?P<user>.*) (?P<address>\S+){_PORT}"
)
_DISCONNECTING = _pattern(
    rf"Disconnecting {_VALID}(?P<user>.*) (?P<address>\S+){_PORT}: Too many authentication failures"
)
_CLOSED = _pattern(rf"(?:Connection (?:closed|reset) by|Disconnected from) (?P<address>\S+){_PORT}?")
_SESSION_ENDED = _pattern(
    r"(?:Connection (?:closed|reset) by|Disconnected from|Timeout, client not responding from) user (?P<user>.*) "
    rf"(?P<address>\S+){_PORT}"
)
_RECEIVED_DISCONNECT = _pattern(r"Received disconnect from (?P<address>[0-9A-Fa-f:.]+): \d{1,3}: .*")
_MAX_ATTEMPTS = _pattern(
    rf"maximum authentication attempts exceeded for (?P<invalid>invalid user )?(?P<user>.*){_PEER} ssh2"
)
_NOT_ALLOWED = _pattern(r"User (?P<user>.*) from (?P<address>\S+) not allowed because (?P<reason>.+)")
_ROOT_REFUSED = _pattern(rf"ROOT LOGIN REFUSED FROM (?P<address>\S+){_PORT}?")
_PAM = _pattern(
    r"PAM: (?P<reason>[A-Za-z ]+) for (?P<invalid>(?:illegal|invalid) user )?(?P<user>.*) from (?P<address>\S+)"
)
_NO_IDENTIFICATION = _pattern(rf"Did not receive identification string from (?P<address>\S+){_PORT}?")
_BAD_PROTOCOL = _pattern(rf"Bad protocol version identification '.*' from (?P<address>\S+){_PORT}?")
_PROTOCOL_DIFFERS = _pattern(rf"Protocol major versions differ for (?P<address>\S+){_PORT}?: .*")
_BANNER = _pattern(rf"banner exchange: Connection from (?P<address>\S+){_PORT}: [a-zA-Z ]+")
_NEGOTIATE = _pattern(rf"Unable to negotiate with (?P<address>\S+?){_PORT}?: no matching .*")
_DISPATCH = _pattern(rf"ssh_dispatch_run_fatal: Connection from (?P<address>\S+){_PORT}: .*")
_TIMEOUT = _pattern(
    r"Timeout before authentication for "
    rf"(?:connection from (?P<from>\S+) to \S+, pid = (?P<pid>\d+)|(?P<address>\S+?){_PORT}?)"
)
_DROP = _pattern(
    r"drop connection #\d+ from \[(?P<address>[^\]\s]+)\]:(?P<port>\d{1,5}) on \[[^\]\s]+\]:\d{1,5} (?P<reason>.+)"
)
_REFUSED_CONNECT = _pattern(r"refused connect from \S+ \((?P<address>\S+)\)")

_REPEATED = _pattern(r"message repeated (?P<times>\d{1,6}) times: \[ ?(?P<message>.*)\]")
_NOT_ALLOWED_TEXT = " not allowed because "


def may_have_event(message: str) -> bool:
    """Return whether a message's first word is one of those with which events begin."""
    return message[: message.find(" ")] in _FIRST_WORDS


def read(message: str) -> tuple[EventKind, Fields, int] | None:
    """Parse one whole message of sshd.

    Returns:
        The event's kind, fields and number of occurrences; None if the message contains no event or no address.
    """
    word, count = message[: message.find(" ")], 1
    if word not in _FIRST_WORDS:
        return None
    if word == "message":
        repeated = _REPEATED.fullmatch(message)
        if repeated is None or not int(repeated["times"]):
            return None
        message, count = repeated["message"], int(repeated["times"])
    preauth = message.endswith(" [preauth]")
    if preauth:
        message = message[: -len(" [preauth]")]
    if word not in _READERS:
        message = message.removeprefix("error: ").removeprefix("fatal: ")
        word = message[: message.find(" ")]
    reader = _READERS.get(word)
    found = None if reader is None else reader(message)
    if found is None:
        return None
    kind, fields = found
    if kind is EventKind.CONNECTION_CLOSED and "user" not in fields and not preauth and not message.startswith("Conn"):
        return None  # the end of a session
    return kind, fields, count


def _judged(message: str) -> Reading | None:
    """Parse `Failed …` and `Accepted …`, if the address is unambiguous.

    `Failed none` is a client's query for the available methods, not an attempt.
    """
    match = _JUDGED.fullmatch(message) or _JUDGED_WITH_DETAIL.fullmatch(message)
    if match is None or match[2] == "none":
        return None
    # Passwords have no detail behind `ssh2`, a plain key has a fingerprint, which nobody can choose to look like a
    # peer. Other details (certificate ids, host-based client users, Kerberos names) are free text: there the peer is
    # certain only while nothing else in the line looks like one.
    outcome, method, invalid, user, text, port = match.groups()
    ends_with_peer = match.re is _JUDGED and len(message) < _DECISIVE_LENGTH
    certain = ends_with_peer and method.startswith(("password", "keyboard-interactive", "publickey"))
    if not certain and len(_ANY_PEER.findall(message)) != 1:
        return None
    address = normal_address(text)
    if address is None:
        return None
    fields: Fields = {"sourceIp": address, "port": int(port), "user": user[:MAX_USER], "method": method}
    if outcome == "Accepted":
        return EventKind.LOGIN_SUCCEEDED, fields
    fields["valid_user"] = int(invalid is None)
    return EventKind.LOGIN_FAILED, fields


def _invalid_user(message: str) -> Reading | None:
    match = _INVALID_USER.fullmatch(message)
    return match and _reading(EventKind.INVALID_USER, match)


def _closed(message: str) -> Reading | None:
    match = _SESSION_ENDED.fullmatch(message)
    if match is not None:
        return _reading(EventKind.SSH_SESSION_ENDED, match)
    match = _CLOSED_WITH_USER.fullmatch(message)
    if match is not None:
        return _reading(EventKind.CONNECTION_CLOSED, match, valid_user=int(match["valid"] == "authenticating"))
    match = _CLOSED.fullmatch(message)
    return match and _reading(EventKind.CONNECTION_CLOSED, match)


def _disconnecting(message: str) -> Reading | None:
    match = _DISCONNECTING.fullmatch(message)
    return match and _reading(EventKind.MAX_ATTEMPTS, match, valid_user=int(match["valid"] == "authenticating"))


def _max_attempts(message: str) -> Reading | None:
    match = _MAX_ATTEMPTS.fullmatch(message)
    return match and _reading(EventKind.MAX_ATTEMPTS, match, valid_user=int(match["invalid"] is None))


def _not_allowed(message: str) -> Reading | None:
    match = _NOT_ALLOWED.fullmatch(message)
    if match is None or message.count(_NOT_ALLOWED_TEXT) != 1:  # the reason may quote the path of a shell
        return None
    return _reading(EventKind.USER_REFUSED, match, reason=match["reason"][:MAX_USER])


def _root_refused(message: str) -> Reading | None:
    match = _ROOT_REFUSED.fullmatch(message)
    found = match and _reading(EventKind.USER_REFUSED, match, reason="root login refused")
    if found is not None:
        found[1]["user"] = "root"
    return found


def _pam(message: str) -> Reading | None:
    match = _PAM.fullmatch(message)
    return match and _reading(
        EventKind.LOGIN_FAILED, match, method="keyboard-interactive/pam", valid_user=int(match["invalid"] is None)
    )


def _timeout(message: str) -> Reading | None:
    match = _TIMEOUT.fullmatch(message)
    if match is None:
        return None
    return _reading(EventKind.AUTH_TIMEOUT, match, **({"pid": int(match["pid"][:10])} if match["pid"] else {}))


def _drop(message: str) -> Reading | None:
    match = _DROP.fullmatch(message)
    if match is None:
        return None
    kind = EventKind.PENALTY if "penalty" in match["reason"] else EventKind.MAX_STARTUPS
    return _reading(kind, match, reason=match["reason"][:MAX_USER])


def _simple(pattern: re.Pattern[str], kind: EventKind) -> Callable[[str], Reading | None]:
    def reader(message: str) -> Reading | None:
        match = pattern.fullmatch(message)
        return match and _reading(kind, match)

    return reader


def _reading(kind: EventKind, match: re.Match[str], **more: str | int) -> Reading | None:
    named = match.groupdict()
    address = normal_address(named.get("address") or named.get("from") or "")
    if address is None:
        return None
    fields: Fields = {"sourceIp": address, **more}
    if named.get("port"):
        fields["port"] = int(named["port"])
    if "user" in named:
        fields["user"] = named["user"][:MAX_USER]
    return kind, fields


_READERS: dict[str, Callable[[str], Reading | None]] = {
    "Failed": _judged,
    "Accepted": _judged,
    "Invalid": _invalid_user,
    "Connection": _closed,
    "Disconnected": _closed,
    "Disconnecting": _disconnecting,
    "maximum": _max_attempts,
    "User": _not_allowed,
    "ROOT": _root_refused,
    "PAM:": _pam,
    "Timeout": _timeout,
    "Timeout,": _closed,
    "drop": _drop,
    "Received": _simple(_RECEIVED_DISCONNECT, EventKind.CONNECTION_CLOSED),
    "Did": _simple(_NO_IDENTIFICATION, EventKind.BANNER_FAULT),
    "Bad": _simple(_BAD_PROTOCOL, EventKind.BANNER_FAULT),
    "Protocol": _simple(_PROTOCOL_DIFFERS, EventKind.BANNER_FAULT),
    "banner": _simple(_BANNER, EventKind.BANNER_FAULT),
    "Unable": _simple(_NEGOTIATE, EventKind.KEY_EXCHANGE_FAULT),
    "ssh_dispatch_run_fatal:": _simple(_DISPATCH, EventKind.KEY_EXCHANGE_FAULT),
    "refused": _simple(_REFUSED_CONNECT, EventKind.CONNECTION_REFUSED),
}

_FIRST_WORDS = _READERS.keys() | {"error:", "fatal:", "message"}
