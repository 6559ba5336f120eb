import json
import re
from pathlib import Path
from typing import Any

import pytest

from manager.errors import SetupError
from manager.notifications.channels.channel import ChannelError
from manager.notifications.channels.syslog import LONGEST_DATAGRAM, SyslogChannel
from tests.support.receivers import (
    certificates,
    closed_port,
    dripping_receiver,
    silent_receiver,
    syslog_datagrams,
    syslog_stream,
)
from tests.support.waiting import eventually
from tests.unit.manager.notifications.ecs_fields import errors_of
from tests.unit.manager.notifications.messages import HOSTILE, IDENTITY, event, message

HEADER = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<host>[!-~]{1,255})"
    rb" (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<kind>[!-~]{1,32}) - (?P<text>.*)"
)


def read(line: bytes) -> tuple[dict[str, bytes], Any]:
    """Parse a message by RFC 5424, and its text as an ECS document."""
    header = HEADER.fullmatch(line)
    assert header is not None, line
    document = json.loads(header["text"])
    assert errors_of(document) == []
    return header.groupdict(), document


def check(messages: list[bytes]) -> None:
    header, document = read(messages[0])
    assert header["priority"] == b"34"  # auth, critical
    assert (header["host"], header["app"], header["kind"]) == (b"manager-1", b"panguard", b"suspicious_login")
    assert header["at"] == b"2026-09-21T14:13:20.250Z"
    assert document["source"]["ip"] == "203.0.113.9"
    assert document["event"]["id"] == "id-1"


def test_over_udp() -> None:
    """A message arrives as one datagram in the form of RFC 5424."""
    with syslog_datagrams() as receiver:
        SyslogChannel(f"udp://127.0.0.1:{receiver.port}", IDENTITY).deliver(message(event()))
        eventually(lambda: receiver.messages, 60, "a datagram")
    check(receiver.messages)


def test_a_long_message_over_udp_is_shortened() -> None:
    """A message that no datagram holds goes with fewer members, as a valid document."""
    long = {f"member{number}": "\u20ac" * 1000 for number in range(20)}
    hostile = event(user=HOSTILE * 100, ruleId="\u20ac" * 1000, process="\u20ac" * 1000, **long)
    with syslog_datagrams() as receiver:
        channel = SyslogChannel(f"udp://127.0.0.1:{receiver.port}", IDENTITY)
        channel.deliver(message(event(**long)))
        channel.deliver(message(hostile))
        eventually(lambda: len(receiver.messages) == 2, 60, "two datagrams")
    assert all(len(each) <= LONGEST_DATAGRAM for each in receiver.messages)
    check(receiver.messages)
    assert read(receiver.messages[1])[1]["event"]["id"] == "id-1"


def test_over_tcp() -> None:
    """Messages are framed by their number of octets, whatever they hold."""
    with syslog_stream() as receiver:
        channel = SyslogChannel(f"tcp://127.0.0.1:{receiver.port}", IDENTITY)
        channel.deliver(message(event()))
        channel.deliver(message(event(user="a\n<13>1 forged\u20ac")))
        assert len(receiver.messages) == 2  # delivered means read
    check(receiver.messages)
    assert read(receiver.messages[1])[1]["user"]["name"] == "a\n<13>1 forged\u20ac"


def test_over_tls(tmp_path: Path) -> None:
    """Over TLS a message arrives if the receiver's certificate is verified, and only then."""
    mine = certificates(tmp_path)
    with syslog_stream(mine.server) as receiver:
        SyslogChannel(f"tls://127.0.0.1:{receiver.port}", IDENTITY, ca_file=mine.ca_file).deliver(message(event()))
        check(receiver.messages)
        with pytest.raises(ChannelError, match="not trusted"):
            SyslogChannel(f"tls://127.0.0.1:{receiver.port}", IDENTITY).deliver(message(event()))
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other", ("siem.example",))
    with syslog_stream(other.server) as named_otherwise:
        channel = SyslogChannel(f"tls://127.0.0.1:{named_otherwise.port}", IDENTITY, ca_file=other.ca_file)
        with pytest.raises(ChannelError, match="not trusted"):
            channel.deliver(message(event()))
    assert len(receiver.messages) == 1
    assert named_otherwise.messages == []


def test_a_receiver_that_hangs_is_slow_or_gone(tmp_path: Path) -> None:
    """A receiver that reads nothing, never stops to speak, or is gone costs at most the timeout, and is tried again."""
    ca_file = certificates(tmp_path).ca_file
    with silent_receiver() as silent, dripping_receiver(b"x") as slow:
        for scheme in ("tcp", "tls"):
            for port in (silent, slow, closed_port()):
                with pytest.raises(ChannelError) as failed:
                    SyslogChannel(f"{scheme}://127.0.0.1:{port}", IDENTITY, ca_file=ca_file, timeout=0.5).deliver(
                        message(event())
                    )
                assert failed.value.retry


def test_settings_that_are_refused(tmp_path: Path) -> None:
    """Another scheme, an unknown facility and a missing file of authorities are errors at the start."""
    for wrong in ({"url": "http://h"}, {"facility": "mail"}, {"url": "tls://h", "ca_file": tmp_path / "none"}):
        with pytest.raises(SetupError):
            SyslogChannel(**{"url": "udp://h", "identity": IDENTITY, **wrong})  # type: ignore[arg-type]
