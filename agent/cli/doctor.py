"""`panguard guard doctor`: the logs of this host, their readability, their writers, and remedies for problems."""

import grp
import os
import pwd
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from agent.cli.live_fence import without_stopped
from agent.errors import ConfigurationError, StorageError
from agent.respond.fence_client import FenceClient, FenceError
from agent.settings import read_settings
from agent.sources import host_logs
from agent.sources.host_logs import HostLog
from agent.sources.source import SourceError
from agent.status import inspect_guard

VOUCHED_FILE = Path("/var/log/panguard-auth.log")
"""The log that the rsyslog drop-in writes: only records whose sender has user id 0 according to the kernel."""

RSYSLOG = Path("/etc/rsyslog.conf")
DROP_IN = Path("/etc/rsyslog.d/20-panguard.conf")

_DAEMONS = ("rsyslogd", "syslog-ng", "syslogd", "busybox", "metalog", "systemd-journald", "systemd-journal")
_MODULE = re.compile(r'^(?P<begin>\s*module\(\s*load="imuxsock")(?P<rest>[^)\n]*)\)', re.MULTILINE)
_ANNOTATE = ' SysSock.Annotate="on" SysSock.ParseTrusted="on"'
_RULE = f"""# Written by `panguard guard doctor --fix`. Authentication records of processes whose user id is 0, as
# the kernel gave it. Start the guard with: --trust-log {VOUCHED_FILE}
if $!uid == "0" and ($syslogfacility-text == "auth" or $syslogfacility-text == "authpriv") then {{
    action(type="omfile" file="{VOUCHED_FILE}" fileOwner="root" fileGroup="adm" fileCreateMode="0640"
           template="RSYSLOG_FileFormat")
}}
"""

_REMEDIES = {
    "missing": "create it, or start the guard with a log that this host has: --watch auto, or --watch-log FILE",
    "unreadable": "give the guard's user the group that may read it (adm, systemd-journal), and start it again",
    "silent": "start the program that writes it: systemd-journald, or the syslog daemon",
    "dropping": "raise the limit that the reason names; it ends by itself 5 minutes after the last loss",
    "unparsed": "name a file that a syslog daemon writes",
    "clock": "set the clock right; it ends by itself after 5 minutes",
    "ineffective": "see which proxy or program carries the packets past nftables",
    "stopped": "as root: panguard guard resume",
}
"""The remedy for each state of a source."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem and its remedy."""

    problem: str
    mend: str


@dataclass(frozen=True, slots=True)
class Examination:
    """The results of the doctor's examination.

    Attributes:
        user: The user who asked; readable means readable for this user.
        groups: Their groups.
        logs: The logs of the catalogue.
        chosen: The name of the log that ``--watch auto`` reads; None if there is none.
        writers: The daemons that run and write logs.
        problems: Problems with their remedies.
        guard: State, health and sources of the guard in the data directory; None if none was started there.
    """

    user: str
    groups: list[str]
    logs: list[HostLog]
    chosen: str | None
    writers: list[str]
    problems: list[Problem]
    guard: dict[str, Any] | None

    @property
    def well(self) -> bool:
        """Whether all sources of the running guard are well; without a running one, whether a log can be read."""
        if self.guard is not None and self.guard["pid"] is not None:
            return bool(self.guard["health"] == "ok")
        return self.chosen is not None

    def document(self) -> dict[str, Any]:
        """Return the findings as JSON's types."""
        return {
            "user": self.user,
            "groups": self.groups,
            "logs": [
                {
                    "name": log.name,
                    "path": None if log.path is None else str(log.path),
                    "state": log.state,
                    "reason": log.reason,
                    "writers": self._writers_of(log),
                    "vouches": log.vouches,
                    "chosen": log.name == self.chosen,
                }
                for log in self.logs
            ],
            "chosen": self.chosen,
            "problems": [{"problem": found.problem, "mend": found.mend} for found in self.problems],
            "guard": self.guard,
        }

    def lines(self) -> Iterator[str]:
        """Yield the findings for people."""
        yield f"user {self.user}, groups {', '.join(self.groups) or '-'}"
        for log in self.logs:
            mark = "*" if log.name == self.chosen else " "
            if log.state == "missing":
                yield f"{mark} {log.name}: missing"
                continue
            trust = "proves its writers" if log.vouches else "proves no writer"
            writers = ", ".join(self._writers_of(log)) or "no running writer found"
            yield f"{mark} {log.name}: {log.state}; {writers}; {trust}" + (f"; {log.reason}" if log.reason else "")
        yield f"--watch auto reads {self.chosen}" if self.chosen else "--watch auto finds nothing to read"
        if self.guard is not None:
            yield f"guard: {self.guard['state']}, {self.guard['health'] or 'health unknown'}"
            if self.guard["pid"] is not None:
                read = [f"{each['name']} ({each['state']})" for each in self.guard["sources"] or ()]
                yield f"guard: reads {', '.join(read) or 'nothing yet'}"
        for found in self.problems:
            yield f"problem: {found.problem}"
            yield f"  mend: {found.mend}"

    def _writers_of(self, log: HostLog) -> list[str]:
        of_journal = [name for name in self.writers if name.startswith("systemd-journal")]
        if log.path is None:
            return of_journal
        return [name for name in self.writers if name not in of_journal]


