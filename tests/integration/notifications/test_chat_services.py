"""Messages as chat services get them from Apprise, over HTTP to a receiver in their place."""

import json
import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.slack import NotifySlack
from apprise.plugins.telegram import NotifyTelegram
from hypothesis import HealthCheck, given, settings
from markdown_it import MarkdownIt

from manager.domain.notifications.message import Message, Plain, Quoted
from manager.errors import SetupError
from manager.notifications.channels.apprise import AppriseChannel
from manager.notifications.channels.channel import ChannelError
from tests.support.examples import examples
from tests.support.hostile_names import NAMES
from tests.support.receivers import (
    HttpReceiver,
    certificates,
    closed_port,
    dripping_receiver,
    http_receiver,
    silent_receiver,
)
from tests.unit.manager.notifications.messages import HOSTILE, IDENTITY, message

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"
DISCORD = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
TELEGRAM = "tgram://123456789:abcdefg_hijklmnop/12315544"
A_FEW = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        url = f"http://127.0.0.1:{running.port}/"
        monkeypatch.setattr(NotifySlack, "webhook_url", url)
        monkeypatch.setattr(NotifyDiscord, "notify_url", url)
        monkeypatch.setattr(NotifyTelegram, "notify_url", url + "bot")
        running.answer, running.text = lambda _: (200, {}), b"ok"
        yield running


class _Root(logging.Handler):
    """Collects what reaches the root logger's handlers, as a manager's log does."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.name}: {record.getMessage()}\n"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Root]:
    handler, root = _Root(), logging.getLogger()
    monkeypatch.setattr(root, "level", logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


def about(name: str, **changed: Any) -> Message:
    title = (Plain("Login as "), Quoted(name), Plain(" after 12 failures"))
    return message(None, title=title, lines=((Plain("on "), Quoted(name), Quoted(name)),), **changed)


def sent(receiver: HttpReceiver, url: str, name: str) -> Any:
    receiver.requests.clear()
    AppriseChannel(url, IDENTITY, 20).deliver(about(name))
    (request,) = receiver.requests
    return json.loads(request.body)


@A_FEW
@given(name=NAMES)
def test_slack(receiver: HttpReceiver, name: str) -> None:
    """Slack gets no control sequence of its own: no mention of people or channels, no link; the name is code."""
    payload = sent(receiver, SLACK, name)
    texts = [payload["attachments"][0]["text"], payload["attachments"][0]["title"]]
    assert not any("<" in text or ">" in text or re.search(r"@\w|https?:/", text) for text in texts)
    assert texts[0].count("`") == 8  # three names and the command
    assert not payload.get("link_names")


@A_FEW
@given(name=NAMES)
def test_discord(receiver: HttpReceiver, name: str) -> None:
    """Discord gets no mention, and Markdown in which the name is code."""
    payload = sent(receiver, DISCORD, name)
    assert not {"allow_mentions", "allowed_mentions", "embeds"} & payload.keys()
    assert not re.search(r"@\w|<[@#:t]|https?:/", payload["content"])
    tokens = MarkdownIt("commonmark").parse(payload["content"])
    children = [child.type for token in tokens for child in token.children or []]
    assert set(children) <= {"text", "text_special", "code_inline", "hardbreak", "softbreak"}
    assert children.count("code_inline") == 4


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag + "".join(f" {name}" for name, _ in attrs))


@A_FEW
@given(name=NAMES)
def test_telegram(receiver: HttpReceiver, name: str) -> None:
    """Telegram gets HTML with our own tags: code for each name and the command."""
    payload = sent(receiver, TELEGRAM, name)
    assert payload["parse_mode"] == "HTML"
    parser = _Tags()
    parser.feed(payload["text"])
    parser.close()
    assert parser.tags == ["code"] * 4
    assert not re.search(r"@\w|https?:/", payload["text"])


def test_teams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teams gets a card without markup or mentions; cards have no code."""
    mine = certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(mine.ca_file))
    with http_receiver(mine.server) as receiver:
        receiver.answer = lambda _: (202, {})
        payload = sent(receiver, f"workflows://127.0.0.1:{receiver.port}/643a8ea7/sig", HOSTILE + "<at>Everyone</at>")
    content = payload["attachments"][0]["content"]
    assert "entities" not in content["msteams"]
    text = "".join(block["text"] for block in content["body"])
    assert "Everyone" in text
    assert not set(text) & set("[]()<>*~`\\|#_")


