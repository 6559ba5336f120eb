"""The trust rule: decides whether a record's writer is proven, which automatic actions require.

A line of a log file proves nothing: any local user can write ``Failed password for root from ADDRESS`` with
``logger -t sshd``. The operator may vouch for a file (``--trust-log``). In a journal entry the identifier, the command
name and the unit prove nothing; the user id, the executable and the control group are checked together.
"""

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from agent.events import RecordOrigin

TRUSTED_EXECUTABLES = frozenset(
    {
        "/usr/sbin/sshd",
        "/usr/bin/sshd",
        "/usr/lib/openssh/sshd-session",
        "/usr/lib/openssh/sshd-auth",
        "/usr/libexec/openssh/sshd-session",
        "/usr/libexec/openssh/sshd-auth",
        "/usr/libexec/sshd-session",
        "/usr/libexec/sshd-auth",
        "/usr/lib/ssh/sshd-session",
        "/usr/lib/ssh/sshd-auth",
    }
)
"""The paths at which distributions install sshd and its helpers."""

EXECUTABLES_FILE = Path("/etc/panguard/trusted-executables")
"""The file with the host's additions, one absolute path on each line; used only if only root can write it."""

# sshd's unit, its instances for each connection (socket activation), and login sessions. Everything else is refused:
# containers (docker, containerd, crio, libpod, kubepods, lxc), machine.slice, and units of users.
_CGROUP = re.compile(
    r"/system\.slice/(?:ssh|sshd)\.service"
    r"|/system\.slice/system-(?:ssh|sshd)\.slice/(?:ssh|sshd)@[^/]+\.service"
    r"|/system\.slice/(?:ssh|sshd)@[^/]+\.service"
    r"|/user\.slice/user-\d+\.slice/session-\w+\.scope",
    re.ASCII,
)


def vouches(
    origin: RecordOrigin, executables: Collection[str] = TRUSTED_EXECUTABLES, *, witnessed: bool = False
) -> bool:
    """Return whether the writer of a journal entry is proven to be sshd.

    Args:
        origin: The entry's trusted fields.
        executables: The accepted executables.
        witnessed: The kernel confirms that this host answered the address in the entry, on the attacked port
            (the fence's witness set). Only then may the executable be missing: journald often loses it, because the
            process has ended when the entry is stored.
    """
    if origin.uid != 0 or origin.cgroup is None or not _CGROUP.fullmatch(origin.cgroup):
        return False
    return witnessed if origin.exe is None else origin.exe in executables


def trusted_executables(path: Path = EXECUTABLES_FILE) -> frozenset[str]:
    """Return the accepted executables: those of distributions, and the host's additions."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if state.st_uid != 0 or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return TRUSTED_EXECUTABLES
            lines = file.read(64 * 1024).decode(errors="replace").splitlines()
    except OSError:
        return TRUSTED_EXECUTABLES
    return TRUSTED_EXECUTABLES | {line.strip() for line in lines if line.startswith("/")}
