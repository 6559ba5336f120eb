"""TCP packets with any source address, sent by a raw socket."""

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

SYN, ACK, PSH_ACK = 0x02, 0x10, 0x18


def send_spoofed(sources: Iterable[str], target: str, port: int = 22) -> None:
    """Send each source's packets to a port by a raw socket: the flags of a handshake, of an answer, and payload."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for source in sources:
            for flags in (SYN, ACK, PSH_ACK):
                raw.sendto(packet(source, target, 40_000, port, flags), (target, 0))


def packet(source: str, target: str, sport: int, port: int, flags: int) -> bytes:
    """Return an IPv4 packet of TCP with these flags, with payload where it pushes."""
    payload = b"SSH-2.0-forged\r\n" if flags == PSH_ACK else b""
    head = struct.pack("!HHIIBBHHH", sport, port, 1, 1, 5 << 4, flags, 1024, 0, 0)
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head) + len(payload))
    checked = head[:16] + struct.pack("!H", _checksum(pseudo + head + payload)) + head[18:]
    size = 20 + len(checked) + len(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    return ip + checked + payload


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
