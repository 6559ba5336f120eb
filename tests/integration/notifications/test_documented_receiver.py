"""The receiver of webhooks in docs/notifications.md, as it stands there, behind a real channel."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manager.data_directory import DataDirectory
from manager.errors import SetupError
from manager.notifications.channels.channel import ChannelError
from manager.notifications.channels.webhook import WebhookChannel, read_key
from tests.support.receivers import HttpReceiver, Request, http_receiver
from tests.unit.manager.notifications.messages import AT, IDENTITY, event, message

PAGE = Path(__file__).parents[3] / "docs" / "notifications.md"
NAME = "webhook-soar.key"


class Documented:
    """The page's function with a clock of the test, and the messages it has acted upon.

    Attributes:
        now: The receiver's time, in seconds since 1970.
        acted: The ids of the messages.
    """

    def __init__(self) -> None:
        self.now = AT
        self.acted: list[str] = []
        (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 -- the page's own code
        self._receive: Callable[..., int] = names["receive"]

    def take(self, request: Request) -> int:
        """Return the status for a request."""
        return self._receive(request.headers, request.body, self._act, lambda: self.now)

    def _act(self, body: bytes) -> None:
        self.acted.append(json.loads(body)["id"])


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Documented:
    """The receiver, with a key that the manager's data directory has made."""
    with DataDirectory(tmp_path) as directory:
        directory.webhook_secret("soar")
    monkeypatch.chdir(tmp_path)
    return Documented()


def send(receiver: HttpReceiver, at: float, message_id: str = "id-1", key: bytes | None = None) -> None:
    url = f"http://127.0.0.1:{receiver.port}/"
    own = read_key(Path(NAME).read_text())
    channel = WebhookChannel(url, key or own, IDENTITY, timeout=20, clock=lambda: at)
    channel.deliver(message(event(), id=message_id))


def test_a_message_is_taken_once(documented: Documented) -> None:
    """A message is confirmed; delivered again, with a new time, it is confirmed and not acted upon."""
    with http_receiver() as receiver:
        receiver.answer = lambda request: (documented.take(request), {})
        send(receiver, AT)
        send(receiver, AT + 60)
        send(receiver, AT, "id-2")
    assert documented.acted == ["id-1", "id-2"]


def test_a_replay_is_refused(documented: Documented) -> None:
    """A request that somebody has recorded and sends again is refused, at once and at any later time."""
    with http_receiver() as receiver:
        receiver.answer = lambda request: (documented.take(request), {})
        send(receiver, AT)
    (recorded,) = receiver.requests
    for later, status in ((0, 409), (200, 409), (299, 409), (301, 401), (601, 401), (86_400, 401)):
        documented.now = AT + later
        assert documented.take(recorded) == status
    assert documented.acted == ["id-1"]


def test_forgeries_are_refused(documented: Documented) -> None:
    """A signature by another key, a changed body, id or time, and a request from the past or future are refused."""
    with http_receiver() as receiver:
        receiver.answer = lambda request: (documented.take(request), {})
        with pytest.raises(ChannelError, match="401"):
            send(receiver, AT, key=b"another" * 5)
        for at in (AT - 301, AT + 302):
            with pytest.raises(ChannelError, match="401"):
                send(receiver, at)
        receiver.answer = lambda _: (204, {})
        send(receiver, AT)
    good = receiver.requests[-1]
    forged = [Request(good.path, good.headers, good.body.replace(b"critical", b"low"))]
    changes = {"webhook-id": "id-9", "webhook-timestamp": str(int(AT) + 9), "webhook-signature": "v1,"}
    forged += [Request(good.path, {**good.headers, name: value}, good.body) for name, value in changes.items()]
    assert [documented.take(request) for request in forged] == [401] * 4
    assert documented.acted == []
    assert documented.take(good) == 204


def test_the_manager_makes_a_key_once(tmp_path: Path) -> None:
    """Each webhook without a secret has a random key of its own, in a file for the manager alone, that is kept."""
    with DataDirectory(tmp_path) as directory:
        path, text = directory.webhook_secret("soar")
        other = directory.webhook_secret("other")
    with DataDirectory(tmp_path) as directory:
        assert directory.webhook_secret("soar") == (path, text)
        with pytest.raises(SetupError):
            directory.webhook_secret("../soar")
    assert path == tmp_path / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(text.removeprefix("whsec_"))) == 32
    assert other[1] != text
