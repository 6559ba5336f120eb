"""Host facts: hostname, operating system, addresses, gateways, time zone, CPU and memory load."""

import ipaddress
import os
import platform
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, tzinfo
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psutil

_ARCHITECTURES = {
    "x86_64": "x64",
    "amd64": "x64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "x86",
    "i686": "x86",
    "armv7l": "arm",
}
_IPV4_ROUTES = Path("/proc/net/route")
_IPV6_ROUTES = Path("/proc/net/ipv6_route")
_LOCAL_ZONE = Path("/etc/localtime")
_RTF_GATEWAY = 0x2
_MAX_ADDRESSES = 256
_MAX_GATEWAYS = 64
_NOT_A_LABEL = re.compile(r"[\s\x00-\x1f\x7f/+#]+")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host facts of a registration."""

    hostname: str
    os: str
    arch: str
    version: str
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """CPU load in percent of all cores, and memory use in percent."""

    cpu: float
    memory: float


def package_version() -> str:
    """Return the version of the installed guard."""
    try:
        return metadata.version("panguard")
    except metadata.PackageNotFoundError:
        return "0.0.0"


def host_facts(hostname: str | None = None) -> HostFacts:
    """Return the facts of this host; `hostname` replaces its own name."""
    return HostFacts(
        hostname=hostname or own_hostname(),
        os=operating_system(),
        arch=architecture(platform.machine()),
        version=package_version(),
        addresses=own_addresses(),
        gateways=gateways(),
    )


def own_hostname() -> str:
    """Return the host's name without the characters that the protocol forbids in names."""
    return _NOT_A_LABEL.sub("-", socket.gethostname())[:253] or "unnamed"


def operating_system() -> str:
    """Return type and version, such as ``Debian GNU/Linux 12 (bookworm)``."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    text = name or f"{platform.system()} {platform.release()}"
    return "".join(char if char.isprintable() else " " for char in text)[:256].strip() or "unknown"


def architecture(machine: str) -> str:
    """Return the protocol's name (x64, arm64, …) for the kernel's architecture."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower() or "unknown")


def own_addresses() -> tuple[str, ...]:
    """Return the host's addresses without loopback and link-local ones, in order and without duplicates."""
    found = (
        address.address.partition("%")[0]
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family in (socket.AF_INET, socket.AF_INET6)
    )
    return _usable(found)[:_MAX_ADDRESSES]


def gateways(ipv4: Path = _IPV4_ROUTES, ipv6: Path = _IPV6_ROUTES) -> tuple[str, ...]:
    """Return the gateways in the kernel's routing tables; empty on a host without such tables."""
    return _usable([*_ipv4_gateways(_lines(ipv4)), *_ipv6_gateways(_lines(ipv6))])[:_MAX_GATEWAYS]


class LoadMeter:
    """Measures the CPU load since the last call; the first call measures since boot.

    A first measurement since the guard's start would mostly show the load of starting the guard.
    """

    def __init__(self) -> None:
        self._busy = self._total = 0.0

    def __call__(self) -> Load:
        """Return CPU load and memory use."""
        times = psutil.cpu_times()
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # `user` includes them, too
        total = sum(times) - guests
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        elapsed, worked = total - self._total, busy - self._busy
        self._busy, self._total = busy, total
        cpu = round(100 * worked / elapsed, 1) if elapsed > 0 else 0.0
        return Load(cpu=min(100.0, max(0.0, cpu)), memory=min(100.0, max(0.0, psutil.virtual_memory().percent)))


def local_zone() -> tzinfo:
    """Return the host's time zone, used for its logs: ``TZ``, else the system's, else UTC."""
    name = os.environ.get("TZ", "").lstrip(":")
    try:
        if name:
            return ZoneInfo(name)
        with _LOCAL_ZONE.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return UTC


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _ipv4_gateways(lines: list[str]) -> Iterable[str]:
    """Parse `/proc/net/route`: interface, destination, gateway (little-endian hexadecimal), flags and others."""
    for columns in map(str.split, lines[1:]):
        if len(columns) > 3 and _is_gateway(columns[3]):  # noqa: PLR2004 -- flags are the fourth column
            with suppress(ValueError):
                yield str(ipaddress.IPv4Address(bytes.fromhex(columns[2])[::-1]))


def _ipv6_gateways(lines: list[str]) -> Iterable[str]:
    """Parse `/proc/net/ipv6_route`: destination, length, source, length, next hop, metric, …, flags, interface."""
    for columns in map(str.split, lines):
        if len(columns) > 8 and _is_gateway(columns[8]):  # noqa: PLR2004 -- flags are the ninth column
            with suppress(ValueError):
                yield str(ipaddress.IPv6Address(bytes.fromhex(columns[4])))


def _is_gateway(flags: str) -> bool:
    """Return whether a route's flags name a gateway; False for an invalid column."""
    try:
        return bool(int(flags, 16) & _RTF_GATEWAY)
    except ValueError:
        return False


def _usable(addresses: Iterable[str]) -> tuple[str, ...]:
    usable = []
    for text in addresses:
        address = ipaddress.ip_address(text)
        if not (address.is_loopback or address.is_link_local or address.is_unspecified):
            usable.append(str(address))
    return tuple(dict.fromkeys(usable))
