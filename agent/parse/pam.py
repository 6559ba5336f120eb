"""Parses the messages of sudo, su and login, and PAM's messages under their names."""

import re

from agent.events import EventKind

PROGRAMS = frozenset({"sudo", "su", "login", "systemd-logind"})
_MAX_USER = 128

Fields = dict[str, str | int]
Reading = tuple[EventKind, Fields, int]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII | re.DOTALL)


_SERVICES = {"sudo": EventKind.SUDO_FAILED, "su": EventKind.SU_FAILED, "login": EventKind.LOCAL_LOGIN_FAILED}
_PAM_FAILURE = _pattern(
    r"pam_unix\((?P<service>sudo|su|login)(?:-[il])?:auth\): authentication failure; logname=\S* uid=\d+ euid=\d+ "
    r"tty=(?P<tty>\S*) ruser=(?P<ruser>\S*) rhost=\S*(?:\s+user=(?P<user>\S*))?"
)
_PAM_SESSION = _pattern(
    r"pam_unix\((?P<service>[\w-]{1,32}):session\): session (?P<state>opened|closed) "
    r"for user (?P<user>[^\s(]{1,128})(?:\(.*| by .*)?"
)
_SUDO_WRONG = _pattern(
    r"\s*(?P<user>\S+) : (?P<times>\d{1,4}) incorrect password attempts? ; .*?USER=(?P<target>\S+)(?: ; .*)?"
)
_SUDO_FORBIDDEN = _pattern(
    r"\s*(?P<user>\S+) : (?P<reason>user NOT in sudoers|user NOT authorized on host|command not allowed) ; "
    r".*?USER=(?P<target>\S+)(?: ; .*)?"
)
_SUDO_RUN = _pattern(r"\s*(?P<user>\S+) : (?:TTY=\S+ ; )?PWD=.*? ; USER=(?P<target>\S+) ; .*")
_SU_FAILED = _pattern(r"FAILED SU \(to (?P<target>\S+)\) (?P<user>\S+) on (?P<tty>\S+)")
_SU_BSD = _pattern(r"BAD SU (?P<user>\S+) to (?P<target>\S+) on (?P<tty>\S+)")
_LOGIN_FAILED = _pattern(
    r"FAILED LOGIN (?:\(\d+\) on '?(?P<tty>[^\s']+)'? FOR '(?P<user>.*)', .*"
    r"|\d+ FROM (?P<from>\S+) FOR (?P<name>.*), .*)"
)


def read(program: str, message: str) -> Reading | None:
    """Parse one whole message of a program that checks passwords on the host itself.

    PAM's messages under sshd's name are ignored: sshd logs the same with the peer's port.

    Returns:
        The event's kind, fields and number of occurrences; None if the message contains no event.
    """
    if message.startswith("pam_unix("):
        return _pam(message)
    if program == "sudo":
        return _sudo(message)
    match = _SU_FAILED.fullmatch(message) or _SU_BSD.fullmatch(message)
    if match is not None:
        return _reading(EventKind.SU_FAILED, match["user"], match["target"])
    match = _LOGIN_FAILED.fullmatch(message) if program == "login" else None
    if match is not None:
        return _reading(EventKind.LOCAL_LOGIN_FAILED, match["user"] or match["name"] or "", "")
    return None


def _pam(message: str) -> Reading | None:
    match = _PAM_FAILURE.fullmatch(message)
    if match is not None:
        target = match["user"] or ""
        return _reading(_SERVICES[match["service"]], match["ruser"] or target, target, pam=1)
    match = _PAM_SESSION.fullmatch(message)
    if match is None:
        return None
    kind = EventKind.SESSION_OPENED if match["state"] == "opened" else EventKind.SESSION_CLOSED
    return kind, {"user": match["user"], "service": match["service"]}, 1


def _sudo(message: str) -> Reading | None:
    match = _SUDO_WRONG.fullmatch(message)
    if match is not None:
        times = int(match["times"])
        return _reading(EventKind.SUDO_FAILED, match["user"], match["target"], count=times) if times else None
    match = _SUDO_FORBIDDEN.fullmatch(message)
    if match is not None:
        return _reading(EventKind.SUDO_FAILED, match["user"], match["target"], reason=match["reason"])
    match = _SUDO_RUN.fullmatch(message)
    return match and _reading(EventKind.SUDO_RUN, match["user"], match["target"])


def _reading(kind: EventKind, user: str, target: str, count: int = 1, **more: str | int) -> Reading:
    fields: Fields = {"user": user[:_MAX_USER], **more}
    if target:
        fields["target_user"] = target[:_MAX_USER]
    return kind, fields, count
