"""Measures guard and fence with 10,000 addresses blocked in the kernel: memory, CPU at rest, time until they are set.

`python -m benchmarks.enforcing`, with `--quick` for ten seconds; as root, with nftables and iproute2. A policy
has the addresses; the fence blocks them in a network namespace. Elsewhere it says why it measures nothing.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from benchmarks import interpreter
from benchmarks.at_rest import MOST_CPU, MOST_PSS, MOST_RSS, SECONDS, SETTLED, cpu
from demo.hosts import Hosts, simulated_because
from schemas.keys import EnrollmentToken

MEASURES = 10_000

_MIB = 1024 * 1024
_SET_WITHIN = 60.0


def main() -> int:
    """Measure and print the table; return 1 if guard or both together take more than they may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten seconds")
    seconds = 10.0 if parser.parse_args().quick else SECONDS
    interpreter.announce()
    reason = simulated_because()
    if reason is not None:
        print(f"nothing is measured: {reason}")
        return 0
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        processes, set_after = _start(stack, Path(directory))
        time.sleep(SETTLED)
        before = {name: cpu(process) for name, process in processes.items()}
        time.sleep(seconds)
        print(f"{MEASURES} addresses in the kernel {set_after:.2f} s after the policy was given to the manager")
        print(f"{'':16}{'RSS, MiB':>10}{'PSS, MiB':>10}{'% of a core':>14}   over {seconds:.0f} s")
        rss: dict[str, float] = {}
        pss = share = 0.0
        for name, process in processes.items():
            memory, own = process.memory_full_info(), (cpu(process) - before[name]) / seconds * 100
            print(f"{name:16}{memory.rss / _MIB:10.1f}{memory.pss / _MIB:10.1f}{own:14.2f}")
            rss[name], pss, share = memory.rss / _MIB, pss + memory.pss / _MIB, share + own
    print(f"{'both':16}{'':10}{pss:10.1f}{share:14.2f}")
    print(f"{'to reach':16}{MOST_RSS:10.0f}{MOST_PSS:10.0f}{MOST_CPU:14.0f}   RSS of the guard, the rest of both")
    return 0 if rss["guard"] <= MOST_RSS and pss <= MOST_PSS and share <= MOST_CPU else 1


def _start(stack: ExitStack, folder: Path) -> tuple[dict[str, psutil.Process], float]:
    """Start manager, fence and guard; return guard and fence once all is set, and how long that took."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PANGUARD_")}
    hosts = stack.enter_context(Hosts(folder, 1))
    data, log, guard = folder / "manager", folder / "auth.log", folder / "guard"
    log.touch()
    ready = _run(stack, environment, "manager", "start", "--data-dir", str(data), "--port", "0", "--mqtt-port", "0")
    address = next(word for word in ready[1].split() if word.startswith("mqtt=")).removeprefix("mqtt=")
    host = hosts.guarded[0]
    host.start(EnrollmentToken.parse((data / "enroll.token").read_text()).sign_key)
    words = ["--manager", address, "--enroll-token-file", str(data / "enroll.token"), "--mode", "protection"]
    settings = environment | {"PANGUARD_FENCE_SOCKET": str(host.socket), "PANGUARD_MODE_TRIAL": "86400"}
    started = _run(stack, settings, "guard", "start", "--data-dir", str(guard), "--watch-log", str(log), *words)
    policy = folder / "policy.json"
    ips = [f"198.18.{number // 250}.{1 + number % 250}" for number in range(MEASURES)]
    policy.write_text(json.dumps({"blocklist": {"ips": ips}}))
    began = time.monotonic()
    _panguard("manager", "policies", "set", "--global", "--file", str(policy), "--data-dir", str(data))
    while _enforced(guard).get("set") != MEASURES:
        if time.monotonic() - began > _SET_WITHIN:
            raise RuntimeError(f"not set within {_SET_WITHIN:.0f} s: {_enforced(guard)}")
        time.sleep(0.05)
    took = time.monotonic() - began
    fences = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(host.socket) in (process.info["cmdline"] or ()) and "fence" in (process.info["cmdline"] or ())
    ]
    return {"guard": psutil.Process(started[0]), "fence": fences[0]}, took


def _enforced(directory: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((directory / "status.json").read_bytes()).get("enforced", {})
        return found
    return {}


def _run(stack: ExitStack, environment: dict[str, str], *words: str) -> tuple[int, str]:
    """Start a process; return its id and its first line."""
    command = [str(Path(sys.executable).with_name("panguard")), *words]
    process = stack.enter_context(
        subprocess.Popen(  # noqa: S603 -- our own command
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
    )
    stack.callback(process.terminate)
    ready = "" if process.stdout is None else process.stdout.readline()
    if not ready:
        raise RuntimeError(f"{' '.join(words[:2])} did not come up")
    return process.pid, ready


def _panguard(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("panguard")), *words], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- our own


if __name__ == "__main__":
    raise SystemExit(main())
