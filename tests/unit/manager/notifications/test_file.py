import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from manager.notifications.channels.channel import ChannelError
from manager.notifications.channels.file import FileChannel
from tests.unit.manager.notifications.messages import IDENTITY, event, message


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_for_each_message(tmp_path: Path) -> None:
    """Each message is one line of JSON in a file that only its owner can read."""
    channel = FileChannel(tmp_path / "events.json", IDENTITY)
    old = os.umask(0)
    try:
        channel.deliver(message(event()))
    finally:
        os.umask(old)
    channel.deliver(message(event("agent_online"), id="id-2"))
    assert [line["event"]["id"] for line in lines(tmp_path / "events.json")] == ["id-1", "id-2"]
    assert stat.S_IMODE((tmp_path / "events.json").stat().st_mode) == 0o600


def test_rotation_by_renaming(tmp_path: Path) -> None:
    """After a rename the next message is in a new file, and the old file is not written any more."""
    path = tmp_path / "events.json"
    channel = FileChannel(path, IDENTITY)
    channel.deliver(message(event()))
    path.rename(tmp_path / "events.json.1")
    channel.deliver(message(event(), id="id-2"))
    assert [line["event"]["id"] for line in lines(path)] == ["id-2"]
    assert len(lines(tmp_path / "events.json.1")) == 1


def test_a_cut_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    """After a line that a full disk cut short, the next message begins a line of its own."""
    path = tmp_path / "events.json"
    path.write_text('{"cut')
    FileChannel(path, IDENTITY).deliver(message(event()))
    assert json.loads(path.read_text().splitlines()[1])["event"]["id"] == "id-1"


def test_the_mode_of_an_existing_file_is_kept(tmp_path: Path) -> None:
    """A file that an admin made readable for a collector's group stays so."""
    path = tmp_path / "events.json"
    path.touch(0o640)
    path.chmod(0o640)
    FileChannel(path, IDENTITY).deliver(message(event()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_missing_folder_is_tried_again(tmp_path: Path) -> None:
    """A folder that does not exist, or a full disk, is an error to try again, which names no path."""
    with pytest.raises(ChannelError) as failed:
        FileChannel(tmp_path / "gone" / "events.json", IDENTITY).deliver(message(event()))
    assert failed.value.retry
    assert str(tmp_path) not in failed.value.reason


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_only_a_file_is_written(tmp_path: Path, kind: str) -> None:
    """A named pipe that nobody reads does not hang the channel, and a link is not followed."""
    path = tmp_path / "events.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (tmp_path / "other").touch()
        path.symlink_to(tmp_path / "other")
    with pytest.raises(ChannelError):
        FileChannel(path, IDENTITY, timeout=5).deliver(message(event()))
    if kind == "link":
        assert (tmp_path / "other").read_text() == ""
