"""The fence's command line: `serve`, and `check-config`."""

import argparse
import fcntl
import json
import os
import pwd
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fence.config import DEFAULT_PATH, DEFAULT_SOCKET, Config, ConfigError, read
from fence.host import Host
from fence.manifest import Manifest, ManifestError
from fence.memory import keep_large_blocks_apart
from fence.nft import Kernel, KernelError
from fence.server import Server, listen
from fence.service import Clocks, Fence

_NO_SSH_PORTS = "nothing proves what records of sshd say: name sshd's ports as ssh_ports in fence.conf"


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="panguard fence",
        description="The privileged part of a guarded host.",
        epilog="Example: panguard fence check-config",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("serve", "Serve the fence's socket; as root."),
        ("check-config", "Check the configuration file and report errors."),
    ):
        example = f"Example: panguard fence {name} --config /etc/panguard/fence.conf"
        command = commands.add_parser(name, help=text, description=text, epilog=example)
        command.add_argument("--config", type=Path, default=DEFAULT_PATH, help=f"default: {DEFAULT_PATH}")
        if name == "serve":
            command.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help=f"default: {DEFAULT_SOCKET}")
    return parser


def main(words: list[str]) -> int:
    """Run a command and return its exit code: 0, or 2 with one sentence on standard error."""
    given = command_line().parse_args(words)
    try:
        config = read(given.config)
        if given.command == "serve":
            serve(config, given.socket)
    except (ConfigError, ManifestError, KernelError) as error:
        sys.stderr.write(f"fence: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"fence: {error}\n")
        return 2
    return 0


def serve(config: Config, path: Path) -> None:
    """Serve until SIGTERM, SIGINT or the idle timeout.

    Raises:
        ManifestError, KernelError, OSError: it cannot start.
    """
    keep_large_blocks_apart()
    host = Host()
    entered = host.join_namespace_of_listener(config.protected_ports) if config.join_listener else None
    if entered is not None:
        log({"event": "network_namespace", "path": entered})
    clocks = Clocks(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.time)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    lock = lock_state(config.state)
    manifest = Manifest(config.state, boot_id)
    if manifest.set_aside is not None:
        log({"event": "manifest_set_aside", "reason": manifest.set_aside})
    manifest.load(clocks.boot(), clocks.wall())
    if config.protected_ports and not config.ssh_ports:
        log({"event": "no_ssh_ports", "reason": _NO_SSH_PORTS})
    kernel = Kernel(config.protected_ports, config.ssh_ports)
    fence = Fence(config, kernel=kernel, manifest=manifest, host=host, clocks=clocks, boot_id=boot_id, log=log)
    missing = fence.enforcement.missing()
    changes: socket.socket | None = None
    if missing is None:
        fence.enforcement.start()
        with suppress(OSError):
            changes = kernel.changes()
    else:
        log({"event": "impossible", "reason": missing})
    listener = listen(path, _gid_of(config.guard_uid))
    server = Server(
        fence,
        listener,
        guard_uid=config.guard_uid,
        check_interval=config.check_interval,
        idle_exit=config.idle_exit if "LISTEN_FDS" in os.environ else 0.0,
        changes=changes,
        alive=lambda: notify("WATCHDOG=1"),
        log=log,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    notify("READY=1")
    log({"event": "ready", "socket": str(path), "measures": fence.measures})
    server.serve()
    with suppress(ManifestError):
        fence.mark_time()
    manifest.close()
    os.close(lock)


def lock_state(directory: Path) -> int:
    """Lock the state directory, made if missing; return the descriptor, which holds the lock while it is open.

    Raises:
        ManifestError: another fence has it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ManifestError(f"another fence works with {directory}: stop it first") from None
    return descriptor


def notify(state: str) -> None:
    """Send the service's state to systemd, if systemd started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())


def log(event: dict[str, Any]) -> None:
    """Write one event as a JSON line to standard error, which is the journal under systemd; never fail for it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(json.dumps(event, default=str) + "\n")
        sys.stderr.flush()


def _gid_of(uid: int | None) -> int | None:
    """Return the group that may connect to the socket: the user's primary group, or the group of the same number."""
    if not uid:
        return None
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid
