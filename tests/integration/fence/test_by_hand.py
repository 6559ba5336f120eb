"""`panguard guard block`, `blocks list`, `unblock`, `undo`, `panic`, `resume`, `confirm` against a real fence."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli.commands import app
from tests.support.fence_process import GUARD_UID, FenceProcess
from tests.support.network import Network

pytestmark = pytest.mark.namespaces

SERVER, TARGET, OTHER = "203.0.113.1", "198.51.100.7", "198.51.100.8"


@pytest.fixture
def fence(tmp_path: Path) -> Iterator[FenceProcess]:
    with Network() as network, FenceProcess(network.host(f"{SERVER}/24"), tmp_path) as fence:
        yield fence


def _panguard(fence: FenceProcess, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--fence-socket", str(fence.socket)])


def _listed(fence: FenceProcess) -> dict[str, str]:
    return {entry["value"]: entry["id"] for entry in fence.ask(request="list")["entries"]}


def test_an_address_is_blocked_listed_and_lifted_by_hand(fence: FenceProcess) -> None:
    """By value and by id; what is not set cannot be lifted, and the exit code says so."""
    assert _panguard(fence, "blocks", "list").stdout == "nothing is blocked\n"
    assert _panguard(fence, "block", TARGET, "--for", "30m").exit_code == 0
    assert _panguard(fence, "block", OTHER, "--throttle", "--reason", "slow down").exit_code == 0
    assert set(_listed(fence)) == {TARGET, OTHER}
    assert 1700 < fence.elements("block4")[0]["elem"]["expires"] <= 1800
    assert "slow down" in _panguard(fence, "blocks", "list", OTHER).stdout
    assert _panguard(fence, "unblock", TARGET).exit_code == 0
    assert _panguard(fence, "undo", _listed(fence)[OTHER]).exit_code == 0
    assert _listed(fence) == {}
    again = _panguard(fence, "unblock", TARGET)
    shown = "`panguard guard blocks list` shows what is set"
    assert (again.exit_code, again.stderr) == (1, f"error: refused: nothing is set there; {shown}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("unblock", "198.51.100"), "'198.51.100' is no address or network: write it in digits, such as 203.0.113.7"),
        (("unblock", "198.51.100.7/24"), "has bits set beyond its prefix length: write 198.51.100.0/24"),
        (("unblock", "fen-0123456789ab"), "is the id of a measure: panguard guard undo fen-0123456789ab"),
        (("unblock", TARGET), f"{TARGET} is covered by 198.51.100.0/24: unblock that"),
        (("undo", TARGET), f"{TARGET} is an address: panguard guard unblock {TARGET}"),
        (("undo", "fen-0123456789ab"), "nothing is set there; `panguard guard blocks list` shows what is set"),
        (("blocks", "list", "host.example"), "is no address or network"),
    ],
)
def test_a_wrong_address_or_id_is_answered_with_the_right_command(
    fence: FenceProcess, words: tuple[str, ...], told: str
) -> None:
    """An address in place of an id and the reverse, a misspelt one, and one that a network covers."""
    assert _panguard(fence, "block", "198.51.100.0/24").exit_code == 0
    done = _panguard(fence, *words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert told in done.stderr
    assert set(_listed(fence)) == {"198.51.100.0/24"}


def test_a_missing_directory_of_the_socket_is_for_root_and_the_guard_only(fence: FenceProcess, tmp_path: Path) -> None:
    """Whatever the umask is; a directory that was there keeps its mode."""
    fence.stop()
    before = tmp_path.stat().st_mode
    fence.socket = tmp_path / "run" / "panguard" / "fence.sock"
    previous = os.umask(0)
    try:
        fence.start()
    finally:
        os.umask(previous)
    for made in (tmp_path / "run", tmp_path / "run" / "panguard"):
        assert (stat.S_IMODE(made.stat().st_mode), made.stat().st_gid) == (0o750, GUARD_UID)
    assert tmp_path.stat().st_mode == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((SERVER,), "it is an address of this host"),
        ((TARGET, "--for", "31d"), "at most"),
        ((TARGET, "--for", "0s"), "without an end"),
        ((TARGET, "--for", "soon"), "is no duration"),
        (("example.org",), "no address or network"),
        (("198.51.0.0/16",), "wider than a /24"),
    ],
)
def test_the_operator_is_refused_too(fence: FenceProcess, words: tuple[str, ...], reason: str) -> None:
    """The never-rules and an end hold for root; the reason is one line."""
    done = _panguard(fence, "block", *words)
    assert done.exit_code == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert _listed(fence) == {}


def test_panic_lifts_everything_until_resume(fence: FenceProcess) -> None:
    """Without a guard and without a manager."""
    _panguard(fence, "block", TARGET)
    assert _panguard(fence, "panic").stdout.startswith("lifted 1")
    assert fence.elements("block4") == []
    assert "stopped by `panic` until `panguard guard resume`" in _panguard(fence, "blocks", "list").stdout
    assert "stopped by `panic`" in _panguard(fence, "block", TARGET).stderr
    assert _panguard(fence, "resume").exit_code == 0
    assert _panguard(fence, "block", TARGET).exit_code == 0


def test_without_a_fence_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    """No traceback: which socket, and which command makes it."""
    done = CliRunner().invoke(app, ["panic", "--fence-socket", str(tmp_path / "no.sock")])
    assert done.exit_code == 1
    assert "panguard guard install" in done.stderr


def test_a_confirmation_without_a_trial_is_refused(fence: FenceProcess) -> None:
    """There is nothing to confirm."""
    assert _panguard(fence, "confirm").stderr == "error: refused: no trial is running\n"


def test_a_second_fence_is_refused_and_the_first_still_answers(fence: FenceProcess) -> None:
    """With the same state directory it ends with one sentence, and `panic` reaches the fence that has the blocks."""
    _panguard(fence, "block", TARGET)
    words = ["fence", "serve", "--socket", str(fence.socket), "--config", str(fence.home / "fence.conf")]
    log = fence.home / "second.log"
    second = fence.host.start(sys.executable, "-m", *words, log=log, directory=Path(__file__).parents[3])
    assert second.wait(60) == 2
    assert "another fence works with" in log.read_text()
    assert len(log.read_text().splitlines()) == 1
    assert _panguard(fence, "panic").stdout.startswith("lifted 1")
    assert fence.elements("block4") == []
