"""A log file under any interleaving of writes, rotations, copies, compressions, reads and restarts."""

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.sources.log_file import Position
from agent.sources.tail import Tail
from tests.support.examples import examples


class LogUnderRotation(RuleBasedStateMachine):
    """A writer, logrotate and a guard share one log; the guard gets every line once and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1.0
        self.folder = tempfile.TemporaryDirectory()
        self.log = Path(self.folder.name) / "auth.log"
        self.writer: IO[bytes] = self.log.open("ab", buffering=0)
        self.tail = Tail(self.log, at=self._now())
        self.rotations = 0
        self.dated = self.copies = False
        self.reopened = True
        self.unfinished = b""
        self.number = 0
        self.written: list[str] = []
        self.read_so_far: list[str] = []

    def _write(self, text: bytes) -> None:
        self.writer.write(text)
        now = self._now()
        os.utime(self.writer.fileno(), (now, now))

    def _now(self) -> float:
        """Return a time that no other call returned, for the kernel's own is coarser than this test is quick."""
        self.time += 1
        return self.time

    def _next_line(self, length: int) -> bytes:
        self.number += 1
        return f"line {self.number} {'x' * length}".encode()

    @rule(lengths=st.lists(st.integers(0, 400), min_size=1, max_size=5))
    def write_lines(self, lengths: list[int]) -> None:
        for length in lengths:
            line = self.unfinished or self._next_line(length)
            self._write((b"" if self.unfinished else line) + b"\n")
            self.unfinished = b""
            self.written.append(line.decode())

    @precondition(lambda self: not self.unfinished)
    @rule(length=st.integers(0, 400))
    def begin_line(self, length: int) -> None:
        self.unfinished = self._next_line(length)
        self._write(self.unfinished)

    @initialize(dated=st.booleans(), copies=st.booleans())
    def choose_scheme(self, dated: bool, copies: bool) -> None:
        self.dated, self.copies = dated, copies

    def _make_room(self) -> Path:
        """Return the name under which the log is kept at this rotation."""
        self.rotations += 1
        if self.dated:
            return self.log.with_name(f"auth.log-{20260000 + self.rotations}")
        for number in range(self.rotations - 1, 0, -1):
            for suffix in ("", ".gz"):
                old = self.log.with_name(f"auth.log.{number}{suffix}")
                if old.exists():
                    old.rename(self.log.with_name(f"auth.log.{number + 1}{suffix}"))
        return self.log.with_name("auth.log.1")

    @precondition(lambda self: not self.copies and self.reopened and self.log.exists() and self.log.stat().st_size)
    @rule(create=st.booleans())
    def rotate(self, create: bool) -> None:
        self.log.rename(self._make_room())
        self.reopened = False
        if create:
            self.log.touch()

    @precondition(lambda self: self.reopened and self.rotations)
    @rule()
    def compress(self) -> None:
        for path in sorted(self.log.parent.glob("auth.log?*")):
            if path.suffix != ".gz":
                packed = path.with_name(path.name + ".gz")
                packed.write_bytes(gzip.compress(path.read_bytes()))
                shutil.copystat(path, packed)
                path.unlink()

    @precondition(lambda self: not self.reopened and not self.unfinished)
    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = self.log.open("ab", buffering=0)
        self.reopened = True

    @precondition(lambda self: self.copies and not self.unfinished and self.log.stat().st_size)
    @rule()
    def copytruncate(self) -> None:
        position = self.tail.position
        if not (position.offset and self.log.exists() and position.inode == self.log.stat().st_ino):
            self.read_all()  # of a file that was never looked at nothing tells its copy
        shutil.copy2(self.log, self._make_room())
        os.truncate(self.log, 0)
        os.utime(self.log, (self.time, self.time))

    @rule()
    def read(self) -> None:
        self.read_so_far += [line.text for line in self.tail.read(at=self._now())]
        assert self.read_so_far == self.written[: len(self.read_so_far)]

    @rule()
    def restart(self) -> None:
        if not self.tail.position.offset:
            self.read_all()  # of a file that was never looked at nothing tells its copy
        self.tail.close()
        self.tail = Tail(self.log, Position.from_json(self.tail.position.to_json()))

    def read_all(self) -> None:
        while lines := self.tail.read(at=self._now()):
            self.read_so_far += [line.text for line in lines]
        assert self.read_so_far == self.written

    def teardown(self) -> None:
        try:
            self.read_all()
        finally:
            self.tail.close()
            self.writer.close()
            self.folder.cleanup()


LogUnderRotation.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=30, deadline=None)
TestLogUnderRotation = LogUnderRotation.TestCase
