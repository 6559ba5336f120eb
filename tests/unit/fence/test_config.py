"""The fence's configuration: each wrong setting is one sentence that names it."""

import os
from pathlib import Path
from typing import Any

import pytest

from fence.config import ConfigError, build, read


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("protected_ports", 22, "it takes a list, such as [22]"),
        ("protected_ports", [0], "TCP ports"),
        ("protected_ports", list(range(1, 34)), "up to 32"),
        ("ssh_ports", 22, "it takes a list"),
        ("ssh_ports", [2222], "some of protected_ports"),
        ("sign_keys", "AAAA", "it takes a list"),
        ("never", "203.0.113.0/24", "it takes a list"),
        ("never", ["hello"], "'hello'"),
        ("never", [7], "7"),
        ("join_listener", 1, "it takes true or false"),
        ("private_targets", "maybe", "never, throttle or block"),
        ("own_limit", -1, "a whole number from 0 to 20"),
        ("colour", "red", "unknown settings: colour"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any, words: str) -> None:
    """The error has the setting's name and what it takes."""
    with pytest.raises((ValueError, TypeError)) as raised:
        build({setting: value})
    assert setting in str(raised.value)
    assert words in str(raised.value)


def test_an_empty_file_protects_the_port_of_ssh() -> None:
    """Every setting has a default."""
    assert build({}).protected_ports == (22,)


def test_no_port_is_sshds_where_22_is_not_protected_and_none_is_named() -> None:
    """Nothing else says on which of the protected ports sshd listens; a fence.conf of before starts all the same."""
    assert build({"protected_ports": [22, 443]}).ssh_ports == (22,)
    assert build({"protected_ports": []}).ssh_ports == ()
    assert build({"protected_ports": [2222]}).ssh_ports == ()
    assert build({"protected_ports": [2222, 443], "ssh_ports": [2222]}).ssh_ports == (2222,)
    assert build({"protected_ports": [443], "ssh_ports": []}).ssh_ports == ()


def test_a_key_of_another_size_is_named() -> None:
    """As is one that is no base64url."""
    with pytest.raises(ValueError, match="'AAAA' is no Ed25519 public key"):
        build({"sign_keys": ["AAAA"]})


@pytest.mark.parametrize(("owner", "mode"), [(10_001, 0o600), (0, 0o620), (0, 0o602)])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a file of root's")
def test_a_file_that_others_can_change_is_refused(tmp_path: Path, owner: int, mode: int) -> None:
    """The remedy is in the error; a file that only root can write is read."""
    path = tmp_path / "fence.conf"
    path.write_text("own_limit = 3\n")
    assert read(path).own_limit == 3
    path.chmod(mode)
    os.chown(path, owner, owner)
    with pytest.raises(ConfigError, match="chown root"):
        read(path)
