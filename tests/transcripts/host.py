"""A host for recordings, in namespaces of its own: accounts, addresses, sshd and syslog daemons."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SERVER = "203.0.113.1"
ATTACKER = "203.0.113.7"
ADMIN = "203.0.113.20"
OFFICE = "203.0.113.21"
ROBOT = "203.0.113.22"
BALANCER = "203.0.113.30"
NETWORK = [f"2001:db8:0:7::{number:x}" for number in range(1, 41)]
SERVER6 = "2001:db8:0:1::1"
PASSWORD = "correct horse"
WRONG = "wrong"
USERS = ("alice", "bob", "deploy", "git")
WORK = Path("/run/recording")
LOG = WORK / "auth.log"

SSHD = """
ListenAddress {server}
ListenAddress [{server6}]
HostKey {work}/host_key
PidFile none
UsePAM yes
UseDNS no
PermitRootLogin yes
AllowUsers root alice bob deploy
LoginGraceTime 20
Subsystem sftp internal-sftp
{options}
"""
PASSWORDS = "PasswordAuthentication yes\nKbdInteractiveAuthentication yes"
KEYS_ONLY = "PasswordAuthentication no\nKbdInteractiveAuthentication no"
PAM = "auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_unix.so\n"


def run(*words: str, **more: object) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, **more)  # type: ignore[call-overload]


def enter_namespaces() -> None:
    """Runs this script again, in namespaces of its own."""
    if os.environ.get("RECORDING") != "1":
        os.environ["RECORDING"] = "1"
        os.execvp(
            "unshare",
            ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--mount-proc", sys.executable, *sys.argv],
        )


def furnish() -> None:
    """Makes devices, accounts, keys and addresses that nobody outside sees."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "tmpfs", "/home")
    for folder in ("/run/sshd", "/run/systemd/journal", "/run/log/journal", str(WORK)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    device = WORK / "dev"
    device.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", str(device))
    for name in ("null", "zero", "random", "urandom", "tty", "full"):
        (device / name).touch()
        run("mount", "--bind", f"/dev/{name}", str(device / name))
    (device / "pts").mkdir()
    run("mount", "--rbind", "/dev/pts", str(device / "pts"))
    (device / "ptmx").symlink_to("pts/ptmx")
    run("mount", "--rbind", str(device), "/dev")
    run("hostname", "srv")
    furnish_accounts()
    run("ip", "link", "set", "lo", "up")
    for address in (SERVER, ATTACKER, ADMIN, OFFICE, ROBOT, BALANCER):
        run("ip", "address", "add", f"{address}/24", "dev", "lo")
    for address in (SERVER6, *NETWORK):
        run("ip", "-6", "address", "add", f"{address}/64", "dev", "lo", "nodad")
    for number in range(6):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "key", "-f", str(WORK / f"wrong{number}"))
    for name in ("right", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "key", "-f", str(WORK / name))
    for user in USERS:
        folder = Path(f"/home/{user}/.ssh")
        folder.mkdir(parents=True, mode=0o700)
        shutil.copy(WORK / "right.pub", folder / "authorized_keys")
        run("chown", "-R", f"{user}:{user}", str(folder.parent))
    asks = WORK / "askpass"
    asks.write_text('#!/bin/sh\nhead -n 1 "$ANSWERS"\nsed -i 1d "$ANSWERS"\n')
    asks.chmod(0o700)


def furnish_accounts() -> None:
    secret = subprocess.run(
        ["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True
    ).stdout.strip()
    for name in ("passwd", "shadow", "group"):
        lines = Path(f"/etc/{name}").read_text().splitlines()
        for number, user in enumerate(USERS, start=3001):
            lines.append(
                {
                    "passwd": f"{user}:x:{number}:{number}::/home/{user}:/bin/sh",
                    "shadow": f"{user}:{secret}:19000:0:99999:7:::",
                    "group": f"{user}:x:{number}:",
                }[name]
            )
        if name == "shadow":
            lines = [f"root:{secret}:19000:0:99999:7:::" if line.startswith("root:") else line for line in lines]
        replace(f"/etc/{name}", "\n".join(lines) + "\n")
    for name in ("sshd", "su", "sudo"):
        if Path(f"/etc/pam.d/{name}").exists():
            replace(f"/etc/pam.d/{name}", PAM)


def replace(path: str, text: str) -> None:
    """Puts another file in the place of one, in this namespace only."""
    copy = WORK / path.replace("/", "_")
    copy.write_text(text)
    copy.chmod(Path(path).stat().st_mode & 0o777)
    run("mount", "--bind", str(copy), path)


@contextmanager
def daemon(*words: str, ready: Callable[[], bool], environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | (environment or {})
    )
    try:
        deadline = time.monotonic() + 20
        while not ready():
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{words[0]} does not start")
            # the pause between two looks; the deadline above ends it
            time.sleep(0.05)
        yield
        # no program says when it has written the lines that it folds or buffers
        time.sleep(1.5)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        Path("/dev/log").unlink(missing_ok=True)


def logging() -> bool:
    return Path("/dev/log").exists()


def answers(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, 22), timeout=1):
        return True
    return False


@contextmanager
def sshd(options: str) -> Iterator[None]:
    path = WORK / "sshd_config"
    path.write_text(SSHD.format(server=SERVER, server6=SERVER6, work=WORK, options=options))
    with daemon("/usr/sbin/sshd", "-D", "-f", str(path), ready=lambda: answers(SERVER)):
        yield


def rsyslog(template: str, *, fold: bool = False) -> list[str]:
    path = WORK / "rsyslog.conf"
    path.write_text(
        'module(load="imuxsock")\n'
        + ("$RepeatedMsgReduction on\n" if fold else "")
        + 'template(name="Priority" type="string" string="<%PRI%>%TIMESTAMP% %HOSTNAME% %syslogtag%%msg%\\n")\n'
        + f'auth,authpriv.* action(type="omfile" file="{LOG}" template="{template}")\n'
    )
    return ["rsyslogd", "-n", "-f", str(path), "-i", str(WORK / "rsyslog.pid")]


def syslog_ng(options: str) -> list[str]:
    path = WORK / "syslog-ng.conf"
    version = subprocess.run(["syslog-ng", "-V"], capture_output=True, text=True, check=False).stdout
    number = ".".join(version.split("Config version: ")[1].split()[0].split(".")[:2])
    path.write_text(
        f'@version: {number}\noptions {{ {options} }};\nsource s {{ unix-dgram("/dev/log"); }};\n'
        f'destination d {{ file("{LOG}"); }};\nlog {{ source(s); destination(d); }};\n'
    )
    return [
        "syslog-ng", "-F", "-f", str(path), "-p", f"{WORK}/ng.pid", "-R", f"{WORK}/ng.persist", "-c", f"{WORK}/ng.ctl",
        *(["--module-path", os.environ["SYSLOG_NG_MODULES"]] if "SYSLOG_NG_MODULES" in os.environ else []),
    ]  # fmt: skip


def inetutils() -> list[str]:
    path = WORK / "syslog.conf"
    path.write_text(f"*.*\t{LOG}\n")
    return [os.environ.get("INETUTILS_SYSLOGD", "inetutils-syslogd"), "-n", "-f", str(path)]


@contextmanager
def logged(words: Sequence[str], target: Path) -> Iterator[None]:
    LOG.unlink(missing_ok=True)
    LOG.touch()
    with daemon(*words, ready=logging):
        yield
    shutil.copy(LOG, target)
