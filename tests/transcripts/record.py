"""Records what a real sshd and real syslog daemons write: ``python3 tests/transcripts/record.py FOLDER``.

Needs root, sshd, ssh, ip and unshare. It runs in namespaces of its own, with accounts and a network of its own, and
changes nothing outside of FOLDER. Each syslog daemon that is found in PATH (rsyslogd, busybox, syslog-ng,
inetutils-syslogd, systemd-journald) writes the format files; where one is missing, its files are not made.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from host import (
    ADMIN,
    ATTACKER,
    BALANCER,
    KEYS_ONLY,
    LOG,
    NETWORK,
    OFFICE,
    PASSWORD,
    PASSWORDS,
    ROBOT,
    SERVER,
    SERVER6,
    WORK,
    WRONG,
    daemon,
    enter_namespaces,
    furnish,
    inetutils,
    logged,
    rsyslog,
    run,
    sshd,
    syslog_ng,
)


def ssh(
    user: str,
    source: str,
    *secrets: str,
    method: str = "password",
    keys: Sequence[str] = (),
    command: str = "true",
    wait: bool = True,
) -> subprocess.Popen[bytes]:
    """One connection of OpenSSH's client, which answers with these secrets or offers these keys."""
    answers_file = WORK / f"answers.{time.monotonic_ns()}"
    answers_file.write_text("".join(f"{secret}\n" for secret in secrets))
    words = [
        "ssh", "-F", "none", "-b", source, "-l", user,
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", f"PreferredAuthentications={'publickey' if not secrets else 'publickey,' * bool(keys) + method}",
        "-o", f"NumberOfPasswordPrompts={max(1, len(secrets))}", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=10",
        "-o", f"PubkeyAuthentication={'yes' if keys else 'no'}", "-o", "LogLevel=QUIET",
        *(word for key in keys for word in ("-i", str(WORK / key))),
        SERVER6 if ":" in source else SERVER, command,
    ]  # fmt: skip
    environment = os.environ | {
        "SSH_ASKPASS": str(WORK / "askpass"), "SSH_ASKPASS_REQUIRE": "force", "ANSWERS": str(answers_file),
        "DISPLAY": ":0",
    }  # fmt: skip
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if wait:
        process.wait(30)
    return process


def touch_port(source: str, *, say: bytes = b"") -> None:
    with socket.socket() as connection:
        connection.bind((source, 0))
        connection.connect((SERVER, 22))
        if say:
            connection.sendall(say)
            connection.settimeout(2)
            with suppress(OSError):
                while connection.recv(1024):
                    pass


def guesses() -> None:
    ssh("root", ATTACKER, WRONG, WRONG, WRONG)
    ssh("admin", ATTACKER, WRONG, WRONG, WRONG)


def keyboard_interactive() -> None:
    for _ in range(4):
        ssh("alice", ATTACKER, WRONG, WRONG, WRONG, method="keyboard-interactive")


def agent_keys() -> None:
    for _ in range(2):
        ssh("alice", ADMIN, keys=[*(f"wrong{number}" for number in range(5)), "right"])


def breach() -> None:
    for _ in range(10):
        ssh("alice", ATTACKER, WRONG, WRONG, WRONG)
    ssh("alice", ATTACKER, PASSWORD)


def forbidden_users() -> None:
    for user in ("git", "git", "oracle", "admin", "test"):
        ssh(user, ATTACKER, keys=["wrong0"])


def balancer() -> None:
    for _ in range(7):
        touch_port(BALANCER)
        # the interval of a load balancer's check is what is recorded here
        time.sleep(10)


def scanner() -> None:
    for pause, say in (
        (0.1, b""),
        (0.3, b"GET / HTTP/1.0\r\n\r\n"),
        (1, b"\x16\x03\x01\x00\r\n"),
        (0.1, b"SSH-1.0-x\r\n"),
    ) * 2:
        touch_port(ATTACKER, say=say)
        # the pauses of a scanner are what is recorded here
        time.sleep(pause)


def hostile_names() -> None:
    names = (
        "root from 198.51.100.9 port 22 ssh2",
        "x from 198.51.100.9",
        "a b c",
        "198.51.100.9 port 22 [preauth]",
        "root\nsshd[1]: Failed password for root from 198.51.100.9 port 22 ssh2",
        "\x1b[31mred\r\t",
    )
    for name in names:
        ssh(name, ATTACKER, WRONG)


def network() -> None:
    for address in NETWORK:
        ssh("root", address, WRONG, WRONG)


