"""`panguard guard install` on another root directory: units, user, configuration, and the units' confinement."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.install import program_settings
from schemas.keys import EnrollmentToken, ManagerKeyring

PROGRAM = Path(__file__).parents[3]
KEY = ManagerKeyring(bytes(32)).sign_public

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root installs units"),
    pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd is not installed"),
]


def _install(root: Path, *words: str, force: bool = True, program: Path = PROGRAM) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "install", "--root", str(root), *words]
    command += ["--force"] if force else []  # the program may be a developer's
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=program)  # noqa: S603 -- ours


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, token = tmp_path / "root", tmp_path / "token"
    (root / "etc").mkdir(parents=True)
    token.write_text(str(EnrollmentToken.new(KEY)))
    done = _install(root, "--manager", "mqtts://203.0.113.5:8883", "--enroll-token-file", str(token))
    assert done.returncode == 0, done.stderr
    return root


def test_user_units_and_configuration_are_there(root: Path) -> None:
    """The token is the guard's to read and nobody else's; the fence trusts its manager and never blocks it."""
    assert "panguard" in (root / "etc/passwd").read_text()
    groups = {line.split(":")[0]: line for line in (root / "etc/group").read_text().splitlines()}
    assert all(groups[name].endswith("panguard") for name in ("adm", "systemd-journal"))
    token = (root / "etc/panguard/enroll.token").stat()
    assert (token.st_mode & 0o777, token.st_uid, str(token.st_gid)) == (0o640, 0, groups["panguard"].split(":")[2])
    conf = (root / "etc/panguard/fence.conf").read_text()
    assert f'sign_keys = ["{KEY}"]' in conf
    assert 'never = ["203.0.113.5"]' in conf
    wants = root / "etc/systemd/system"
    assert (wants / "sockets.target.wants/panguard-fence.socket").is_symlink()
    assert (wants / "multi-user.target.wants/panguard-guard.service").is_symlink()


def test_a_second_installation_keeps_what_an_operator_set(root: Path) -> None:
    """A token of another manager changes the key in fence.conf and says so; the operator's lines stay."""
    conf = root / "etc/panguard/fence.conf"
    conf.write_text(conf.read_text().replace("[22]", "[22, 443]  # ours"))
    token = root / "other-token"
    other = ManagerKeyring(bytes([1]) * 32).sign_public
    token.write_text(str(EnrollmentToken.new(other)))
    words = ["--manager", "mqtts://203.0.113.6:8883", "--mode", "protection"]
    done = _install(root, *words, "--enroll-token-file", str(token))
    assert done.returncode == 0, done.stderr
    assert f'sign_keys: ["{other}"], instead of ["{KEY}"]' in done.stdout
    assert "never lacks 203.0.113.6" in done.stdout
    text = conf.read_text()
    assert "protected_ports = [22, 443]  # ours" in text
    assert (f'sign_keys = ["{other}"]' in text, KEY in text) == (True, False)
    assert "mqtts://203.0.113.6:8883 --mode protection" in (root / "etc/panguard/guard.env").read_text()
    assert f"kept {conf}" in _install(root, *words, "--enroll-token-file", str(token)).stdout
    assert conf.read_text() == text


def test_an_option_that_systemd_would_split_is_refused(root: Path) -> None:
    """White space in a word would become two words."""
    done = _install(root, "--manager", "mqtts://203.0.113.6:8883", "--option", "--tag=a b")
    assert done.returncode == 1
    assert "white space" in done.stderr


def test_a_program_that_others_can_change_is_not_installed(tmp_path: Path) -> None:
    """The units would run it as root; the error names the file and what to do, and nothing is written."""
    for name in ("agent", "schemas", "fence"):
        shutil.copytree(PROGRAM / name, tmp_path / "program" / name, ignore=shutil.ignore_patterns("__pycache__"))
    changed = tmp_path / "program/agent/guard.py"
    os.chown(changed, 10_001, 0)
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    done = _install(root, "--manager", "mqtts://203.0.113.5:8883", force=False, program=tmp_path / "program")
    assert done.returncode == 1
    assert f"{changed} belongs to the user with id 10001" in done.stderr
    assert "--force" in done.stderr
    assert list((root / "etc").iterdir()) == []


@pytest.mark.parametrize(("unit", "most"), [("panguard-guard.service", 2.0), ("panguard-fence.service", 2.6)])
def test_the_units_are_confined(root: Path, unit: str, most: float) -> None:
    """`systemd-analyze security` scores the exposure; an ordinary unit has 9.6."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={root}", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- the system's own
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= most


def test_a_program_in_a_home_directory_is_shown_to_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory below one that is made inaccessible cannot be shown: the units get an empty home instead."""
    monkeypatch.setattr(sys, "prefix", "/home/operator/venv")
    assert program_settings().startswith("ProtectHome=tmpfs\n")
    assert "BindReadOnlyPaths=/home/operator/venv\n" in program_settings()
