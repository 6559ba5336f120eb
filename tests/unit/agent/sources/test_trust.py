"""Whose records vouch: the user id, the executable and the control group together."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.events import RecordOrigin
from agent.sources.trust import TRUSTED_EXECUTABLES, trusted_executables, vouches

SSHD = RecordOrigin("journal", identifier="sshd", uid=0, exe="/usr/sbin/sshd", cgroup="/system.slice/ssh.service")


@pytest.mark.parametrize(
    "cgroup",
    [
        "/system.slice/ssh.service",
        "/system.slice/sshd.service",
        "/system.slice/system-sshd.slice/sshd@7-192.0.2.1:22-203.0.113.7:40000.service",
        "/user.slice/user-1000.slice/session-3.scope",
    ],
)
def test_the_real_sshd_vouches(cgroup: str) -> None:
    """Sshd's unit, an instance for one connection, and the session of somebody who logged in."""
    assert vouches(replace(SSHD, cgroup=cgroup))


@pytest.mark.parametrize(
    "cgroup",
    [
        None,
        "",
        "/",
        "/system.slice/docker-0123456789ab.scope",
        "/docker/0123456789ab",
        "/system.slice/containerd.service/kubepods-burstable.slice/cri-containerd-01.scope",
        "/kubepods.slice/kubepods-pod1.slice/crio-01.scope",
        "/machine.slice/libpod-01.scope",
        "/machine.slice/systemd-nspawn@web.service",
        "/lxc.payload.web/system.slice/ssh.service",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service",
        "/user.slice/user-1000.slice/user@1000.service/session-3.scope",
        "/system.slice/cron.service",
        "/system.slice/ssh.service/docker/01",
        "/system.slice/ssh.service\n",
        "/x/system.slice/ssh.service",
    ],
)
def test_containers_and_units_of_users_vouch_for_nothing(cgroup: str | None) -> None:
    """A container that shares /dev/log writes as uid 0 with its own /usr/sbin/sshd; its control group gives it away."""
    assert not vouches(replace(SSHD, cgroup=cgroup))


def test_other_users_and_other_programs_vouch_for_nothing() -> None:
    """`nobody` by logger, and a setuid program that was started through a link named sshd."""
    assert not vouches(replace(SSHD, uid=65_534))
    assert not vouches(replace(SSHD, uid=None))
    assert not vouches(replace(SSHD, exe="/usr/bin/logger"))
    assert not vouches(replace(SSHD, exe="/opt/evil/setuid-helper"))


def test_a_lost_executable_takes_the_kernel_as_witness() -> None:
    """Journald often loses the executable: then the kernel must have seen the traffic, and the rest must fit."""
    lost = replace(SSHD, exe=None)
    assert not vouches(lost)
    assert vouches(lost, witnessed=True)
    assert not vouches(replace(lost, uid=1000), witnessed=True)
    assert not vouches(replace(SSHD, exe="/usr/bin/logger"), witnessed=True)


def test_the_host_may_add_executables(tmp_path: Path) -> None:
    """One absolute path a line, in a file that only root can write; else the file counts for nothing."""
    path = tmp_path / "trusted-executables"
    assert trusted_executables(path) == TRUSTED_EXECUTABLES
    path.write_text("/opt/openssh/sbin/sshd\n# a comment\nrelative\n")
    path.chmod(0o644)
    added = {"/opt/openssh/sbin/sshd"} if path.stat().st_uid == 0 else set()
    assert trusted_executables(path) - TRUSTED_EXECUTABLES == added
    path.chmod(0o666)
    assert trusted_executables(path) == TRUSTED_EXECUTABLES