@pytest.mark.parametrize("url", [SLACK, DISCORD, TELEGRAM])
def test_a_refused_message_goes_again_as_plain_text(receiver: HttpReceiver, url: str) -> None:
    """A service that refuses the markup gets plain text; one that refuses that, too, is not tried again."""
    answers = iter((400, 200))
    receiver.answer = lambda _: (next(answers), {})
    channel = AppriseChannel(url, IDENTITY, 20)
    channel.deliver(about("alice"))
    rich, plain = (json.loads(request.body) for request in receiver.requests)
    assert rich != plain
    assert "alice" in json.dumps(plain)
    receiver.answer = lambda _: (400, {})
    with pytest.raises(ChannelError, match="400") as failed:
        channel.deliver(about("alice"))
    assert not failed.value.retry


@A_FEW
@given(name=NAMES)
def test_plain_text_after_a_refusal(receiver: HttpReceiver, name: str) -> None:
    """The plain text that a chat service gets in the end has no mention, link or tag either."""
    for url in (SLACK, DISCORD, TELEGRAM):
        answers = iter((400, 200))
        receiver.requests.clear()
        receiver.answer = lambda _, answers=answers: (next(answers), {})  # type: ignore[misc]
        AppriseChannel(url, IDENTITY, 20).deliver(about(name))
        payload = json.loads(receiver.requests[1].body)
        text = (
            payload.get("content")
            or payload.get("text")
            or "\n".join(payload["attachments"][0][part] for part in ("title", "text"))
        )
        text = text.removeprefix("<b>").replace("</b>\r\n", "\n")  # a title of Apprise's own
        assert not re.search(r"@\w|<|https?:/|(?<!\w)[#$/]\w", text)


def test_nothing_of_the_address_or_the_answer_is_logged(receiver: HttpReceiver, log: _Root) -> None:
    """Tokens in an Apprise URL stand in no log and no error, whatever the service answers."""
    receiver.answer = lambda _: (403, {})
    with pytest.raises(ChannelError) as failed:
        AppriseChannel(SLACK, IDENTITY, 20).deliver(about("alice"))
    assert failed.value.retry
    assert failed.value.answered
    assert failed.value.reason == "the service answers 403"
    logging.getLogger("other").debug("seen")
    assert "other: seen" in log.text
    assert "apprise" not in log.text
    assert not re.search("T1JJ3T3L2|TIiajkdn", log.text + repr(failed.value.__cause__))


def test_several_targets_within_the_limit_of_time() -> None:
    """A channel with a dozen targets reaches all of them, with no sleep of seconds between two of them."""
    with http_receiver() as receiver:
        receiver.answer, receiver.text = lambda _: (200, {}), b"{}"
        topics = "/".join(f"topic{number}" for number in range(12))
        AppriseChannel(f"ntfy://127.0.0.1:{receiver.port}/{topics}", IDENTITY, 60).deliver(about("alice"))
    assert len(receiver.requests) == 12


def test_redirects_are_not_followed(receiver: HttpReceiver) -> None:
    """A service cannot send a message on to another place."""
    with http_receiver() as elsewhere:
        receiver.answer = lambda _: (307, {"Location": f"http://127.0.0.1:{elsewhere.port}/"})
        with pytest.raises(ChannelError):
            AppriseChannel(SLACK, IDENTITY, 20).deliver(about("alice"))
    assert elsewhere.requests == []


def test_a_service_that_hangs_is_slow_or_gone() -> None:
    """A service that says nothing, never ends its answer, or is gone costs at most the timeout, and is tried again."""
    with silent_receiver() as silent, dripping_receiver(b"HTTP/1.1 100 Continue\r\n\r\n") as slow:
        for port in (silent, slow, closed_port()):
            with pytest.raises(ChannelError) as failed:
                AppriseChannel(f"json://127.0.0.1:{port}/", IDENTITY, 0.5).deliver(about("alice"))
            assert failed.value.retry
            assert not failed.value.answered


@pytest.mark.parametrize(
    "url", ["", "nonsense", "slack://s3cret", "mailto://", "unknown://s3cret@host", "mailto://h.example"]
)
def test_urls_that_apprise_does_not_take(url: str, log: _Root) -> None:
    """A wrong URL is an error at the start that does not repeat it."""
    with pytest.raises(SetupError) as refused:
        AppriseChannel(url, IDENTITY)
    assert "s3cret" not in str(refused.value) + log.text
