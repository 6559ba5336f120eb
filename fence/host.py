"""Facts about this host, read from the kernel and from the login records: addresses, gateways, sessions, listeners."""

import ctypes
import os
import re
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from fence.addresses import Address, Network, single

ESTABLISHED, LISTEN = "01", "0A"

_UTMP_LONG = struct.Struct("=hxxi32s4s32s256shhqqq4I20x4x")
_UTMP_SHORT = struct.Struct("=hxxi32s4s32s256shhiii4I20x")
_UTMP = _UTMP_LONG if os.uname().machine in {"aarch64", "riscv64", "loongarch64"} else _UTMP_SHORT
"""glibc's record: session and time have 64 bits where no 32-bit programs share the file (400 bytes, else 384)."""
_USER_PROCESS = 7
_COMPRESSED = {".gz", ".xz", ".bz2", ".zst"}
_ROTATIONS = 2

_LOGIN_PROGRAMS = {"sshd", "sshd-session", "sshd-auth", "login", "agetty", "systemd", "init", "dropbear"}

_CLONE_NEWNET = 0x40000000
_LOCAL_V4 = re.compile(r"\|--\s+(\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


class Host:
    """Reads the facts of one host.

    Args:
        root: the root directory; another one in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._latest_logins: dict[Path, tuple[tuple[int, int, int], dict[Address, float]]] = {}

    def path(self, name: str) -> Path:
        """Return the path of a file of the host, below `root`."""
        return self._root / name.lstrip("/")

    def _text(self, name: str) -> str:
        try:
            return self.path(name).read_text(errors="replace")
        except OSError:
            return ""

    def own_addresses(self) -> set[Address]:
        """Return the addresses of this network namespace's interfaces."""
        found: set[Address] = {IPv4Address(text) for text in _LOCAL_V4.findall(self._text("/proc/net/fib_trie"))}
        for line in self._text("/proc/net/if_inet6").splitlines():
            with suppress(ValueError):
                found.add(IPv6Address(bytes.fromhex(line.split()[0])))
        return found

    def gateways(self) -> set[Address]:
        """Return the next hops of this network namespace's routes."""
        found: set[Address] = set()
        for line in self._text("/proc/net/route").splitlines()[1:]:
            words = line.split()
            if len(words) > 2 and words[2] != "00000000":  # noqa: PLR2004 -- the column of the gateway
                found.add(IPv4Address(int.from_bytes(bytes.fromhex(words[2]), "little")))
        for line in self._text("/proc/net/ipv6_route").splitlines():
            words = line.split()
            if len(words) > 4 and words[4].strip("0"):  # noqa: PLR2004 -- the column of the next hop
                found.add(IPv6Address(bytes.fromhex(words[4])))
        return found

    def resolvers(self) -> set[Address]:
        """Return the name servers of `/etc/resolv.conf`, and those that systemd-resolved asks."""
        found: set[Address] = set()
        names = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
        for line in "\n".join(map(self._text, names)).splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with suppress(ValueError):
                    found.add(single(words[1].partition("%")[0]))
        return found

    def peers_of_user(self, uid: int, ports: tuple[int, ...] | None = None) -> set[Address]:
        """Return the remote addresses of a user's established TCP connections, or only of those to local ports."""
        return {
            remote
            for local, remote, state, owner in self._connections()
            if owner == uid and state == ESTABLISHED and (ports is None or local in ports)
        }

    def listens(self, port: int) -> bool:
        """Return whether a socket of this network namespace listens on a TCP port."""
        return any(local == port and state == LISTEN for local, _, state, _ in self._connections())

    def _connections(self, process: str = "") -> Iterator[tuple[int, Address, str, int]]:
        for name in ("tcp", "tcp6"):
            for line in self._text(f"/proc/{process}{'/' if process else ''}net/{name}").splitlines()[1:]:
                words = line.split()
                with suppress(ValueError, IndexError):
                    remote = _socket_address(words[2].partition(":")[0])
                    owner = int((words[7:8] or ["-1"])[0])
                    yield int(words[1].rpartition(":")[2], 16), remote, words[3], owner

    def join_namespace_of_listener(self, ports: tuple[int, ...]) -> str | None:
        """Enter the network namespace of the process that listens on one of the ports, unless this process is in it.

        Returns:
            The path of the namespace, or None if this process is in the right one or none was found.
        """
        if any(self.listens(port) for port in ports):
            return None
        own = self.path("/proc/self/ns/net").stat().st_ino
        seen = {own}
        processes = [entry.name for entry in self.path("/proc").iterdir() if entry.name.isdigit()]
        for process in sorted(processes, key=int):
            path = self.path(f"/proc/{process}/ns/net")
            with suppress(OSError):
                inode = path.stat().st_ino
                if inode in seen:
                    continue
                if not self._is_roots(process):  # anybody may listen in a network namespace of an own user namespace
                    continue
                seen.add(inode)
                connections = self._connections(process)
                if any(local in ports and state == LISTEN for local, _, state, _ in connections):
                    _enter(path)
                    return str(path)
        return None

    def _is_roots(self, process: str) -> bool:
        """Return whether a process runs as root in this process's own user namespace."""
        own, other = (self.path(f"/proc/{each}/ns/user").stat().st_ino for each in ("self", process))
        return own == other and self.path(f"/proc/{process}").stat().st_uid == 0

    def sessions(self) -> tuple[set[Address], list[str]]:
        """Return the addresses of current login sessions, and the unreadable login records."""
        found: set[Address] = set()
        unread: list[str] = []
        for name, read in (("/run/utmp", self._utmp), ("/run/systemd/sessions", self._systemd_sessions)):
            try:
                for address in read(self.path(name)):
                    found.add(address)
            except OSError as error:
                unread.append(f"{name}: {error.strerror or error}")
        return found, unread

    def operator_is_at(self, pid: int, network: Network) -> bool:
        """Return whether a process, or one of its ancestors, was started over ssh from an address of a network."""
        while pid > 1:
            for variable in self._text(f"/proc/{pid}/environ").split("\0"):
                if variable.startswith(("SSH_CONNECTION=", "SSH_CLIENT=")):
                    with suppress(ValueError):
                        address = single(variable.partition("=")[2].split()[0].partition("%")[0])
                        if address in network:
                            return True
            stat = self._text(f"/proc/{pid}/stat")
            try:
                pid = int(stat.rpartition(")")[2].split()[1])
            except (IndexError, ValueError):
                return False
        return False

    def session_began(self, pid: int) -> float | None:
        """Return when the login session of a process began, in seconds since boot; None if that cannot be read.

        It is the start of its topmost ancestor that no login program is. A terminal multiplexer's server counts with
        its own start, so a session in it that was begun before is as old as that.
        """
        began: float | None = None
        while pid > 1:
            stat = self._text(f"/proc/{pid}/stat")
            name, fields = stat.partition("(")[2].rpartition(")")[0], stat.rpartition(")")[2].split()
            try:
                if name in _LOGIN_PROGRAMS:
                    return began
                began, pid = int(fields[19]) / os.sysconf("SC_CLK_TCK"), int(fields[1])
            except (IndexError, ValueError):
                return None
        return began

    def recent_logins(self, since: float) -> tuple[set[Address], list[str]]:
        """Return the addresses with logins since a time (seconds since 1970), and the unreadable records."""
        found: set[Address] = set()
        unread: list[str] = []
        sources: tuple[tuple[str, Callable[[Path], Iterator[tuple[float, Address]]]], ...] = (
            ("/var/log/wtmp", self._wtmp),
            ("/var/lib/wtmpdb/wtmp.db", partial(_wtmpdb, since=since)),
        )
        for name, read in sources:
            try:
                found |= {address for at, address in read(self.path(name)) if at >= since}
            except (OSError, sqlite3.Error) as error:
                unread.append(f"{name}: {error}")
        for path in self._rotated():
            with suppress(OSError):
                found |= {address for at, address in self._wtmp(path) if at >= since}
        return found, unread if len(unread) == len(sources) else []

    def _rotated(self) -> list[Path]:
        """Return the newest rotated files of wtmp that are not compressed: logins of days ago are in them."""
        files: list[tuple[float, Path]] = []
        for path in self.path("/var/log").glob("wtmp[.-]*"):
            with suppress(OSError):
                if path.suffix not in _COMPRESSED and path.is_file():
                    files.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(files)[-_ROTATIONS:]]

    def _wtmp(self, path: Path) -> Iterator[tuple[float, Address]]:
        """Yield the latest login from each address; the file, which may have many MB, is read again once it changes."""
        state = path.stat()
        version = (state.st_ino, state.st_size, state.st_mtime_ns)
        known = self._latest_logins.get(path)
        if known is None or known[0] != version:
            latest: dict[Address, float] = {}
            for at, address in _records(path):
                latest[address] = max(at, latest.get(address, at))
            known = self._latest_logins[path] = version, latest
            while len(self._latest_logins) > _ROTATIONS + 1:
                del self._latest_logins[next(iter(self._latest_logins))]
        return ((at, address) for address, at in known[1].items())

    @staticmethod
    def _utmp(path: Path) -> Iterator[Address]:
        records = list(_records(path))
        if not records and not path.stat().st_size:
            raise OSError(f"{path} was never written")
        return (address for _, address in records)

    @staticmethod
    def _systemd_sessions(path: Path) -> Iterator[Address]:
        found: list[Address] = []
        names: list[str] = []
        for file in path.iterdir():
            if file.suffix == ".ref":
                continue
            try:
                text = file.read_text(errors="replace")
            except FileNotFoundError:  # the session ended while the folder was read
                continue
            match = re.search(r"^REMOTE_HOST=(\S+)$", text, re.MULTILINE)
            if match and not re.search(r"^STATE=closing$", text, re.MULTILINE):
                try:
                    found.append(single(match[1].partition("%")[0]))
                except ValueError:
                    names.append(match[1])
        yield from found
        if names:
            raise OSError(f"a session is from the name {names[0][:64]!r}, not an address")


