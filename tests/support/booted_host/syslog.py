"""A booted host whose programs log to files: without journald, by rsyslog or BusyBox's syslogd at /dev/log."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.booted_host.machine import BootedHost
from tests.support.waiting import eventually

AUTH_LOG = "/var/log/auth.log"
MESSAGES = "/var/log/messages"

_JOURNALD = (
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket",
)
_RSYSLOG = "/etc/rsyslog.conf"
_AT_DEV_LOG = 'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="/dev/log" CreatePath="on")\n'


@contextmanager
def files_only(host: BootedHost) -> Iterator[None]:
    """Take journald and its files away, and let rsyslog write the authentication log, which is not there yet."""
    before = host.path(_RSYSLOG).read_text()
    host.run("systemctl", "mask", "--now", *_JOURNALD)
    host.run("rm", "-rf", "/var/log/journal", "/run/log/journal", "/dev/log", AUTH_LOG)
    others = "".join(line for line in before.splitlines(keepends=True) if "imuxsock" not in line)
    host.write(_RSYSLOG, _AT_DEV_LOG + others)
    host.run("systemctl", "restart", "rsyslog", "ssh")
    try:
        yield
    finally:
        host.write(_RSYSLOG, before)
        host.run("systemctl", "unmask", *_JOURNALD)
        host.run("mkdir", "-p", "/var/log/journal")
        host.run("rm", "-f", "/dev/log")
        host.run("systemctl", "start", *_JOURNALD[:3])
        host.run("systemctl", "restart", "rsyslog", "ssh")  # rsyslog removes its own /dev/log when it stops
        host.run("ln", "-sf", "/run/systemd/journal/dev-log", "/dev/log")


@contextmanager
def busybox(host: BootedHost) -> Iterator[None]:
    """Let BusyBox's syslogd write `MESSAGES` in place of rsyslog; for a host without journald."""
    host.run("systemctl", "stop", "rsyslog", "syslog.socket")
    words = ("busybox", "syslogd", "-n", "-O", MESSAGES)
    host.run("systemd-run", "--quiet", "--unit=busybox-syslogd", *words)
    eventually(lambda: host.path(MESSAGES).exists(), what="the log of BusyBox's syslogd", pause=0.1)
    host.run("systemctl", "restart", "ssh")
    try:
        yield
    finally:
        host.run("systemctl", "stop", "busybox-syslogd")
        host.run("rm", "-f", "/dev/log", MESSAGES)
        host.run("systemctl", "restart", "rsyslog", "ssh")
