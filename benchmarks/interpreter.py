"""Names the interpreter of a benchmark, and finds the fastest one of the machine.

A build without profile-guided optimisation takes up to 30 % more CPU than one with it, so that two figures compare only
where the interpreter and its build are the same.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OLDEST = (3, 11)
"""The oldest version that the project runs on (``requires-python``)."""

_NEWEST_MINOR = 15
_PROBE = (
    "import ensurepip, json, platform, sys, sysconfig, venv;"
    "print(json.dumps([platform.python_implementation(), sys.version_info[:3],"
    " sysconfig.get_config_var('CONFIG_ARGS') or '', sys.base_prefix]))"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter: its command, implementation, version, and whether its build is known to be optimised."""

    command: str
    implementation: str
    version: tuple[int, int, int]
    optimised: bool

    def __str__(self) -> str:
        """Return implementation, version and build, as benchmarks print them."""
        build = "optimised build" if self.optimised else "build without profile-guided optimisation"
        return f"{self.implementation} {'.'.join(map(str, self.version))}, {build}"


def this() -> Interpreter:
    """Return the interpreter that runs."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return Interpreter(
        sys.executable, platform.python_implementation(), sys.version_info[:3], is_optimised(arguments, sys.base_prefix)
    )


def announce() -> None:
    """Print the interpreter that runs to the standard error stream, beside a benchmark's table."""
    sys.stderr.write(f"interpreter: {this()}\n")


def is_optimised(configured: str, prefix: str) -> bool:
    """Whether a build is profile-guided, by the arguments of its ``configure`` and its prefix.

    Debian's and Fedora's packages, which install below ``/usr``, are profiled by their own build rules, without the
    argument.
    """
    return "--enable-optimizations" in configured or prefix == "/usr"


def installed() -> list[Interpreter]:
    """Return the interpreters on the search path and in ``/usr/bin`` that the project runs on."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], _NEWEST_MINOR + 1)]
    found = [shutil.which(name, path=path) for name in names for path in (os.environ.get("PATH"), "/usr/bin")]
    commands = {str(Path(command).resolve()): command for command in found if command}
    return [made for command in commands.values() if (made := _probe(command))]


def best(candidates: Iterable[Interpreter]) -> Interpreter:
    """Return the one to measure with: optimised before not, then the newest.

    Raises ValueError if there is none.
    """
    return max(candidates, key=lambda each: (each.optimised, each.version))


def _probe(command: str) -> Interpreter | None:
    """Return the interpreter behind a command, or None where it is too old or cannot make an environment."""
    try:
        answer = subprocess.run(  # noqa: S603 -- an interpreter of this machine, no shell
            [command, "-c", _PROBE], capture_output=True, check=True, timeout=20
        )
        implementation, version, configured, prefix = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if tuple(version[:2]) < OLDEST:
        return None
    major, minor, micro = version
    return Interpreter(command, implementation, (major, minor, micro), is_optimised(configured, prefix))
