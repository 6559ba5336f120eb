"""`panguard guard try`: the verdicts on a log, for people and for programs."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STAMP = "2026-11-22T10:00:{:02}Z srv sshd[7]: "


def tried(*arguments: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(  # noqa: S603 -- the guard itself
        [sys.executable, "-m", "agent", "try", *arguments], capture_output=True, check=False, input=stdin, timeout=60
    )


def verdicts(*arguments: str, stdin: bytes | None = None) -> list[dict[str, Any]]:
    done = tried(*arguments, "-o", "json", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def attack(user: str = "root", failures: int = 12) -> bytes:
    lines = [
        f"{STAMP.format(number)}Failed password for {user} from 203.0.113.7 port {number + 1} ssh2"
        for number in range(failures)
    ]
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "auth.log"
    path.write_bytes(attack())
    return path


def test_verdict_has_all_that_is_known(log: Path) -> None:
    """One attack is one verdict, with the count that was last reported; a file vouches for nothing."""
    assert verdicts(str(log)) == [
        {
            "type": "brute_force",
            "ruleId": "sshd-brute-force",
            "severity": "medium",
            "confidence": 90,
            "count": 10,
            "technique": "T1110",
            "vouched": [],
            "throttle": False,
            "firstSeen": "2026-11-22T10:00:00.000Z",
            "lastSeen": "2026-11-22T10:00:09.000Z",
            "evidence": {"sourceIp": "203.0.113.7", "targetService": "sshd", "user": "root", "userExists": True},
        }
    ]


def test_compressed_log_and_standard_input_are_read_alike(log: Path, tmp_path: Path) -> None:
    """Content of gzip and what comes by a pipe give the same verdicts as the file."""
    compressed = tmp_path / "auth.log.1.gz"
    compressed.write_bytes(gzip.compress(log.read_bytes()))
    assert verdicts(str(log)) == verdicts(str(compressed)) == verdicts("-", stdin=log.read_bytes())


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no log at all\n", b"\x00\xff\xfe" * 9_000, attack(failures=4)])
def test_log_with_nothing_in_it(content: bytes, tmp_path: Path) -> None:
    """Where there is nothing to find the array is empty, whatever the file holds."""
    path = tmp_path / "file"
    path.write_bytes(content)
    assert verdicts(str(path)) == []


def test_line_that_is_too_long_accuses_nobody(tmp_path: Path) -> None:
    """A line whose end is not read says nothing, and the lines after it are read."""
    path = tmp_path / "auth.log"
    long = STAMP.format(0).encode() + b"Failed password for " + b"x" * 40_000 + b" from 198.51.100.9 port 1 ssh2\n"
    path.write_bytes(long * 9 + attack())
    assert [verdict["evidence"]["sourceIp"] for verdict in verdicts(str(path))] == ["203.0.113.7"]


def test_sample_needs_no_log() -> None:
    """The sample is an attack from an address that is reserved for documentation."""
    (verdict,) = verdicts("--sample", "ssh")
    assert (verdict["ruleId"], verdict["evidence"]["sourceIp"]) == ("sshd-brute-force", "203.0.113.7")


def test_table_shows_no_control_characters(tmp_path: Path) -> None:
    """A user name with an escape sequence reaches the terminal escaped."""
    path = tmp_path / "auth.log"
    path.write_bytes(attack("\x1b[31mred"))
    shown = tried(str(path)).stdout.decode()
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{folder}/none"], "No such file"),
        (["{folder}"], "directory"),
        (["{folder}/damaged.gz"], "ended before"),
        ([], "name one log file"),
        (["{folder}/none", "--sample", "ssh"], "name one log file"),
    ],
)
def test_log_that_cannot_be_read(arguments: list[str], reason: str, tmp_path: Path) -> None:
    """A log that cannot be read, and none at all, are one sentence and exit code 2."""
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(attack())[:60])
    done = tried(*(argument.format(folder=tmp_path) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")
    assert reason in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
