"""Following a log file: what is read, once, and what is refused."""

import gzip
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from agent.sources import log_file
from agent.sources.log_file import Line, Position
from agent.sources.source import SourceError
from agent.sources.tail import Tail


def append(path: Path, text: str | bytes) -> None:
    """Writes at the end of a file, as a logging daemon does."""
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def texts(tail: Tail) -> list[str]:
    """The text of the lines that one read returns."""
    return [line.text for line in tail.read()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The path of a log that is not there yet."""
    return tmp_path / "auth.log"


class TestBeginning:
    def test_first_start_skips_what_is_there(self, log: Path) -> None:
        """A first start reads only what is written from then on."""
        append(log, "old\n")
        with Tail(log) as tail:
            append(log, "new\n")
            assert texts(tail) == ["new"]

    def test_from_start_reads_what_is_there(self, log: Path) -> None:
        """On request a first start reads the file from its beginning."""
        append(log, "old\n")
        with Tail(log, look_back=0.0) as tail:
            assert texts(tail) == ["old"]

    def test_line_unfinished_at_the_start_is_read_whole(self, log: Path) -> None:
        """A line that was half written at the first start is read whole when it is finished."""
        append(log, "old\nhalf")
        with Tail(log) as tail:
            append(log, " and half\n")
            assert texts(tail) == ["half and half"]

    def test_file_that_comes_later_is_read_from_its_beginning(self, log: Path) -> None:
        """Of a file that did not exist at the start nothing is skipped."""
        with Tail(log) as tail:
            assert tail.read() == []
            append(log, "first\n")
            assert texts(tail) == ["first"]

    def test_file_that_comes_while_the_guard_is_down_is_read(self, log: Path) -> None:
        """A guard that had waited for the file reads all of it, if it came while the guard was down."""
        with Tail(log) as tail:
            waiting = tail.position
        append(log, "first\n")
        with Tail(log, waiting) as tail:
            assert texts(tail) == ["first"]


class TestLines:
    def test_partial_line_waits_for_its_newline(self, log: Path) -> None:
        """A line is returned once, when its newline is there."""
        with Tail(log) as tail:
            append(log, "ha")
            assert tail.read() == []
            append(log, "lf\n")
            assert tail.read() == [Line("half")]

    def test_long_line_is_cut_and_marked(self, log: Path) -> None:
        """A line over the limit comes as its beginning, marked; the one behind it is whole."""
        append(log, b"x" * (log_file.MAX_LINE + 1) + b"\n" + b"y" * log_file.MAX_LINE + b"\n")
        with Tail(log, look_back=0.0) as tail:
            assert tail.read() == [Line("x" * log_file.MAX_LINE, cut=True), Line("y" * log_file.MAX_LINE)]

    def test_endless_line_is_not_kept_in_memory(self, log: Path) -> None:
        """Of a line of many megabytes only its beginning is held, and reading goes on behind it."""
        append(log, b"x" * (3 * log_file.MAX_BYTES) + b"\nnext\n")
        with Tail(log, look_back=0.0) as tail:
            lines = [line for _ in range(4) for line in tail.read()]
            assert tail._file is not None
            assert len(tail._file._pending) <= log_file.MAX_LINE
        assert [(len(line.text), line.cut) for line in lines] == [(log_file.MAX_LINE, True), (4, False)]

    def test_undecodable_bytes_survive(self, log: Path) -> None:
        """Bytes that are not UTF-8 are replaced, and the rest of the line stays."""
        append(log, b"caf\xe9 \xe2\x80\xa8 au lait\n")
        with Tail(log, look_back=0.0) as tail:
            assert texts(tail) == ["caf\ufffd \u2028 au lait"]

    def test_one_call_returns_a_bounded_number_of_lines(self, log: Path) -> None:
        """A call returns at most 1,000 lines, and the calls together return each once."""
        written = [f"line {number}" for number in range(2 * log_file.MAX_LINES + 5)]
        append(log, "".join(f"{line}\n" for line in written))
        with Tail(log, look_back=0.0) as tail:
            batches = [texts(tail) for _ in range(4)]
        assert [len(batch) for batch in batches] == [log_file.MAX_LINES, log_file.MAX_LINES, 5, 0]
        assert [line for batch in batches for line in batch] == written

    def test_one_call_reads_a_bounded_number_of_bytes(self, log: Path) -> None:
        """A call reads at most 1 MiB beyond the line it has in hand; together the calls return each line once."""
        written = [f"{number:04}" + "x" * 9_996 for number in range(300)]
        append(log, "".join(f"{line}\n" for line in written))
        with Tail(log, look_back=0.0) as tail:
            batches = [texts(tail) for _ in range(4)]
        assert all(sum(map(len, batch)) <= log_file.MAX_BYTES + log_file.MAX_LINE for batch in batches)
        assert [line for batch in batches for line in batch] == written


class TestRotation:
    def test_late_writes_to_the_renamed_file_are_read(self, log: Path) -> None:
        """What the writer adds to the old file before it reopens comes before the new file's lines."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail, log.open("a") as old:
            assert texts(tail) == ["one"]
            log.rename(log.with_name("auth.log.1"))
            log.touch()
            assert tail.read() == []
            old.write("late\n")
            old.flush()
            assert texts(tail) == ["late"]
            old.write("later\n")
            old.flush()
            append(log, "new\n")
            assert texts(tail) == ["later", "new"]

    def test_write_in_the_moment_of_the_switch_is_read(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is written to the old file after its end was met, and before the new file is opened, is not lost."""
        append(log, "one\n")
        with Tail(log) as tail:
            log.rename(log.with_name("auth.log.1"))
            append(log, "new\n")
            really_open = log_file.LogFile.open

            def open_after_a_late_write(path: Path, _content: Position | None = None) -> log_file.LogFile | None:
                append(log.with_name("auth.log.1"), "late\n")
                return really_open(path)

            monkeypatch.setattr(log_file.LogFile, "open", open_after_a_late_write)
            assert texts(tail) == ["late", "new"]

    def test_file_missing_for_a_while_after_the_rename(self, log: Path) -> None:
        """Between the rename and the new file the old one is still followed."""
        append(log, "one\n")
        with Tail(log) as tail:
            log.rename(log.with_name("auth.log-20261122"))
            append(log.with_name("auth.log-20261122"), "late\n")
            assert texts(tail) == ["late"]
            append(log, "new\n")
            assert texts(tail) == ["new"]

    def test_two_rotations_between_two_reads(self, log: Path) -> None:
        """A numbered file that came and went between two reads is read in its turn."""
        append(log, "one\n")
        with Tail(log) as tail:
            log.rename(log.with_name("auth.log.1"))
            append(log, "two\n")
            log.with_name("auth.log.1").rename(log.with_name("auth.log.2"))
            log.rename(log.with_name("auth.log.1"))
            append(log, "three\n")
            assert texts(tail) == ["two", "three"]

    def test_line_without_newline_at_the_end_of_a_rotated_file_is_marked(self, log: Path) -> None:
        """A line whose newline never came is handed out at the rotation, marked as cut."""
        with Tail(log) as tail:
            append(log, "whole\nbroken")
            log_before = tail.read()
            log.rename(log.with_name("auth.log.1"))
            append(log, "new\n")
            assert [*log_before, *tail.read()] == [Line("whole"), Line("broken", cut=True), Line("new")]

    def test_truncation_starts_again(self, log: Path) -> None:
        """After copytruncate the file is read from its beginning."""
        append(log, "a long first line\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            os.truncate(log, 0)
            append(log, "b\n")
            assert texts(tail) == ["b"]

    def test_truncation_of_an_unfinished_line(self, log: Path) -> None:
        """What there was of a truncated line is handed out as cut, and never joined to what came after it."""
        with Tail(log) as tail:
            append(log, "half")
            tail.read()
            os.truncate(log, 0)
            append(log, "b\n")
            assert tail.read() == [Line("half", cut=True), Line("b")]

    def test_truncation_is_seen_after_the_file_outgrew_its_old_size(self, log: Path) -> None:
        """A truncated file that has grown beyond the old offset is known by its other beginning."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            os.truncate(log, 0)
            append(log, "two, which is longer\nthree\n")
            assert texts(tail) == ["two, which is longer", "three"]

    def test_replaced_file_is_read_from_its_beginning(self, log: Path) -> None:
        """A file moved over the log is a new file."""
        append(log, "one\n")
        with Tail(log) as tail:
            other = log.with_name("other")
            append(other, "two\n")
            other.replace(log)
            assert texts(tail) == ["two"]


class TestRestart:
    def test_nothing_is_lost_nor_read_twice(self, log: Path) -> None:
        """A guard that comes back with its position, kept as JSON, goes on where it was."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            append(log, "ha")
            tail.read()
            kept = tail.position.to_json()
        append(log, "lf\nthree\n")
        with Tail(log, Position.from_json(kept)) as tail:
            assert texts(tail) == ["half", "three"]

    @pytest.mark.parametrize("rotated", ["auth.log.1", "auth.log-20261122"])
    def test_file_rotated_while_the_guard_was_down(self, log: Path, rotated: str) -> None:
        """The rest of a file that was rotated while the guard was down is read before the new one."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            kept = tail.position
        append(log, "two\n")
        log.rename(log.with_name(rotated))
        append(log, "three\n")
        with Tail(log, kept) as tail:
            assert texts(tail) == ["two", "three"]

    def test_reused_inode_is_not_mistaken(self, log: Path) -> None:
        """Another file with the same inode, however long, is read from its beginning."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            kept = tail.position
        log.write_text("two, in the same inode\nthree\n")
        assert log.stat().st_ino == kept.inode
        with Tail(log, kept) as tail:
            assert texts(tail) == ["two, in the same inode", "three"]

    def test_closing_keeps_the_position(self, log: Path) -> None:
        """The position may be asked for after closing."""
        append(log, "one\n")
        tail = Tail(log)
        before = tail.position
        tail.close()
        assert tail.position == before

    @pytest.mark.parametrize(
        "text",
        ["", "{}", "[]", "3", '{"inode": 1}', '{"inode": 1, "offset": -1, "head_size": 0, "head": ""}'],
    )
    def test_damaged_position_is_refused(self, text: str) -> None:
        """What is not a position is a ValueError, never a wrong place to read from."""
        with pytest.raises(ValueError, match="not a position"):
            Position.from_json(text)


class TestRefusal:
    def test_symbolic_link(self, log: Path) -> None:
        """A symbolic link is refused, and the message says what to do."""
        append(log, "one\n")
        link = log.with_name("link")
        link.symlink_to(log)
        with pytest.raises(SourceError, match="symbolic link: name the file it points to"):
            Tail(link)

    def test_named_pipe_is_refused_without_waiting(self, log: Path) -> None:
        """A named pipe, which nobody writes to, is refused at once."""
        os.mkfifo(log)
        with pytest.raises(SourceError, match="not a regular file"):
            Tail(log)

    def test_folder_and_device(self, log: Path) -> None:
        """Folders and devices are refused."""
        for path in (log.parent, Path(os.devnull)):
            with pytest.raises(SourceError, match="not a regular file"):
                Tail(path)

    def test_socket(self) -> None:
        """A socket is refused."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = Path(folder) / "s"  # tmp_path may be too long a name for a socket
            listener.bind(str(path))
            with pytest.raises(SourceError, match="cannot be opened"):
                Tail(path)

    def test_log_replaced_by_a_link_loses_nothing(self, log: Path) -> None:
        """Lines read before a refusal are returned, and following goes on when the log is a file again."""
        append(log, "one\n")
        with Tail(log) as tail:
            append(log, "two\n")
            log.rename(log.with_name("auth.log.1"))
            log.symlink_to("auth.log.1")
            assert texts(tail) == ["two"]
            with pytest.raises(SourceError, match="symbolic link"):
                tail.read()
            log.unlink()
            append(log, "three\n")
            assert texts(tail) == ["three"]


def pack(path: Path) -> None:
    """Compresses a file as logrotate does."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    shutil.copystat(path, packed)
    path.unlink()


class TestCopiesAndArchives:
    def test_two_dated_rotations_between_two_reads(self, log: Path) -> None:
        """Dated files that came and went between two reads are read in their turn."""
        append(log, "one\n")
        with Tail(log) as tail:
            log.rename(log.with_name("auth.log-20260301"))
            append(log, "two\n")
            log.rename(log.with_name("auth.log-20260302"))
            append(log, "three\n")
            assert texts(tail) == ["two", "three"]

    def test_copytruncate_before_the_last_lines_were_read(self, log: Path) -> None:
        """Lines that were truncated unread are read from the copy, then the log from its beginning."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            append(log, "two\n")
            shutil.copy2(log, log.with_name("auth.log.1"))
            os.truncate(log, 0)
            append(log, "three\n")
            assert texts(tail) == ["two", "three"]
            assert tail.take_lost() == []

    def test_file_compressed_while_the_guard_was_down(self, log: Path) -> None:
        """The rest of a file that was rotated and compressed meanwhile is read from the archive."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            kept = tail.position
        append(log, "two\n")
        log.rename(log.with_name("auth.log.1"))
        pack(log.with_name("auth.log.1"))
        append(log, "three\n")
        with Tail(log, kept) as tail:
            assert texts(tail) == ["two", "three"]

    def test_restart_in_the_middle_of_an_archive(self, log: Path) -> None:
        """A position within a compressed file is found again, under another number too."""
        append(log.with_name("auth.log.1"), "one\ntwo\nthree\n")
        pack(log.with_name("auth.log.1"))
        append(log, "four\n")
        with Tail(log, look_back=0.0) as tail:
            assert [line.text for line in tail.read(2)] == ["one", "two"]
            kept = tail.position
        log.with_name("auth.log.1.gz").rename(log.with_name("auth.log.2.gz"))
        log.rename(log.with_name("auth.log.1"))
        append(log, "five\n")
        with Tail(log, kept) as tail:
            assert texts(tail) == ["three", "four", "five"]

    def test_file_that_is_gone_is_a_gap_that_is_said(self, log: Path) -> None:
        """Where the file that was read last is gone, reading says so and goes on with what came after it."""
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            tail.read()
            kept = tail.position
        other = log.with_name("other")
        append(other, "two\n")
        other.replace(log)
        with Tail(log, kept) as tail:
            assert texts(tail) == ["two"]
            assert tail.take_lost() == [
                f"{log}: the file that was read last is gone; lines written to it after the guard stopped are lost"
            ]

    def test_a_damaged_archive_is_passed_over(self, log: Path) -> None:
        """An archive that cannot be unpacked does not end the reading of the log."""
        append(log.with_name("auth.log.1.gz"), b"\x1f\x8bnothing of the kind")
        append(log, "one\n")
        with Tail(log, look_back=0.0) as tail:
            assert texts(tail) == ["one"]

    @pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 9])
    def test_looking_back_takes_the_newest_lines(self, log: Path, most: int) -> None:
        """At most so many lines are read back, the newest ones, over rotated files and archives."""
        append(log.with_name("auth.log.2"), "one\ntwo\n")
        pack(log.with_name("auth.log.2"))
        append(log.with_name("auth.log.1"), "three\n")
        append(log, "four\nfive\n")
        with Tail(log, look_back=0.0, most=most) as tail:
            assert texts(tail) == ["one", "two", "three", "four", "five"][-most:]

    def test_looking_back_leaves_out_old_files(self, log: Path) -> None:
        """Rotated files that did not change since are not read."""
        append(log.with_name("auth.log.1"), "old\n")
        os.utime(log.with_name("auth.log.1"), (1000, 1000))
        append(log, "new\n")
        with Tail(log, look_back=2000.0) as tail:
            assert texts(tail) == ["new"]
