"""`make bench`: runs all benchmarks, one table after the other, each beside its own limit."""

import subprocess
import sys
from importlib.util import find_spec

PARTS = (
    "ingest",
    "engine",
    "correlator",
    "immunity",
    "flood",
    "http",
    "queries",
    "forecast",
    "groups",
    "restart",
    "detection",
    "at_rest",
    "enforcing",
    "fence_speed",
    "on_host",
)
"""The benchmark modules in the order of running."""


def main() -> int:
    """Run every part in its own process; return the number of failures."""
    words = sys.argv[1:]
    failed = 0
    for part in PARTS:
        if find_spec(f"benchmarks.{part}") is None:
            continue
        print(f"\n== {part} ==", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{part}", *words]
        failed += subprocess.run(command, check=False).returncode != 0  # noqa: S603 -- our own modules, no shell
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