def _records(path: Path) -> Iterator[tuple[float, Address]]:
    content = path.read_bytes()
    if len(content) % _UTMP.size:
        raise OSError(f"{path} does not hold records of {_UTMP.size} bytes")
    for start in range(0, len(content) - _UTMP.size + 1, _UTMP.size):
        record = _UTMP.unpack_from(content, start)
        words = record[11:15]
        if record[0] != _USER_PROCESS or not any(words):
            continue
        raw = struct.pack("=4I", *words)
        address: Address = IPv6Address(raw) if any(words[1:]) else IPv4Address(raw[:4])
        yield float(record[9]), address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _wtmpdb(path: Path, since: float) -> Iterator[tuple[float, Address]]:
    path.stat()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as database:
        sql = "SELECT Login, RemoteHost FROM wtmp WHERE RemoteHost IS NOT NULL AND Login >= ?"
        rows = database.execute(sql, (int(since * 1e6),)).fetchall()
    for login, host in rows:
        with suppress(ValueError):
            yield float(login) / 1e6, single(str(host))


def _socket_address(text: str) -> Address:
    raw = bytes.fromhex(text)
    if len(raw) == 4:  # noqa: PLR2004 -- IPv4, in the kernel's little-endian words
        return IPv4Address(raw[::-1])
    address = IPv6Address(b"".join(raw[start : start + 4][::-1] for start in range(0, 16, 4)))
    return address.ipv4_mapped or address


def _enter(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
