"""`panguard guard try`: detects threats in a log file and prints the verdicts."""

import bz2
import gzip
import json
import lzma
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import IO, Any

from agent.accounts import HostAccounts
from agent.cli.printable import printable
from agent.detect.detection_chain import DetectionChain
from agent.events import Record, RecordOrigin, Verdict
from agent.sources.log_file import MAX_LINE

UNREADABLE = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""The errors raised for a log that cannot be read or decompressed."""

_SAMPLE_ADDRESS = "203.0.113.7"


@dataclass(frozen=True, slots=True)
class LogTrial:
    """The result of reading a log.

    Attributes:
        lines: The number of lines read.
        understood: The number of lines whose header was understood.
        verdicts: One for each attack: the latest one, if the attack was reported several times.
    """

    lines: int
    understood: int
    verdicts: list[Verdict]


def try_lines(lines: Iterable[bytes], zone: tzinfo, now: float) -> LogTrial:
    """Examine the lines of a log. Their time stamps are trusted, and no field counts as vouched.

    Args:
        lines: The lines, with or without newlines.
        zone: The time zone of stamps without one.
        now: Epoch seconds, to determine the year of a stamp without one.
    """
    chain, origin = DetectionChain(HostAccounts(unknown=True), zone), RecordOrigin("try")
    verdicts: dict[tuple[Any, ...], Verdict] = {}
    read = understood = 0
    for line in lines:
        read += 1
        text = line[:MAX_LINE].decode(errors="replace").rstrip("\r\n")
        examined = chain.examine(Record(text, origin, cut=len(line) > MAX_LINE), now)
        chain.saved()
        understood += examined.understood
        _merge(verdicts, examined.threats)
    _merge(verdicts, chain.finish())
    return LogTrial(read, understood, list(verdicts.values()))


@contextmanager
def log_lines(path: str) -> Iterator[Iterator[bytes]]:
    """Open a log, compressed or not; `-` is standard input.

    Raises:
        OSError: the log cannot be opened; reading its lines may raise any of `UNREADABLE`.
    """
    if path == "-":
        yield _bounded(sys.stdin.buffer)
        return
    with Path(path).open("rb") as plain, _decompressed(plain) as file:
        yield _bounded(file)


def sample_lines(now: float) -> list[bytes]:
    """Return harmless sshd lines: failed logins from an address reserved for documentation, and a successful login."""
    stamps = (datetime.fromtimestamp(now - 60 + second, UTC).isoformat(timespec="seconds") for second in range(60))
    messages = [
        *(f"Failed password for root from {_SAMPLE_ADDRESS} port {40_000 + guess} ssh2" for guess in range(6)),
        "Accepted publickey for deploy from 198.51.100.20 port 51000 ssh2: ED25519 SHA256:sample",
    ]
    return [f"{stamp} sample sshd[1]: {text}".encode() for stamp, text in zip(stamps, messages, strict=False)]


def as_json(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts as a list of JSON objects in the contract's terms."""
    return json.dumps([_fields(verdict) for verdict in verdicts], indent=2)


def as_table(trial: LogTrial) -> str:
    """Return the verdicts as text, one on a line, and the number of lines read."""
    rows = [("SEVERITY", "RULE", "SOURCE", "USER", "COUNT", "CONFIDENCE", "FIRST SEEN (UTC)")]
    for verdict in trial.verdicts:
        evidence = verdict.evidence
        rows.append(
            (
                verdict.severity,
                verdict.rule_id,
                str(evidence.get("sourceNetwork", evidence.get("sourceIp", "-"))),
                printable(str(evidence.get("user", "-"))),
                str(verdict.count),
                str(verdict.confidence),
                _utc(verdict.first_seen)[:19].replace("T", " "),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    read = f"{trial.lines} lines read, {trial.understood} understood, {len(trial.verdicts)} verdicts"
    return "\n".join([*table, read] if trial.verdicts else [read])


def _merge(verdicts: dict[tuple[Any, ...], Verdict], new: Iterable[Verdict]) -> None:
    for verdict in new:
        evidence = verdict.evidence
        culprit = evidence.get(verdict.target or "user")
        verdicts[verdict.rule_id, culprit, verdict.first_seen] = verdict


def _fields(verdict: Verdict) -> dict[str, Any]:
    return {
        "type": verdict.type,
        "ruleId": verdict.rule_id,
        "severity": verdict.severity,
        "confidence": verdict.confidence,
        "count": verdict.count,
        "technique": verdict.technique or None,
        "vouched": sorted(verdict.vouched),
        "throttle": verdict.throttle,
        "firstSeen": _utc(verdict.first_seen),
        "lastSeen": _utc(verdict.last_seen),
        "evidence": dict(verdict.evidence),
    }


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decompressed(file: BufferedReader) -> BufferedIOBase:
    begin = file.peek(3)
    if begin.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if begin.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if begin.startswith(b"\xfd7z") else file


def _bounded(file: IO[bytes] | BufferedIOBase) -> Iterator[bytes]:
    """Yield the lines of a file; only the beginning of a very long line is kept in memory."""
    while line := file.readline(MAX_LINE + 1):
        while not line.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
            if rest.endswith(b"\n"):
                break
        yield line
