"""What the commands on this host's measures print of the fence's answers."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli.commands import app
from agent.cli.live_fence import with_live_fence

Serve = Callable[..., Path]

OWED = "the manifest cannot be written: disk full; until it can, a restart of the fence brings it back"
COVERED = "still covered by 198.51.100.0/24 (block, policy)"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that has a socket give one answer to every request."""
    listeners: list[socket.socket] = []

    def begin(**answer: Any) -> Path:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "fence.sock"))
        listener.listen()
        listeners.append(listener)
        threading.Thread(target=_answer_all, args=(listener, answer), daemon=True).start()
        return tmp_path / "fence.sock"

    yield begin
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _answer_all(listener: socket.socket, answer: dict[str, Any]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as lines:
            lines.readline()
            connection.sendall(json.dumps(answer).encode() + b"\n")


@pytest.mark.parametrize("words", [["undo", "fen-0123456789ab"], ["unblock", "198.51.100.7"], ["panic"]])
def test_what_still_holds_and_what_could_not_be_written_is_printed(serve: Serve, words: list[str]) -> None:
    """A lift that a restart of the fence would undo, or that another measure covers, is not just `lifted`."""
    path = serve(ok=True, outcome="lifted", ids=["fen-0123456789ab"], count=1, reason=COVERED, unwritten=OWED)
    done = CliRunner().invoke(app, [*words, "--fence-socket", str(path)])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1:] == [COVERED, OWED]


def test_the_status_has_the_fences_own_counts(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's commands are in it at once; what only the guard knows stays."""
    reason = {"value": "198.51.100.7", "reason": "root lifted it on this host"}
    beside = {"value": "evil.example", "reason": "this guard blocks addresses only"}
    path = serve(ok=True, enforcement="nftables", set=3, refused=1, ineffective=0, failed=0, reasons=[reason])
    monkeypatch.setenv("PANGUARD_FENCE_SOCKET", str(path))
    old = {"set": 9, "impossible": 1, "policyVersion": 4, "reasons": [{"value": "x", "reason": "gone"}, beside]}
    fields = with_live_fence({"enforcement": "nftables", "enforced": old})
    counts = {"set": 3, "refused": 1, "ineffective": 0, "failed": 0}
    assert fields["enforced"] == {**counts, "impossible": 1, "policyVersion": 4, "reasons": [reason, beside]}


@pytest.mark.parametrize("enforcement", ["nftables", "simulated", "impossible"])
def test_without_a_fence_the_status_is_the_guards(monkeypatch: pytest.MonkeyPatch, enforcement: str) -> None:
    """It says what it knew."""
    monkeypatch.setenv("PANGUARD_FENCE_SOCKET", "/nowhere/fence.sock")
    fields = {"enforcement": enforcement, "enforced": {"set": 9}}
    assert with_live_fence(fields) == fields


PANIC = {"name": "fence", "state": "stopped", "reason": "stopped by `panic`"}
LOG = {"name": "journal", "state": "ok"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("panic", [True, False])
def test_panic_and_resume_are_in_the_status_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, known: bool, panic: bool
) -> None:
    """Whatever the guard has noticed of them."""
    monkeypatch.setenv("PANGUARD_FENCE_SOCKET", str(serve(ok=True, enforcement="nftables", panic=panic)))
    before = {"sources": [LOG, PANIC], "health": "degraded"} if known else {"sources": [LOG], "health": "ok"}
    fields = with_live_fence({"mode": "protection", **before})
    assert fields["health"] == ("degraded" if panic else "ok")
    assert [each["state"] for each in fields["sources"]] == (["ok", "stopped"] if panic else ["ok"])
