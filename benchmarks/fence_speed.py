"""Times the fence alone on a signed policy of 10,000 addresses, part by part, with the kernel's real table.

`python -m benchmarks.fence_speed`, with `--quick` for three runs; as root, with nftables and iproute2. The fence runs
in this process in a network namespace of its own, with a manifest in a temporary directory. Elsewhere it says why it
measures nothing.
"""

import argparse
import ctypes
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks import interpreter
from demo.hosts import simulated_because
from fence import request_verification
from fence.config import Config
from fence.host import Host
from fence.manifest import Manifest
from fence.never_block import NeverBlockRules
from fence.nft import Kernel
from fence.service import Clocks, Fence, Peer
from schemas import message_codes

ENTRIES = 10_000
MOST = 1.0
"""Seconds that 10,000 signed entries may take (design of the guard, section 5)."""

_AGENT = "ag-0123456789abcdef"
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_CLONE_NEWNET = 0x40000000

Part = tuple[str, type | Any, str]
_PARTS: tuple[Part, ...] = (
    ("verify the signature and read the message", request_verification, "verify"),
    ("refuse by the never-rules", NeverBlockRules, "refusal"),
    ("write the manifest", Manifest, "change"),
    ("set in the kernel by nft", Kernel, "_run"),
)


def main() -> int:
    """Measure and print the table; return 1 if the fastest run takes more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three runs")
    runs = 3 if parser.parse_args().quick else 9
    interpreter.announce()
    reason = simulated_because()
    if reason is not None:
        print(f"nothing is measured: {reason}")
        return 0
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        print(f"nothing is measured: {os.strerror(ctypes.get_errno())}")
        return 0
    spent: dict[str, list[float]] = {name: [] for name, _, _ in _PARTS}
    for name, owner, attribute in _PARTS:
        setattr(owner, attribute, _timed(getattr(owner, attribute), spent[name]))
    totals, shares, cpu = [], [], []
    for number in range(runs):
        for each in spent.values():
            each.clear()
        before = os.times()
        totals.append(_run(number))
        cpu.append(sum(os.times()[:4]) - sum(before[:4]))
        shares.append({name: sum(each) for name, each in spent.items()})
    _print(totals, shares)
    print(f"  CPU of the fence and nft, with start and end {min(cpu):8.3f}")
    return 0 if min(totals) <= MOST else 1


def _run(number: int) -> float:
    """Return the seconds that one fence takes for the first policy of its life."""
    with tempfile.TemporaryDirectory() as directory:
        manifest = Manifest(Path(directory), "boot")
        manifest.load(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
        kernel = Kernel([22], [22])
        fence = Fence(
            Config(sign_keys=(_KEY.public_key().public_bytes_raw(),), agent_id=_AGENT),
            kernel=kernel,
            manifest=manifest,
            host=Host(),
            clocks=Clocks(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.time),
            boot_id="boot",
            log=lambda _event: None,
        )
        fence.enforcement.build()
        request = json.loads(json.dumps(_request(number + 1)))
        began = time.perf_counter()
        answer = fence.answer(Peer(0), request)
        took = time.perf_counter() - began
        if (answer.get("outcome"), answer.get("set")) != ("taken", ENTRIES):
            raise RuntimeError(f"not set: {answer}")
        kernel.remove()
        manifest.close()
        return took


def _request(version: int) -> dict[str, str]:
    """Return a `managed` request with a signed policy, half of it IPv4, half IPv6."""
    ips = [f"198.{18 + number // 60_000}.{number // 250}.{1 + number % 250}" for number in range(ENTRIES // 2)]
    ips += [f"2001:db8:{number:x}::1" for number in range(ENTRIES - len(ips))]
    document = {
        "agentId": _AGENT,
        "version": version,
        "sentAt": "2026-11-29T00:00:00Z",
        "secondsLeft": dict.fromkeys(ips, 14_400),
        "blocklist": {"ips": ips},
        "allowlist": {"ips": []},
    }
    topic = f"agents/{_AGENT}/policy"
    payload = message_codes.with_signature(_KEY, topic, json.dumps(document, separators=(",", ":")).encode())
    return {"request": "managed", "topic": topic, "payload": payload.decode()}


def _timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*words: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*words, **named)
        finally:
            spent.append(time.perf_counter() - began)

    return timed


def _print(totals: list[float], shares: list[dict[str, float]]) -> None:
    ordered = sorted(totals)
    fastest = shares[totals.index(ordered[0])]
    print(f"{ENTRIES} signed entries in the fence alone, seconds, the fastest of {len(totals)} runs")
    for name, seconds in fastest.items():
        print(f"  {name:44}{seconds:8.3f}")
    print(f"  {'all else':44}{ordered[0] - sum(fastest.values()):8.3f}")
    print(f"  {'together':44}{ordered[0]:8.3f}   to reach {MOST:.1f}")
    print(f"  {'together, median and slowest':44}{ordered[len(ordered) // 2]:8.3f}{ordered[-1]:8.3f}")


if __name__ == "__main__":
    raise SystemExit(main())
