"""Completion as shells ask for it: the installed command, in a process of its own, against a served manager."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.support.ports import free_port
from tests.support.waiting import eventually

_COMMANDS = Path(sys.executable).parent
_TOLD = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""The shell is named on the line instead of guessed from the process above."""


def _run(*words: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PANGUARD_", "MANAGER_"))}
    path = os.pathsep.join([str(_COMMANDS), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(  # noqa: S603 -- our own words
        words, env={**kept, "PATH": path, **environment}, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout


def _offered(shell: str, line: str, **environment: str) -> list[str]:
    """Return what is offered for the end of a line, as the shell's own script asks for it."""
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    said = _run("panguard", _PANGUARD_COMPLETE=f"complete_{shell}", **asked, **environment)
    words = (
        said.replace("_arguments '*: :((", " ").replace("))'", " ").split("\n") if shell == "zsh" else said.split("\n")
    )
    return [word.strip().strip('"').split("\t")[0].split('":"')[0] for word in words if word.strip()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_words_and_hosts_are_offered(served: Served, shell: str) -> None:
    """Commands by their beginning; the words of an option; agents by hostname and id, as the manager has them."""
    agents = [served.enroll(hostname).agent_id for hostname in ("srv-01", "srv-02", "web-$(touch${IFS}x)")]
    here = {"MANAGER_URL": served.url, "MANAGER_AUTH_TOKEN": ADMIN_TOKEN}
    assert _offered(shell, "panguard manager ag") == ["agents"]
    assert _offered(shell, "panguard manager agents list --status s") == ["stale"]
    begun, empty = "panguard manager agents remove --machine-id srv", "panguard manager agents show "
    # A busy machine may not answer at once; then nothing is offered, and one presses the key again.
    eventually(lambda: _offered(shell, begun, **here) == ["srv-01", "srv-02"], what="hostnames offered")
    eventually(lambda: set(_offered(shell, empty, **here)) == {"srv-01", "srv-02", *agents}, what="all offered")


def test_bash_completes_by_the_script_that_is_shown() -> None:
    """`--show-completion` prints a script that bash accepts and that completes the typed word."""
    script = _run("bash", "--norc", "-c", "panguard --show-completion; true")
    typed = "COMP_WORDS=(panguard manager pol); COMP_CWORD=2; _panguard_completion panguard; echo ${COMPREPLY[@]}"
    assert _run("bash", "--norc", "-c", f"{script}\n{typed}") == "policies\n"
    assert "_panguard_completion panguard" in _run("bash", "--norc", "-c", f"{script}\ncomplete -p panguard")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_where_the_shell_looks(shell: str, tmp_path: Path) -> None:
    """Under the user's home."""
    said = _run("panguard", "--install-completion", shell, HOME=str(tmp_path), **_TOLD)
    assert f"{shell} completion installed in {tmp_path}" in said
    assert [path for path in tmp_path.rglob("*panguard*") if "complete" in path.read_text()]


def test_where_no_manager_answers_nothing_is_offered_and_nothing_said() -> None:
    """Neither a traceback nor a sentence lands in what is being typed."""
    nobody = {"MANAGER_URL": f"http://127.0.0.1:{free_port()}", "MANAGER_AUTH_TOKEN": "x"}
    assert _offered("bash", "panguard manager agents show ", **nobody) == []
