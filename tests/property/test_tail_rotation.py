"""A log file under any interleaving of writes, rotations, truncations, reads and restarts."""

import os
import tempfile
from pathlib import Path
from typing import IO

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from agent.sources.log_file import Position
from agent.sources.tail import Tail


class LogUnderRotation(RuleBasedStateMachine):
    """A writer, logrotate and a guard share one log; the guard gets every line once and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.log = Path(self.folder.name) / "auth.log"
        self.writer: IO[bytes] = self.log.open("ab", buffering=0)
        self.tail = Tail(self.log)
        self.rotations = 0
        self.reopened = True
        self.unfinished = b""
        self.number = 0
        self.written: list[str] = []
        self.read_so_far: list[str] = []

    def _write(self, text: bytes) -> None:
        self.writer.write(text)

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

    @precondition(lambda self: self.reopened and self.log.exists() and self.log.stat().st_size)
    @rule(create=st.booleans())
    def rotate(self, create: bool) -> None:
        for number in range(self.rotations, 0, -1):
            self.log.with_name(f"auth.log.{number}").rename(self.log.with_name(f"auth.log.{number + 1}"))
        self.log.rename(self.log.with_name("auth.log.1"))
        self.rotations += 1
        self.reopened = False
        if create:
            self.log.touch()

    @precondition(lambda self: not self.reopened and not self.unfinished)
    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = self.log.open("ab", buffering=0)
        self.reopened = True

    @precondition(lambda self: self.reopened and not self.unfinished)
    @rule()
    def copytruncate(self) -> None:
        self.read_all()  # what is truncated unread is lost, by copytruncate's nature
        os.truncate(self.log, 0)

    @rule()
    def read(self) -> None:
        self.read_so_far += [line.text for line in self.tail.read()]
        assert self.read_so_far == self.written[: len(self.read_so_far)]

    @rule()
    def restart(self) -> None:
        self.tail.close()
        self.tail = Tail(self.log, Position.from_json(self.tail.position.to_json()))

    def read_all(self) -> None:
        while lines := self.tail.read():
            self.read_so_far += [line.text for line in lines]
        assert self.read_so_far == self.written

    def teardown(self) -> None:
        try:
            self.read_all()
        finally:
            self.tail.close()
            self.writer.close()
            self.folder.cleanup()


LogUnderRotation.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLogUnderRotation = LogUnderRotation.TestCase
