"""`make bench`: runs all benchmarks, one table after the other, each beside its own limit.

It measures with the best interpreter of the machine (optimised before not, then the newest), in an environment of its
own (`.venv/bench`) where that is not the one that runs. ``--this-interpreter`` measures with the one that runs.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks import interpreter

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
    "fleet",
    "detection",
    "at_rest",
    "enforcing",
    "fence_speed",
    "on_host",
    "console",
    "open_consoles",
)
"""The benchmark modules in the order of running."""

_THIS = "--this-interpreter"
_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = _ROOT / ".venv" / "bench"


def main() -> int:
    """Run every part in its own process; return the number of failures."""
    words = [word for word in sys.argv[1:] if word != _THIS]
    python = sys.executable if _THIS in sys.argv[1:] else _fastest_python()
    failed = 0
    for part in PARTS:
        if find_spec(f"benchmarks.{part}") is None:
            continue
        print(f"\n== {part} ==", flush=True)
        failed += subprocess.run([python, "-m", f"benchmarks.{part}", *words], check=False).returncode != 0  # noqa: S603 -- our own modules, no shell
    return failed


def _fastest_python() -> str:
    """Return the command of the best interpreter; make its environment if it is not ours."""
    own = interpreter.this()
    best = interpreter.best([own, *interpreter.installed()])
    if (best.optimised, best.version) <= (own.optimised, own.version):
        return sys.executable
    print(f"measuring with {best}; this environment has {own}", flush=True)
    python = _ENVIRONMENT / "bin" / "python"
    install = ["install", "--quiet", "--disable-pip-version-check", "--constraint", "constraints.txt"]
    for command in (
        [best.command, "-m", "venv", "--clear", str(_ENVIRONMENT)],
        [str(python), "-m", "pip", *install, "--editable", ".[dev]"],
    ):
        subprocess.run(command, check=True, cwd=_ROOT)  # noqa: S603 -- pip and venv of this machine, no shell
    return str(python)


if __name__ == "__main__":
    raise SystemExit(main())
