"""The kernel's table: builds it, sets and reads its elements through `nft`."""

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fence.addresses import Address, IntervalSet, Network, address_of, is_single, single

TABLE = "panguard"
_NETLINK_NETFILTER = 12
_NFTABLES_GROUP = 1 << 6
_SEEN_FOR = "10m"
_SEEN_SIZE = 65_536
_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_WORDS = {4: "ip", 6: "ip6"}
_METER_MASK = {4: "", 6: " & ffff:ffff:ffff:ffff::"}
_RANGE_METER_MASK = {4: " & 255.255.255.0", 6: " & ffff:ffff:ffff:ffff::"}
"""The sources that share one meter: a /64, and for a throttled IPv4 network its /24."""

_SETS = ("never", "block", "blockrange", "throttle", "throttlerange", "meter", "contacted")


class KernelError(Exception):
    """The kernel's table cannot be changed or read; the message gives the reason and the remedy."""


class Element(NamedTuple):
    """One element of a set in the kernel; `left` is the remaining time in seconds, None without a timeout."""

    value: str
    left: float | None


class Kernel:
    """The table `inet panguard` of this process's network namespace.

    Args:
        ports: protected TCP ports; each has a set of the addresses that this host sent payload to from that port.
        roots: those of them whose service accepts connections as root, as sshd does: what other users' processes send
            from such a port counts for nothing.
    """

    def __init__(self, ports: Sequence[int], roots: Sequence[int] = ()) -> None:
        self._ports = tuple(ports)
        self._roots = frozenset(roots)
        self._nft = _program()

    def missing(self) -> str | None:
        """Return the missing requirement for blocking on this host; None if none is known."""
        if self._nft is None:
            return "nft is not installed: install the package nftables"
        return None

    def build(self, never: IntervalSet) -> None:
        """Rebuild the table with empty sets, except the sets of never-blocked addresses.

        Raises:
            KernelError: the table could not be created.
        """
        mark = f"add set inet {TABLE} {self._mark()} {{ type ipv4_addr; }}\n"
        anew = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
        self._run(f"{anew}{self._definition()}{mark}{_never_elements(never)}")

    def set_never(self, never: IntervalSet) -> None:
        """Replace the content of the sets of never-blocked addresses."""
        flush = "".join(f"flush set inet {TABLE} never{version}\n" for version in (4, 6))
        self._run(flush + _never_elements(never))

    def is_there(self) -> bool:
        """Return whether the table exists with all its sets, chains and rules; the elements are not read."""
        try:
            listed = self._run("", "-t", "list", "table", "inet", TABLE)
        except KernelError:
            return False
        sets = all(f"set {name} " in listed for name in (self._mark(), *self._sets()))
        return sets and all(rule in listed for rule in self._needed_rules())

    def _needed_rules(self) -> list[str]:
        """Return parts of the listed table without which a measure or a witness set has no effect."""
        rules = [f"hook {hook} " for hook in ("prerouting", "output", "postrouting")]
        for version, word in _WORDS.items():
            rules += [f"{word} saddr @never{version} accept", f"{word} daddr @never{version} accept"]
            for name in (f"block{version}", f"blockrange{version}"):
                rules += [f"{word} saddr @{name} drop", f"{word} daddr @{name} drop"]
            rules += [f"{word} saddr @throttle{each}{version} " for each in ("", "range") if self._ports]
            rules += [f" @seen{version}_{port} {{" for port in self._ports]
            rules += [f" @contacted{version} {{"]
        return rules

    def apply(
        self,
        exact: Mapping[str, Mapping[Address, float]],
        gone: Mapping[str, Iterable[Address]],
        ranges: Mapping[tuple[str, int], list[tuple[int, int, float]]],
        *,
        anew: bool = False,
    ) -> None:
        """Change elements in one transaction.

        Args:
            exact: per measure (`block`, `throttle`) the addresses to set, with their remaining seconds.
            gone: per measure the addresses to remove.
            ranges: per measure and IP version all intervals with their remaining seconds, replacing the earlier ones.
            anew: remove every other measure; the witness sets stay.

        Raises:
            KernelError: nothing was changed.
        """
        measures = [name for name in self._sets() if name.startswith(("block", "throttle"))]
        lines = [f"flush set inet {TABLE} {name}" for name in measures] if anew else []
        for measure in ("block", "throttle"):
            for version in (4, 6):
                name = f"{measure}{version}"
                added = {
                    str(address): left for address, left in exact.get(measure, {}).items() if address.version == version
                }
                removed = [str(address) for address in gone.get(measure, ()) if address.version == version]
                touched = ", ".join([*added, *removed])
                if touched:  # kernels before 6.12 keep an element's old timeout unless it is deleted first
                    lines.append(f"add element inet {TABLE} {name} {{ {touched} }}")
                    lines.append(f"delete element inet {TABLE} {name} {{ {touched} }}")
                if added:
                    elements = ", ".join(f"{address} timeout {_seconds(left)}s" for address, left in added.items())
                    lines.append(f"add element inet {TABLE} {name} {{ {elements} }}")
        for (measure, version), intervals in ranges.items():
            lines.append(f"flush set inet {TABLE} {measure}range{version}")
            elements = ", ".join(
                f"{address_of(version, first)}-{address_of(version, last)} timeout {_seconds(left)}s"
                for first, last, left in intervals
            )
            if elements:
                lines.append(f"add element inet {TABLE} {measure}range{version} {{ {elements} }}")
        if lines:
            self._run("\n".join(lines) + "\n")

    def elements(self, name: str) -> list[Element]:
        """Return the elements of a set.

        Raises:
            KernelError: the set cannot be read.
        """
        document = json.loads(self._run("", "-j", "list", "set", "inet", TABLE, name))
        for each in document["nftables"]:
            if "set" in each:
                return [_element(element) for element in each["set"].get("elem", ())]
        return []

    def has_witness(self, port: int | None) -> bool:
        """Return whether a port has a witness set."""
        return port in self._ports

    def has_seen(self, port: int, address: Address) -> bool:
        """Return whether this host sent payload to an address from a protected port within ten minutes.

        Raises:
            KernelError: the kernel cannot be asked.
        """
        return self._has(f"seen{address.version}_{port}", address)

    def _has(self, name: str, address: Address) -> bool:
        try:
            self._run("", "get", "element", "inet", TABLE, name, "{", str(address), "}")
        except KernelError as error:
            if "No such file or directory" in str(error) and self.is_there():
                return False
            raise
        return True

    def has_contacted(self, network: Network) -> bool:
        """Return whether this host itself connected to an address of a network, or asked it for time or names, in 24 h.

        Raises:
            KernelError: the kernel cannot be asked.
        """
        name = f"contacted{network.version}"
        if is_single(network):
            return self._has(name, network.network_address)
        return any(single(element.value) in network for element in self.elements(name))

    def changes(self) -> socket.socket:
        """Return a socket that becomes readable when the kernel's tables change.

        Raises:
            OSError: the kernel refuses.
        """
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
        listener.bind((0, _NFTABLES_GROUP))
        return listener

    def remove(self) -> None:
        """Remove the whole table."""
        with suppress(KernelError):
            self._run(f"delete table inet {TABLE}\n")

    def _mark(self) -> str:
        """Return the name of an empty set that says by which definition the table was made."""
        return f"made_{hashlib.sha256(self._definition().encode()).hexdigest()[:12]}"

    def _sets(self) -> list[str]:
        names = [f"{name}{version}" for name in _SETS for version in (4, 6)]
        return names + [f"seen{version}_{port}" for port in self._ports for version in (4, 6)]

    def _definition(self) -> str:
        sets, incoming, outgoing, seen = [], [], [], []
        for version in (4, 6):
            kind, word = _TYPES[version], _WORDS[version]
            sets += [
                f"set never{version} {{ type {kind}; flags interval; }}",
                f"set block{version} {{ type {kind}; flags timeout; size 65536; counter; }}",
                f"set blockrange{version} {{ type {kind}; flags interval,timeout; counter; }}",
                f"set throttlerange{version} {{ type {kind}; flags interval,timeout; counter; }}",
                f"set throttle{version} {{ type {kind}; flags timeout; size 65536; counter; }}",
                f"set meter{version} {{ type {kind}; flags dynamic,timeout; timeout 2m; size 65536; }}",
                f"set contacted{version} {{ type {kind}; flags dynamic,timeout; timeout 1d; size 65536; }}",
            ]
            seen += [
                f"{asked} fib saddr type local update @contacted{version} {{ {word} daddr timeout 1d }}"
                for asked in ("tcp flags & (syn | ack) == syn", "udp dport { 53, 123 }")
            ]
            incoming += [f"{word} saddr @never{version} accept"]
            outgoing += [f"{word} daddr @never{version} accept"]
        for version in (4, 6):
            word = _WORDS[version]
            incoming += [f"{word} saddr @block{version} drop", f"{word} saddr @blockrange{version} drop"]
            outgoing += [f"{word} daddr @block{version} drop", f"{word} daddr @blockrange{version} drop"]
        ports = ", ".join(map(str, self._ports))
        for version in (4, 6) if self._ports else ():
            word, kind = _WORDS[version], _TYPES[version]
            incoming += [
                f"tcp dport {{ {ports} }} tcp flags & (syn | ack) == syn {word} saddr @{name}{version} "
                f"update @meter{version} {{ {word} saddr{mask} limit rate over 4/minute burst 4 packets }} drop"
                for name, mask in (("throttle", _METER_MASK[version]), ("throttlerange", _RANGE_METER_MASK[version]))
            ]
            for port in self._ports:
                name = f"seen{version}_{port}"
                sets.append(
                    f"set {name} {{ type {kind}; flags dynamic,timeout; timeout {_SEEN_FOR}; size {_SEEN_SIZE}; }}"
                )
                sender = " meta skuid 0" if port in self._roots else ""
                seen.append(
                    f"tcp sport {port} tcp flags & psh == psh fib saddr type local{sender} "
                    f"update @{name} {{ {word} daddr timeout {_SEEN_FOR} }}"
                )
        return (
            f"table inet {TABLE} {{\n"
            + "\n".join(f"  {line}" for line in sets)
            + _chain("incoming", "prerouting", "raw", ["iif lo accept", *incoming])
            + _chain("outgoing", "output", "filter", ["oif lo accept", *outgoing])
            + _chain("witness", "postrouting", "filter", ["oif lo return", *seen])
            + "\n}\n"
        )

    def _run(self, script: str, *words: str) -> str:
        if self._nft is None:
            raise KernelError(self.missing() or "")
        try:
            done = subprocess.run(  # noqa: S603 -- nft by its path, no shell; addresses are parsed before
                [self._nft, *(words or ("-f", "-"))],
                input=script,
                capture_output=True,
                text=True,
                timeout=20,
                env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelError(f"nft failed: {error}") from error
        if done.returncode != 0:
            reason = next((line.strip() for line in done.stderr.splitlines() if line.strip()), "no reason given")
            if "Operation not permitted" in done.stderr:
                reason = "the kernel refuses: CAP_NET_ADMIN in this network namespace is needed"
            raise KernelError(f"nft: {reason[:300]}")
        return done.stdout


def _program() -> str | None:
    """Return the path of nft; None if it is not installed."""
    paths = (f"{folder}/nft" for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"))
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _chain(name: str, hook: str, priority: str, rules: Iterable[str]) -> str:
    lines = "".join(f"    {rule}\n" for rule in rules)
    return f"\n  chain {name} {{\n    type filter hook {hook} priority {priority}; policy accept;\n{lines}  }}"


def _never_elements(never: IntervalSet) -> str:
    lines = ""
    for version in (4, 6):
        intervals = never.intervals(version)
        if intervals:
            elements = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in intervals)
            lines += f"add element inet {TABLE} never{version} {{ {elements} }}\n"
    return lines


def _seconds(left: float) -> int:
    return max(1, round(left))


def _element(raw: Any) -> Element:
    inner = raw.get("elem", raw) if isinstance(raw, dict) else {"val": raw}
    value = inner.get("val") if isinstance(inner, dict) else inner
    if isinstance(value, dict):
        low, high = value.get("range") or (value["prefix"]["addr"], value["prefix"]["len"])
        value = f"{low}-{high}" if "range" in value else f"{low}/{high}"
    left = inner.get("expires", inner.get("timeout")) if isinstance(inner, dict) else None
    return Element(str(value), left)


def can_change_tables() -> bool:
    """Return whether this process has CAP_NET_ADMIN in its effective set."""
    with suppress(OSError, ValueError), Path("/proc/self/status").open(encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> 12 & 1)
    return os.geteuid() == 0
