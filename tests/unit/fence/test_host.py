"""Facts about the host, read from files of each form that hosts have."""

import os
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest

from fence import host as fence_host
from fence.host import Host
from tests.unit.fence.conftest import GUARD_UID, Bench


def _write(root: Path, name: str, text: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def _tcp(local: int, remote: str, uid: int) -> str:
    number = struct.unpack("=I", ip_address(remote).packed)[0]
    return f"  0: 00000000:{local:04X} {number:08X}:9C40 01 0:0 00:0 0 {uid} 0 1\n"


def test_the_name_servers_behind_systemd_resolved_are_found(tmp_path: Path) -> None:
    """`/etc/resolv.conf` names its stub on loopback alone."""
    _write(tmp_path, "etc/resolv.conf", "nameserver 127.0.0.53\n")
    _write(tmp_path, "run/systemd/resolve/resolv.conf", "nameserver 198.51.100.53\n")
    assert ip_address("198.51.100.53") in Host(tmp_path).resolvers()


def test_the_guards_peer_is_never_blocked(bench: Bench) -> None:
    """It is the manager or the broker, also after its name has moved to another address."""
    with (bench.home / "proc/net/tcp").open("a") as table:
        table.write(_tcp(50_000, "198.51.100.9", GUARD_UID))
    bench.now += 6
    assert "the guard is connected" in bench.ask("block", value="198.51.100.9", seconds=60)["reason"]
    assert bench.take(1, "198.51.100.9", "198.51.100.8")["refused"] == 1


def test_a_long_connected_peer_of_roots_service_counts_as_a_session(bench: Bench) -> None:
    """A session that utmp and logind do not name is protected all the same; a web server's client is not."""
    with (bench.home / "proc/net/tcp").open("a") as table:
        table.write(_tcp(22, "198.51.100.9", 0) + _tcp(22, "198.51.100.8", 33))
    bench.now += 6
    bench.ask("check")
    bench.now += 121
    assert "logged in" in bench.ask("block", value="198.51.100.9", seconds=60)["reason"]
    assert bench.ask("block", value="198.51.100.8", seconds=60)["outcome"] == "taken"


def test_a_fence_that_has_just_started_takes_nobody_for_a_newcomer_where_no_record_names_sessions(bench: Bench) -> None:
    """The guard's request starts it, and the connection of an operator may be hours old."""
    with (bench.home / "proc/net/tcp").open("a") as table:
        table.write(_tcp(22, "198.51.100.9", 0))
    bench.restart()
    assert "logged in" in bench.ask("block", value="198.51.100.9", seconds=60)["reason"]
    _write(bench.home, "run/systemd/sessions/1", "STATE=active\nREMOTE_HOST=198.51.100.7\n")
    bench.restart()
    assert bench.ask("block", value="198.51.100.9", seconds=60)["outcome"] == "taken"


def test_a_session_from_a_name_and_an_ended_one_hide_no_other(tmp_path: Path) -> None:
    """What cannot be read is said; the rest counts."""
    _write(tmp_path, "run/systemd/sessions/1", "REMOTE_HOST=host.example\n")
    _write(tmp_path, "run/systemd/sessions/2", "REMOTE_HOST=198.51.100.9\n")
    (tmp_path / "run/systemd/sessions/3").symlink_to("gone")
    found, unread = Host(tmp_path).sessions()
    assert found == {ip_address("198.51.100.9")}
    assert any("host.example" in each for each in unread)


def test_a_utmp_that_was_never_written_counts_as_unread(tmp_path: Path) -> None:
    """An empty file does not say that nobody is logged in."""
    _write(tmp_path, "run/utmp", b"")
    assert any("utmp" in each for each in Host(tmp_path).sessions()[1])


@pytest.mark.parametrize("layout", ["_UTMP_SHORT", "_UTMP_LONG"])
def test_login_records_are_read_in_the_architectures_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """384 bytes a record on amd64, 400 on arm64; a file of the other size counts as unread."""
    form = getattr(fence_host, layout)
    address = struct.unpack("=I", ip_address("198.51.100.9").packed)[0]
    record = form.pack(7, 1, b"pts/0", b"1", b"alice", b"", 0, 0, 1, 1_795_000_000, 0, address, 0, 0, 0)
    _write(tmp_path, "run/utmp", record)
    monkeypatch.setattr(fence_host, "_UTMP", form)
    found, unread = Host(tmp_path).sessions()
    assert (found, len(unread)) == ({ip_address("198.51.100.9")}, 1)
    other = {"_UTMP_SHORT": "_UTMP_LONG", "_UTMP_LONG": "_UTMP_SHORT"}[layout]
    monkeypatch.setattr(fence_host, "_UTMP", getattr(fence_host, other))
    found, unread = Host(tmp_path).sessions()
    assert (found, len(unread)) == (set(), 2)


def test_a_session_that_is_closing_protects_nobody(tmp_path: Path) -> None:
    """Its user has logged out, and a process of it goes on."""
    _write(tmp_path, "run/systemd/sessions/1", "STATE=closing\nREMOTE_HOST=198.51.100.8\n")
    _write(tmp_path, "run/systemd/sessions/2", "STATE=active\nREMOTE_HOST=198.51.100.9\n")
    assert Host(tmp_path).sessions()[0] == {ip_address("198.51.100.9")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own a process of the tests")
@pytest.mark.parametrize(("uid", "own_namespace", "joins"), [(0, True, True), (1000, True, False), (0, False, False)])
def test_only_a_listener_of_roots_is_followed_into_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, own_namespace: bool, joins: bool
) -> None:
    """Anybody may listen on port 22 in a network namespace that an own user namespace owns."""
    _write(tmp_path, "proc/self/ns/net", "")
    _write(tmp_path, "proc/self/ns/user", "")
    _write(tmp_path, "proc/7/ns/net", "")
    _write(tmp_path, "proc/7/net/tcp", "head\n0: 00000000:0016 00000000:0000 0A\n")
    if own_namespace:
        (tmp_path / "proc/7/ns/user").hardlink_to(tmp_path / "proc/self/ns/user")
    else:
        _write(tmp_path, "proc/7/ns/user", "")
    os.chown(tmp_path / "proc/7", uid, uid)
    entered: list[Path] = []
    monkeypatch.setattr("fence.host._enter", entered.append)
    found = Host(tmp_path).join_namespace_of_listener((22,))
    assert (found is not None, bool(entered)) == (joins, joins)


def test_a_login_counts_from_the_moment_it_is_recorded(tmp_path: Path) -> None:
    """The file is read again whenever it has changed, also to another one of the same size."""
    host, records = Host(tmp_path), [_record("198.51.100.8", 100), _record("198.51.100.9", 200)]
    _write(tmp_path, "var/log/wtmp", records[0])
    assert host.recent_logins(50)[0] == {ip_address("198.51.100.8")}
    assert host.recent_logins(150)[0] == set()
    _write(tmp_path, "var/log/wtmp", b"".join(records))
    assert host.recent_logins(50)[0] == {ip_address("198.51.100.8"), ip_address("198.51.100.9")}
    _write(tmp_path, "var/log/new", records[1] * 2)
    (tmp_path / "var/log/new").replace(tmp_path / "var/log/wtmp")
    assert host.recent_logins(50)[0] == {ip_address("198.51.100.9")}


def _record(address: str, at: int) -> bytes:
    number = struct.unpack("=I", ip_address(address).packed)[0]
    return fence_host._UTMP.pack(7, 1, b"pts/0", b"1", b"alice", b"", 0, 0, 1, at, 0, number, 0, 0, 0)


def test_logins_of_days_ago_are_read_in_rotated_records_too(tmp_path: Path) -> None:
    """The present file may begin with today; what is compressed is not read."""
    form = fence_host._UTMP

    def record(address: str) -> bytes:
        number = struct.unpack("=I", ip_address(address).packed)[0]
        return bytes(form.pack(7, 1, b"pts/0", b"1", b"alice", b"", 0, 0, 1, 1_795_000_000, 0, number, 0, 0, 0))

    _write(tmp_path, "var/log/wtmp", record("198.51.100.1"))
    _write(tmp_path, "var/log/wtmp.1", record("198.51.100.2"))
    _write(tmp_path, "var/log/wtmp-20261122", record("198.51.100.3"))
    _write(tmp_path, "var/log/wtmp.2.gz", record("198.51.100.4"))
    host = Host(tmp_path)
    expected = {ip_address(f"198.51.100.{number}") for number in (1, 2, 3)}
    assert host.recent_logins(0.0) == (expected, [])
    assert host.recent_logins(0.0)[0] == expected
    assert host.recent_logins(1_795_000_001.0)[0] == set()
    (tmp_path / "var/log/wtmp").unlink()
    found, unread = host.recent_logins(0.0)
    assert (found, len(unread)) == (expected - {ip_address("198.51.100.1")}, 2)
