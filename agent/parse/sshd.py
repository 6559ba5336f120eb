"""Reads OpenSSH's log lines: which of them say that a login failed or succeeded, and from which address.

The user name is text that an attacker chooses, and so is the key id of a certificate. Neither may ever be taken for the
peer's address, so every pattern is anchored at the end of the line, where sshd itself writes the address; a line in
which that is not decisive is dropped. A line that was cut has no such end: never pass one in.
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, tzinfo

MAX_USER = 128
"""Characters of a user name that are kept; sshd itself logs at most 100 bytes, escaped."""

# sshd cuts a message at 1,023 characters, and a long certificate key id can choose where. What is shorter than this
# was not cut, so its end is sshd's own.
_DECISIVE_LENGTH = 1000

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_HEADER = re.compile(
    rf"(?:(?P<month>{'|'.join(_MONTHS)}) {{1,2}}(?P<day>\d{{1,2}}) (?P<clock>\d\d:\d\d:\d\d)"
    r"|(?P<iso>\d{4}-\d\d-\d\dT\S+))"
    r" \S+ sshd(?:-session|-auth)?\[\d+\]: (?P<message>.*)",
    re.ASCII | re.DOTALL,
)
_REPEATED = re.compile(r"message repeated (?P<times>\d{1,6}) times: \[ ?(?P<message>.*)\]", re.ASCII | re.DOTALL)

_PEER = r" from (?P<address>\S+) port (?P<port>\d{1,5})"
_PREAUTH = r"(?: \[preauth\])?"
_VERDICT = r"(?P<outcome>Failed|Accepted) (?P<method>\S+) for (?:invalid user )?"

_JUDGED = re.compile(
    rf"{_VERDICT}(?P<user>.*){_PEER} ssh2(?:: [A-Z0-9-]+ [A-Z0-9]+:[A-Za-z0-9+/=:]+)?{_PREAUTH}", re.ASCII | re.DOTALL
)
_JUDGED_WITH_DETAIL = re.compile(rf"{_VERDICT}(?P<user>.*){_PEER} ssh2: .+", re.ASCII | re.DOTALL)
_ANY_PEER = re.compile(r" from \S+ port \d{1,5} ssh2", re.ASCII)

_ENDED = (
    re.compile(rf"Invalid user (?P<user>.*){_PEER}{_PREAUTH}", re.ASCII | re.DOTALL),
    re.compile(
        r"(?:Connection (?:closed|reset) by|Disconnected from) (?:authenticating|invalid) user (?P<user>.*)"
        rf" (?P<address>\S+) port (?P<port>\d{{1,5}}){_PREAUTH}",
        re.ASCII | re.DOTALL,
    ),
    re.compile(
        r"(?:error: )?maximum authentication attempts exceeded for (?:invalid user )?"
        rf"(?P<user>.*){_PEER} ssh2{_PREAUTH}",
        re.ASCII | re.DOTALL,
    ),
)


@dataclass(frozen=True, slots=True)
class FailedLogin:
    """One line that tells of a login that failed.

    Attributes:
        at: When, in epoch seconds UTC.
        address: The peer, normalised; never a host name.
        port: The peer's port; with the address it names the connection.
        user: The account that was tried, as sshd escaped it, at most `MAX_USER` characters.
        count: How many failures the line stands for (`message repeated 5 times` stands for five).
        judged: True where sshd refused a credential (`Failed …`). False where the line only tells that a connection
            had an unknown user, or ended without a login (`Invalid user`, `Connection closed by authenticating user`,
            `maximum authentication attempts exceeded`). sshd may write both kinds about one attempt, so an unjudged
            line counts only for a connection that has no judged one: the detector sees to that.
    """

    at: float
    address: str
    port: int
    user: str
    count: int = 1
    judged: bool = True


@dataclass(frozen=True, slots=True)
class SuccessfulLogin:
    """One line that tells of a login that succeeded: when (epoch seconds UTC), from which address, as whom."""

    at: float
    address: str
    user: str


def parse(line: str, now: float, zone: tzinfo) -> FailedLogin | SuccessfulLogin | None:
    """Reads one whole line of a log file, in the formats of OpenSSH 8 to 10.

    `Failed none` is how a client asks for the methods there are, not an attempt, and is left out.

    Args:
        line: The line without its newline, with a traditional or an ISO 8601 timestamp.
        now: Epoch seconds; a traditional timestamp has no year and gets the one that brings it closest to this.
        zone: The zone of timestamps that name none: the host's.

    Returns:
        What the line tells, or None if sshd did not write it, it tells of no login, or names no address.
    """
    header = _HEADER.fullmatch(line)
    if header is None:
        return None
    message, count = header["message"], 1
    repeated = _REPEATED.fullmatch(message)
    if repeated is not None:
        message, count = repeated["message"], int(repeated["times"])
    found = _login(message)
    if found is None or count < 1:
        return None
    address, at = _address(found["address"]), _epoch(header, now, zone)
    if address is None or at is None:
        return None
    user, judged = found["user"][:MAX_USER], found.re not in _ENDED
    if judged and found["outcome"] == "Accepted":
        return SuccessfulLogin(at, address, user)
    return FailedLogin(at, address, int(found["port"]), user, count, judged)


def _login(message: str) -> re.Match[str] | None:
    """The match of the one pattern that fits a message, if it is decisive about the address."""
    for pattern in _ENDED:
        ended = pattern.fullmatch(message)
        if ended is not None:
            return ended
    judged = _JUDGED.fullmatch(message) or _JUDGED_WITH_DETAIL.fullmatch(message)
    if judged is None or judged["method"] == "none":
        return None
    # Passwords have no detail behind `ssh2`, a plain key has a fingerprint, which nobody can choose to look like a
    # peer. Other details (certificate ids, host-based client users, Kerberos names) are free text: there the peer is
    # certain only while nothing else in the line looks like one.
    ends_with_peer = judged.re is _JUDGED and len(message) < _DECISIVE_LENGTH
    certain = ends_with_peer and judged["method"].startswith(("password", "keyboard-interactive", "publickey"))
    return judged if certain or len(_ANY_PEER.findall(message)) == 1 else None


def _address(text: str) -> str | None:
    """The address in its one spelling: IPv4-mapped as IPv4, no zone (a firewall knows none); None for a host name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Address(int(address)))
    return str(address)


def _epoch(header: re.Match[str], now: float, zone: tzinfo) -> float | None:
    """The header's time in epoch seconds; None if there is no such date."""
    if header["iso"] is None:
        return _closest(header, now, zone)
    try:
        moment = datetime.fromisoformat(header["iso"])
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        return None


def _closest(header: re.Match[str], now: float, zone: tzinfo) -> float | None:
    """A traditional timestamp in the year, and in the hour that a clock change repeats, closest to now."""
    month, day = _MONTHS.index(header["month"]) + 1, int(header["day"])
    hour, minute, second = map(int, header["clock"].split(":"))
    year = datetime.fromtimestamp(now, zone).year
    candidates: list[float] = []
    for candidate in (year - 1, year, year + 1):
        for fold in (0, 1):
            try:
                moment = datetime(candidate, month, day, hour, minute, second, tzinfo=zone, fold=fold)
            except ValueError:  # 29 February exists in some of these years only
                continue
            candidates.append(moment.timestamp())
    return min(candidates, key=lambda at: abs(at - now), default=None)
