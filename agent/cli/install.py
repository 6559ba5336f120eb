"""`panguard guard install`: systemd units, users and configuration of guard and fence on a host."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

from agent.cli import fence_configuration
from agent.cli.program_owner import changeable
from agent.errors import GuardError
from agent.link.address import ManagerAddress
from schemas.keys import EnrollmentToken
from schemas.presence import Mode

UNITS = ("panguard-fence.socket", "panguard-fence.service", "panguard-guard.service")

_USER = "panguard"
_NAMED = 3
_GUARD_DATA = "var/lib/panguard/guard"
_HOMES = ("/home", "/root", "/run/user")
_HIDDEN = (*_HOMES, "/tmp", "/var/tmp")  # noqa: S108 -- places that the units do not see


class InstallError(GuardError):
    """The installation is not complete; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The options of an installation.

    Attributes:
        manager: The address of the manager or its broker.
        token: The enrollment token; None for a host that is registered.
        mode: The host's mode.
        max_mode: The most that the host allows.
        ca_file: The CA certificates that the guard trusts.
        options: Further words for `guard start`.
    """

    manager: ManagerAddress
    token: EnrollmentToken | None
    mode: Mode = Mode.LEARNING
    max_mode: Mode = Mode.PROTECTION
    ca_file: Path | None = None
    options: tuple[str, ...] = ()


def install(wanted: Installation, root: Path = Path("/"), *, start: bool = True, force: bool = False) -> Iterator[str]:
    """Install and yield a line for each step; of an existing fence.conf only what the enrollment says is changed.

    Args:
        wanted: What is to be installed.
        root: The host's root directory; another one for images. There nothing is started.
        start: Start the units.
        force: Install also a program that another user than root can change.

    Raises:
        InstallError: this is not root, another user can change this program, or a step failed.
    """
    if os.geteuid() != 0:
        raise InstallError("only root can install units and users: sudo panguard guard install …")
    faults = [] if force else list(islice(changeable(), _NAMED))
    if faults:
        raise InstallError(
            f"the units would run as root what others can change: {'; '.join(faults)}. Install the program as root,"
            " such as into a virtual environment below /opt, or use --force"
        )
    try:
        yield from _write_files(wanted, root)
        yield from _make_user(root)
        yield from _write_secrets(wanted, root)
        yield from _activate(root, start=start)
    except OSError as error:
        raise InstallError(f"the installation failed: {error}") from error


def _write_files(wanted: Installation, root: Path) -> Iterator[str]:
    shipped = resources.files("agent") / "systemd"
    for unit in UNITS:
        text = (shipped / unit).read_text().replace("@PYTHON@", sys.executable)
        yield _put(root / "etc/systemd/system" / unit, text)
        settings = program_settings()
        if unit.endswith(".service") and settings:
            yield _put(root / f"etc/systemd/system/{unit}.d/10-program.conf", f"[Service]\n{settings}")
    yield _put(root / "etc/sysusers.d/panguard.conf", (shipped / "panguard.conf").read_text())
    yield from _write_fence_configuration(wanted, root)


def _write_fence_configuration(wanted: Installation, root: Path) -> Iterator[str]:
    conf = root / "etc/panguard/fence.conf"
    names = fence_configuration.names_of(wanted.token, root / _GUARD_DATA, over_http=wanted.manager.over_http)
    addresses = fence_configuration.addresses(wanted.manager.host)
    if not conf.exists():
        yield _put(conf, fence_configuration.new(_USER, names, addresses))
        return
    before = conf.read_text()
    text, changes = fence_configuration.updated(before, names, conf)
    if text == before:
        yield f"kept {conf}"
    else:
        yield _put(conf, text)
        yield from (f"  {change}" for change in changes)
        yield "  all other settings are kept"
    for address in fence_configuration.missing_from_never(text, addresses):
        yield f"  never lacks {address}, an address of the manager: add it, so that it is never blocked"


def program_settings() -> str:
    """Return the settings that show this program to units whose protection would hide it; empty if none would."""
    places = list(_hidden_places())
    below_home = any(place.startswith(tuple(f"{home}/" for home in _HOMES)) for place in places)
    empty_home = ["ProtectHome=tmpfs"] if below_home else []  # below an inaccessible directory nothing can be shown
    return "".join(f"{line}\n" for line in (*empty_home, *(f"BindReadOnlyPaths={place}" for place in places)))


def _write_secrets(wanted: Installation, root: Path) -> Iterator[str]:
    words = ["--manager", str(wanted.manager), "--mode", str(wanted.mode), "--max-mode", str(wanted.max_mode)]
    if wanted.ca_file is not None:
        yield _put(root / "etc/panguard/ca.crt", wanted.ca_file.read_text())
        words += ["--ca-file", "/etc/panguard/ca.crt"]
    gid = _gid(root)
    if wanted.token is not None:
        token = root / "etc/panguard/enroll.token"
        yield _put(token, f"{wanted.token}\n", 0o640, gid)
        words += ["--enroll-token-file", "/etc/panguard/enroll.token"]
    words += wanted.options
    if any(char.isspace() or char in "\"'\\$" for word in words for char in word):
        raise InstallError("an option has white space, quotes, $ or a backslash: write it into a drop-in of the unit")
    yield _put(root / "etc/panguard/guard.env", f'GUARD_OPTIONS="{" ".join(words)}"\n')


def _make_user(root: Path) -> Iterator[str]:
    command = shutil.which("systemd-sysusers")
    if command is None:
        raise InstallError("systemd-sysusers is missing: these units need systemd")
    _run(command, f"--root={root.absolute()}", str(root.absolute() / "etc/sysusers.d/panguard.conf"))
    yield f"user {_USER}"


def _activate(root: Path, *, start: bool) -> Iterator[str]:
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        raise InstallError("systemctl is missing: these units need systemd")
    if root.absolute() != Path("/"):
        _run(systemctl, f"--root={root.absolute()}", "enable", *UNITS)
        yield "enabled, not started"
        return
    _run(systemctl, "daemon-reload")
    _run(systemctl, "enable", *UNITS)
    if start:
        _run(systemctl, "restart", *UNITS)
    yield "enabled and started" if start else "enabled, not started"


def _put(path: Path, text: str, mode: int = 0o644, gid: int = 0) -> str:
    """Write a file of root's, readable by a group, in one step."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchown(descriptor, 0, gid)
        os.fchmod(descriptor, mode)
    new.replace(path)
    return f"wrote {path}"


def _gid(root: Path) -> int:
    """Return the number of the guard's group on the host of a root directory."""
    for line in (root / "etc/group").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == _USER:
            return int(rest.split(":")[1])
    raise InstallError(f"the group {_USER} was not made")


def _hidden_places() -> Iterator[str]:
    """Yield the directories of this program that the units' protection would hide."""
    package = Path(str(resources.files("agent"))).parent
    places = {str(place) for place in (Path(sys.prefix), Path(sys.base_prefix), package)}
    hidden = sorted(place for place in places if place.startswith(tuple(f"{each}/" for each in _HIDDEN)))
    for place in hidden:
        if not any(place.startswith(f"{other}/") for other in hidden):
            yield place


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- by its path, no shell
    if done.returncode:
        raise InstallError(f"{Path(command[0]).name}: {done.stderr.strip() or done.returncode}")