def benign() -> None:
    """People and machines at work: nothing of it is an attack."""
    ssh("alice", ADMIN, keys=["right"])
    ssh("alice", ADMIN, keys=["wrong0", "wrong1", "right"])
    ssh("bob", OFFICE, PASSWORD)
    ssh("bob", OFFICE, "mistyped", PASSWORD)
    ssh("alice", OFFICE, PASSWORD, keys=["wrong0"])
    ssh("bob", OFFICE, PASSWORD, method="keyboard-interactive")
    ssh("deploy", ROBOT, keys=["wrong2"])
    for _ in range(12):
        ssh("deploy", ROBOT, keys=["right"], command="cat > /dev/null")
    burst = [ssh("deploy", ROBOT, keys=["wrong3", "right"], wait=False) for _ in range(25)]
    for process in burst:
        process.wait(40)
    ssh("alice", ADMIN, keys=["right"], command="sleep 1")


SCENARIOS: dict[str, tuple[Callable[[], None], str]] = {
    "guesses": (guesses, PASSWORDS),
    "keyboard-interactive": (keyboard_interactive, PASSWORDS),
    "agent-keys": (agent_keys, f"{PASSWORDS}\nLogLevel VERBOSE\nMaxAuthTries 10"),
    "breach": (breach, PASSWORDS),
    "forbidden-users": (forbidden_users, KEYS_ONLY),
    "balancer": (balancer, KEYS_ONLY),
    "scanner": (scanner, PASSWORDS),
    "hostile-names": (hostile_names, PASSWORDS),
    "network": (network, PASSWORDS),
    "benign": (benign, f"{PASSWORDS}\nMaxStartups 4:50:10\nLogLevel VERBOSE"),
}


def record_scenarios(folder: Path) -> None:
    for name, (happen, options) in SCENARIOS.items():
        with logged(rsyslog("RSYSLOG_FileFormat"), folder / f"{name}.log"), sshd(options):
            happen()


def record_formats(folder: Path) -> None:
    writers: list[tuple[str, str, Callable[[], list[str]]]] = [
        ("rsyslogd", "rsyslog-traditional", lambda: rsyslog("RSYSLOG_TraditionalFileFormat")),
        ("rsyslogd", "rsyslog-rfc3339", lambda: rsyslog("RSYSLOG_FileFormat")),
        ("rsyslogd", "rsyslog-rfc5424", lambda: rsyslog("RSYSLOG_SyslogProtocol23Format")),
        ("rsyslogd", "rsyslog-priority", lambda: rsyslog("Priority")),
        ("rsyslogd", "rsyslog-folded", lambda: rsyslog("RSYSLOG_TraditionalFileFormat", fold=True)),
        ("busybox", "busybox", lambda: ["busybox", "syslogd", "-n", "-O", str(LOG)]),
        ("busybox", "busybox-small", lambda: ["busybox", "syslogd", "-n", "-S", "-O", str(LOG)]),
        ("syslog-ng", "syslog-ng", lambda: syslog_ng("")),
        ("syslog-ng", "syslog-ng-iso", lambda: syslog_ng("ts-format(iso); frac-digits(3);")),
        (os.environ.get("INETUTILS_SYSLOGD", "inetutils-syslogd"), "inetutils", inetutils),
    ]
    for program, name, words in writers:
        if shutil.which(program):
            with logged(words(), folder / f"{name}.log"), sshd(PASSWORDS):
                guesses()
                repeat_a_line()
    journald = next(filter(shutil.which, ("/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald")), None)
    if journald:
        record_journal(journald, folder)


def repeat_a_line() -> None:
    """The same line of sshd six times over, as fast as a syslog daemon folds; sshd itself seldom does that."""
    for _ in range(6):
        run("logger", "-p", "auth.info", "-t", "sshd[4711]", f"Failed password for root from {ATTACKER} port 4022 ssh2")


def record_journal(journald: str, folder: Path) -> None:
    Path("/run/log/journal").mkdir(parents=True, exist_ok=True)
    replace_link = Path("/dev/log")
    with daemon(journald, ready=Path("/run/systemd/journal/dev-log").exists):
        replace_link.symlink_to("/run/systemd/journal/dev-log")
        with sshd(PASSWORDS):
            guesses()
            repeat_a_line()
    for form in ("short", "short-precise", "short-full", "short-iso", "short-iso-precise", "short-unix"):
        out = subprocess.run(
            ["journalctl", "-D", "/run/log/journal", "--facility", "auth,authpriv", "-o", form, "-q"],
            capture_output=True, check=False,
        ).stdout  # fmt: skip
        if out:
            (folder / f"journalctl-{form}.log").write_bytes(out)


def main() -> None:
    enter_namespaces()
    folder = Path(sys.argv[1]).resolve()
    (folder / "formats").mkdir(parents=True, exist_ok=True)
    furnish()
    if "--formats" not in sys.argv:
        record_scenarios(folder)
    record_formats(folder / "formats")


if __name__ == "__main__":
    main()
