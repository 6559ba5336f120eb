import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from manager.errors import SetupError
from manager.notifications.channels.channel import ChannelError
from manager.notifications.channels.webhook import WebhookChannel, read_key
from tests.support.receivers import certificates, closed_port, dripping_receiver, http_receiver, silent_receiver
from tests.support.waiting import eventually
from tests.unit.manager.notifications.messages import AT, HOSTILE, IDENTITY, event, message

KEY = b"k" * 32
NOW = AT + 5


def channel(port: int, **changed: Any) -> WebhookChannel:
    url = changed.pop("url", f"http://127.0.0.1:{port}/hook?token=s3cret")
    return WebhookChannel(url, KEY, IDENTITY, **{"timeout": 5.0, "clock": lambda: NOW, **changed})


def test_an_event_arrives_as_a_cloud_event() -> None:
    """The receiver gets a structured CloudEvent with the event's name, id and time, and all it says."""
    with http_receiver() as receiver:
        channel(receiver.port).deliver(message(event(user=HOSTILE)))
    (request,) = receiver.requests
    assert request.path == "/hook?token=s3cret"
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    got = json.loads(request.body)
    assert got["specversion"] == "1.0"
    assert (got["id"], got["source"], got["type"]) == ("id-1", "urn:panguard:store-1", "panguard.suspicious_login")
    assert got["time"] == "2026-09-21T14:13:20.250Z"
    assert got["data"]["event"]["data"]["sourceIp"] == "203.0.113.9"
    assert all(value is not None and name.isalnum() and name.islower() for name, value in got.items())


def test_the_same_message_has_the_same_id() -> None:
    """A message that is delivered again has the id of the first delivery, and a newer time of sending."""
    with http_receiver() as receiver:
        times = iter((NOW, NOW + 60))
        again = channel(receiver.port, clock=lambda: next(times))
        again.deliver(message(event()))
        again.deliver(message(event()))
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "id-1"
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 60
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """A receiver cannot send the message, or a password in the URL, to another place."""
    with http_receiver() as receiver, http_receiver() as elsewhere:
        receiver.answer = lambda _: (status, {"Location": f"http://127.0.0.1:{elsewhere.port}/"})
        with pytest.raises(ChannelError, match="redirects"):
            channel(0, url=f"http://me:pass@127.0.0.1:{receiver.port}/").deliver(message(event()))
    assert elsewhere.requests == []
    assert receiver.requests[0].headers["authorization"] == f"Basic {base64.b64encode(b'me:pass').decode()}"


@pytest.mark.parametrize(
    ("status", "retry"), [(400, False), (413, False), (401, True), (404, True), (429, True), (503, True)]
)
def test_refusals(status: int, retry: bool) -> None:
    """A message that can never be taken is not tried again; a receiver that is out of order is."""
    with http_receiver() as receiver:
        receiver.answer = lambda _: (status, {})
        with pytest.raises(ChannelError, match=str(status)) as failed:
            channel(receiver.port).deliver(message(event()))
    assert failed.value.retry is retry
    assert failed.value.answered


def test_a_certificate_is_verified(tmp_path: Path) -> None:
    """A receiver whose certificate is not signed by the authority in the file, or for another name, gets nothing."""
    mine = certificates(tmp_path)
    with http_receiver(mine.server) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/"
        with pytest.raises(ChannelError, match="not trusted"):
            channel(0, url=url).deliver(message(event()))
        channel(0, url=url, ca_file=mine.ca_file).deliver(message(event()))
    assert len(receiver.requests) == 1
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other", ("siem.example",))
    with http_receiver(other.server) as receiver, pytest.raises(ChannelError, match="not trusted"):
        channel(0, url=f"https://127.0.0.1:{receiver.port}/", ca_file=other.ca_file).deliver(message(event()))
    assert receiver.requests == []


def test_a_receiver_that_is_silent_slow_or_gone() -> None:
    """A receiver that says nothing, never ends its answer, or is gone costs at most the timeout, and is tried again."""
    errors = []
    with (
        silent_receiver() as silent,
        dripping_receiver(b"H") as slow,
        dripping_receiver(b"HTTP/1.1 100 Continue\r\n\r\n") as endless,
    ):
        for port in (silent, slow, endless, closed_port()):
            with pytest.raises(ChannelError) as failed:
                channel(port, timeout=0.5).deliver(message(event()))
            errors.append(failed.value)
    assert all(error.retry and not error.answered for error in errors)
    assert errors[-1].reason == "the receiver refuses connections"


def test_a_channel_recovers_from_a_hanging_receiver() -> None:
    """After a delivery that was given up the channel delivers the next message."""
    with dripping_receiver(b"HTTP/1.1 100 Continue\r\n\r\n") as endless, http_receiver() as receiver:
        mine = channel(endless, timeout=0.5)
        with pytest.raises(ChannelError):
            mine.deliver(message(event()))
        mine._address = mine._address._replace(port=receiver.port)
        _delivered_in_the_end(mine)
    assert receiver.requests


def _delivered_in_the_end(mine: WebhookChannel) -> None:
    def delivered() -> bool:
        try:
            mine.deliver(message(event()))
        except ChannelError:
            return False
        return True

    eventually(delivered, 60, "a delivery")


def test_no_proxy_and_no_log_gets_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The address goes neither to a proxy of the environment, nor into logs, nor into errors."""
    caplog.set_level(logging.DEBUG)
    with http_receiver() as proxy, http_receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        channel(receiver.port).deliver(message(event()))
        receiver.answer = lambda _: (500, {})
        with pytest.raises(ChannelError) as failed:
            channel(receiver.port).deliver(message(event()))
    assert proxy.requests == []
    assert len(receiver.requests) == 2
    assert "s3cret" not in caplog.text + str(failed.value) + repr(failed.value.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        "http://siem.example/",
        "ftp://siem.example/",
        "siem.example",
        "https://",
        "https://h:99999/",
        "https://h/a b",
        "https://a..siem.example/",
        "https://h/\r\nX: y",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """Plain HTTP beyond this machine, other schemes and broken URLs are refused by a sentence without the URL."""
    with pytest.raises(SetupError) as refused:
        WebhookChannel(url, KEY, IDENTITY)
    assert "siem.example" not in str(refused.value)


def test_plain_http_on_request() -> None:
    """`plain_http` allows a receiver on a private network without TLS."""
    assert WebhookChannel("http://siem.example/", KEY, IDENTITY, plain_http=True)


def test_keys() -> None:
    """A secret is its file's text, or base64 after `whsec_`; errors about short and broken ones do not repeat them."""
    assert read_key("x" * 16 + "\n") == b"x" * 16
    assert read_key("whsec_" + base64.b64encode(KEY).decode()) == KEY
    for bad in ("tooshort", "whsec_%%%", "whsec_YQ=="):
        with pytest.raises(SetupError) as refused:
            read_key(bad)
        assert bad not in str(refused.value)
