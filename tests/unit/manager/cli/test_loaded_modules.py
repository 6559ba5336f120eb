"""Modules that the command line loads before it knows the command: none that takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("heavy", ["pydantic", "rich", "httpx2", "fastapi", "peewee", "cryptography", "manager.domain"])
def test_a_command_loads_what_it_needs_alone(loaded: set[str], heavy: str) -> None:
    """The tree of all commands is built without the libraries of the manager and of its output."""
    assert heavy not in loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Provide the names of the modules with which the tree of commands is complete."""
    script = "import sys, typer.main, manager.cli; typer.main.get_command(manager.cli.app); print(*sys.modules)"
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 -- this interpreter
    return set(ended.stdout.split())


@pytest.mark.parametrize("process", ["manager.cli.support.logs, manager.runtime.loop", "manager.broker.process"])
def test_the_logs_of_a_manager_load_no_rich(process: str) -> None:
    """Its tracebacks, with which structlog would load it, are printed by no process."""
    words = [sys.executable, "-c", f"import sys, {process}; print(*sys.modules)"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 -- this interpreter
    assert {"structlog", "rich"} & set(ended.stdout.split()) == {"structlog"}