def examine(directory: Path) -> Examination:
    """Examine this host's logs for the current user.

    Args:
        directory: The guard's data directory.

    Raises:
        StorageError: the data directory cannot be read.
    """
    logs = host_logs.survey()
    try:
        chosen: str | None = host_logs.choose(logs).name
    except SourceError:
        chosen = None
    writers = _writers()
    user = pwd.getpwuid(os.geteuid()).pw_name if _known(os.geteuid()) else str(os.geteuid())
    guard = _guard(directory)
    if guard is None or guard["pid"] is None:
        problems = list(_problems(logs, chosen, writers, user))
    else:
        problems = list(_problems_of_guard(guard, logs, writers))
    return Examination(user, _groups(), logs, chosen, writers, [*problems, *_problems_of_fence()], guard)


def fix_rsyslog(configuration: Path = RSYSLOG, drop_in: Path = DROP_IN) -> list[str]:
    """Configure rsyslog to write records of root's processes into a file of their own; return the remaining steps.

    The line of the configuration that loads imuxsock gets `SysSock.Annotate` and `SysSock.ParseTrusted`; the original
    is kept beside it. The drop-in defines the new file. rsyslog is not restarted.

    Raises:
        ConfigurationError: rsyslog's configuration is missing, does not load imuxsock, or cannot be written.
    """
    try:
        before = configuration.read_text(errors="surrogateescape")
        module = _MODULE.search(before)
        if module is None:
            raise ConfigurationError(
                f"{configuration} does not load imuxsock by module(load=…): add {_ANNOTATE.strip()} to it by hand"
            )
        if "SysSock.Annotate" not in module["rest"]:
            line = f"{module['begin']}{module['rest'].rstrip()}{_ANNOTATE})"
            configuration.with_name(configuration.name + ".before-panguard").write_text(
                before, errors="surrogateescape"
            )
            configuration.write_text(before[: module.start()] + line + before[module.end() :], errors="surrogateescape")
        drop_in.write_text(_RULE)
    except OSError as error:
        raise ConfigurationError(f"rsyslog cannot be set up: {error.filename}: {error.strerror}") from error
    return [
        f"wrote {drop_in} and {configuration}",
        "check it by: rsyslogd -N1; then: systemctl restart rsyslog (or service rsyslog restart)",
        f"then start the guard with: --trust-log {VOUCHED_FILE}",
    ]


def _problems(logs: list[HostLog], chosen: str | None, writers: list[str], user: str) -> Iterator[Problem]:
    for log in logs:
        if log.state == "unreadable":
            group = "systemd-journal" if log.path is None else _group_of(log.path)
            mend = f"usermod --append --groups {group} {user}, then log in again or restart the guard"
            yield Problem(log.reason or f"{log.name} cannot be read", mend)
    if chosen is None and all(log.state == "missing" for log in logs):
        mend = "start systemd-journald, or install a syslog daemon such as rsyslog, or name your log by --watch-log"
        if writers:
            mend = f"wait for the first login: {writers[0]} makes its file then; or name your log by --watch-log"
        yield Problem("this host keeps no log of logins where the guard looks", mend)
    yield from _unproven(logs, [] if chosen is None else [chosen], writers)


def _problems_of_guard(guard: dict[str, Any], logs: list[HostLog], writers: list[str]) -> Iterator[Problem]:
    """Yield the problems of the logs that a running guard reads; the other logs of the host do not matter to it."""
    sources = guard["sources"] or ()
    for source in sources:
        if source["state"] != "ok":
            mend = _REMEDIES.get(source["state"], "see docs/guard.md, Health")
            yield Problem(f"the running guard's {source['name']} is {source['state']}: {source.get('reason')}", mend)
    yield from _unproven(logs, [source["name"] for source in sources], writers)


def _unproven(logs: list[HostLog], read: list[str], writers: list[str]) -> Iterator[Problem]:
    for log in logs:
        if log.name in read and not log.vouches:
            mend = (
                "as root: panguard guard doctor --fix" if "rsyslogd" in writers else "run systemd-journald, or rsyslog"
            )
            told = "threats in it are reported, but never lead to a block unless it is a --trust-log"
            yield Problem(f"{log.name} proves no writer: {told}", mend)


def _problems_of_fence() -> Iterator[Problem]:
    """Yield the reason why nothing can be blocked here, if there is one."""
    try:
        answer = FenceClient(read_settings(os.environ).fence_socket, patience=5.0).ask("check")
    except (FenceError, ConfigurationError) as error:
        yield Problem(f"nothing is blocked: {error}", "as root: panguard guard install")
        return
    if answer.get("missing") is not None:
        yield Problem(f"nothing is blocked: {answer['missing']}", "as root: panguard guard install")
    elif answer.get("panic"):
        yield Problem("nothing is blocked: the fence is stopped by `panic`", "as root: panguard guard resume")


def _writers() -> list[str]:
    found = set()
    for process in psutil.process_iter(["name"]):
        name = process.info["name"] or ""
        if name in _DAEMONS:
            found.add("systemd-journald" if name == "systemd-journal" else name)
    return sorted(found)


def _groups() -> list[str]:
    found = []
    for number in sorted({os.getegid(), *os.getgroups()}):
        with suppress(KeyError):
            found.append(grp.getgrgid(number).gr_name)
    return found


def _group_of(path: Path) -> str:
    with suppress(OSError, KeyError):
        return path.group()
    return "adm"


def _known(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _guard(directory: Path) -> dict[str, Any] | None:
    try:
        fields = without_stopped(inspect_guard(directory))  # the fence is asked
    except StorageError:
        return None
    names = ("state", "pid", "health", "sources", "enforcement", "notConnected")
    return {name: fields.get(name) for name in names}
