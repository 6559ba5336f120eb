from pathlib import Path

import pytest

from manager.errors import SetupError
from manager.notifications.channels.apprise import AppriseChannel
from manager.notifications.channels.channel import Channel
from manager.notifications.channels.file import FileChannel
from manager.notifications.channels.opening import KINDS, ChannelOptions, destination, open_channel
from manager.notifications.channels.syslog import SyslogChannel
from manager.notifications.channels.webhook import WebhookChannel
from tests.unit.manager.notifications.messages import IDENTITY, event, message

OPENED: dict[str, tuple[str, type[Channel]]] = {
    "apprise": ("ntfy://ntfy.example/s3cret", AppriseChannel),
    "webhook": ("https://me:s3cret@siem.example/s3cret?t=s3cret", WebhookChannel),
    "syslog": ("tls://siem.example", SyslogChannel),
    "file": ("/var/log/panguard/events.json", FileChannel),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_is_opened(kind: str) -> None:
    """Each type of channel is opened by its name."""
    url, expected = OPENED[kind]
    channel = open_channel(kind, url, IDENTITY, ChannelOptions(key=b"k" * 32))
    assert type(channel) is expected
    channel.close()


@pytest.mark.parametrize(
    ("kind", "url", "shown"),
    [
        ("apprise", "slack://A/B/s3cret", "slack://…"),
        ("apprise", "s3cret", "?://…"),
        ("webhook", "https://me:s3cret@siem.example:8443/s3cret?t=s3cret", "https://siem.example:8443"),
        ("webhook", "https://siem.example?s3cret", "https://siem.example:443"),
        ("webhook", "https://me:s3/cret@siem.example", "https://…"),
        ("webhook", "https://siem.example#s3cret", "https://siem.example:443"),
        ("syslog", "udp://10.0.0.1:514", "udp://10.0.0.1:514"),
        ("file", "/var/log/x.json", "/var/log/x.json"),
    ],
)
def test_destinations_hold_no_secret(kind: str, url: str, shown: str) -> None:
    """Lists show where a channel delivers to, without tokens, users and passwords."""
    assert destination(kind, url) == shown


@pytest.mark.parametrize(
    ("kind", "url"), [("mail", "x"), ("file", "events.json"), ("webhook", "https://siem.example/s3cret")]
)
def test_settings_that_are_refused(kind: str, url: str) -> None:
    """An unknown type, a relative path and a webhook without a key are errors without the URL."""
    with pytest.raises(SetupError) as refused:
        open_channel(kind, url, IDENTITY)
    assert "s3cret" not in str(refused.value)


def test_a_file_by_its_url(tmp_path: Path) -> None:
    """A file may be named by `file://`, with escapes."""
    (tmp_path / "a b").mkdir()
    open_channel("file", f"file://{tmp_path}/a%20b/events.json", IDENTITY).deliver(message(event()))
    assert (tmp_path / "a b" / "events.json").exists()
