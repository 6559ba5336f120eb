"""Reader of the systemd journal through a `journalctl` process, for hosts without libsystemd."""

import fcntl
import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from agent.sources.journal_entry import JOURNALD_FIELDS, MATCHES, MAX_FIELD, TEXT_FIELDS, WRITER_FIELDS, JournalEntry
from agent.sources.source import SourceError

_NAMES = (*TEXT_FIELDS, *WRITER_FIELDS, *JOURNALD_FIELDS)
_CHUNK = 256 * 1024
_LARGEST_LINE = 4 * 1024 * 1024

# Seconds without output after which `journalctl --follow` counts as having printed all existing entries.
_PAUSE = 0.5


class JournalctlReader:
    """A `JournalReader` through the output of `journalctl --follow --output=json`.

    Args:
        directory: The journal's directory; None for the host's own.
    """

    def __init__(self, directory: Path | None) -> None:
        self._command = ["journalctl", "--output=json", "--all", "--no-pager", "--quiet"]
        # `--follow` shows the current boot only, unless with `--merge`; so journalctl gets one machine's directory.
        self._command += ["--merge", f"--directory={directory or _own_directory()}"]
        self._start: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""
        self._flowing = False

    def seek(self, cursor: str) -> bool:
        """Go behind the entry of a cursor; return False if the journal does not have it."""
        found = self._run(f"--cursor={cursor}", "--lines=1", filtered=False)
        self._restart([f"--after-cursor={cursor}"])
        return next((entry.cursor == cursor for entry in found), False)

    def seek_time(self, at: float) -> None:
        """Go to the first entry at or after a time, in epoch seconds."""
        self._restart([f"--since=@{at:.6f}"])

    def seek_back(self, entries: int, since: float) -> None:
        """Go to the first of the newest `entries`, or to the first one at or after `since`, whichever is later."""
        self._restart([f"--since=@{since:.6f}", f"--lines={entries}"])

    def read(self, budget: int) -> Sequence[JournalEntry]:
        """Return the next entries, at most `budget`; fewer mean that no more have arrived yet."""
        process = self._process or self._follow()
        output = process.stdout
        entries: list[JournalEntry] = []
        while output is not None and len(entries) < budget:
            line, newline, rest = self._pending.partition(b"\n")
            if newline:
                self._pending = rest
                entries += _entries(line)
                continue
            try:
                chunk = os.read(output.fileno(), _CHUNK)
            except BlockingIOError:
                if not self._flowing or not select.select([output], [], [], _PAUSE)[0]:
                    self._flowing = False
                    break
                continue
            if not chunk:
                self._ended(process)
                break
            self._flowing = True
            self._pending = (self._pending + chunk)[:_LARGEST_LINE]
        if entries:
            self._start = [f"--after-cursor={entries[-1].cursor}"]
        return entries

    def has_changed(self) -> bool:
        """Return False: the process of journalctl holds the files that it reads."""
        return False

    def oldest(self) -> float | None:
        """Return when the oldest entry of the journal was received; None if there is none."""
        with (
            suppress(OSError),
            subprocess.Popen(  # noqa: S603 -- the same
                [*self._command, "--system"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as process,
        ):
            line = b"" if process.stdout is None else process.stdout.readline(_LARGEST_LINE)
            process.kill()
            return next((entry.at for entry in _entries(line)), None)
        return None

    def close(self) -> None:
        """Stop the journalctl process."""
        process, self._process, self._pending = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _restart(self, start: list[str]) -> None:
        self.close()
        self._start = start

    def _follow(self) -> "subprocess.Popen[bytes]":
        command = [*self._command, "--follow", *_whole(self._start), *_match_arguments()]
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- journalctl, with arguments of our own
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise SourceError(f"journalctl cannot be started: {error.strerror}", "missing") from error
        if self._process.stdout is not None:
            descriptor = self._process.stdout.fileno()
            self._flowing = True
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_NONBLOCK)
        return self._process

    def _ended(self, process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        reason = b"" if process.stderr is None else process.stderr.read(1024)
        self.close()
        said = reason.decode(errors="replace").strip() or f"exit code {code}"
        raise SourceError(f"journalctl ended: {said}; it is started again")

    def _run(self, *arguments: str, filtered: bool = True) -> list[JournalEntry]:
        lines = self._output(*arguments, *(_match_arguments() if filtered else ()))
        return [entry for line in lines.splitlines() for entry in _entries(line)]

    def _output(self, *arguments: str) -> bytes:
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(  # noqa: S603 -- the same
                [*self._command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
            return done.stdout
        return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


def _own_directory() -> Path:
    """Return the directory of this machine's own journal: the persistent one, else the volatile one."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    persistent = Path("/var/log/journal") / machine
    return persistent if persistent.is_dir() else Path("/run/log/journal") / machine


def _whole(start: list[str]) -> list[str]:
    """Return the start arguments; without a number of lines `journalctl --follow` would begin with the last ten."""
    return start if any(word.startswith("--lines") for word in start) else ["--no-tail", *start]


def _match_arguments() -> list[str]:
    groups = [[f"{field}={value}" for value in values] for field, values in MATCHES]
    return [word for number, group in enumerate(groups) for word in (["+"] if number else []) + group]


def _entries(line: bytes) -> Iterator[JournalEntry]:
    """Yield the entry in one line of `journalctl --output=json`; nothing if it cannot be read."""
    try:
        document = json.loads(line)
        at, cursor = int(document["__REALTIME_TIMESTAMP"]) / 1e6, str(document["__CURSOR"])
        fields = {name: _text(document[name]) for name in _NAMES if document.get(name) is not None}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return
    cut = len(fields.get("MESSAGE", "")) > MAX_FIELD
    yield JournalEntry({name: value[:MAX_FIELD] for name, value in fields.items()}, at, cursor, cut)


def _text(value: Any) -> str:
    """Return a field's text, without lone surrogates, with which a report could not be encoded.

    journalctl writes bytes that are not text as numbers, and repeated fields as a list.
    """
    if isinstance(value, list) and value and all(isinstance(byte, int) for byte in value):
        return bytes(value).decode(errors="replace")
    text = str(value[0] if isinstance(value, list) and value else value)
    return text.encode("utf-8", "replace").decode()
