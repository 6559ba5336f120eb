"""Chat, push and mail services through Apprise. Its import takes up to 2 s and 20 MB: only where a channel uses it."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import apprise
from apprise.plugins.base import NotifyBase
from apprise.plugins.email.base import NotifyEmail

from manager.domain.notifications.message import Change, Message
from manager.errors import SetupError
from manager.notifications.channels.channel import TIMEOUT, Channel, ChannelError, Deadline
from manager.notifications.channels.mail import MailSender, check_recipients
from manager.notifications.rendering.dialects import CARD, HTML, MARKDOWN, PLAIN, Dialect
from manager.notifications.rendering.identity import ChannelIdentity
from schemas.threats import Severity

_LOGGER = logging.getLogger("apprise")
_STATUS = re.compile(r"error=(\d{3})\b")
_REFUSED = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Statuses of services that do not take the content."""

_TYPES = {
    Severity.LOW: apprise.NotifyType.INFO,
    Severity.MEDIUM: apprise.NotifyType.WARNING,
    Severity.HIGH: apprise.NotifyType.FAILURE,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}


class _Form(NamedTuple):
    """The form in which a service takes messages.

    Attributes:
        dialect: The dialect of what is handed to Apprise.
        declared: The format that Apprise translates from; None to pass it on as it is.
    """

    dialect: Dialect
    declared: apprise.NotifyFormat | None


_TEXT_FORM = _Form(PLAIN, apprise.NotifyFormat.TEXT)
_FORMS = {
    apprise.NotifyFormat.TEXT: _TEXT_FORM,
    apprise.NotifyFormat.MARKDOWN: _Form(MARKDOWN, apprise.NotifyFormat.MARKDOWN),
    apprise.NotifyFormat.HTML: _Form(HTML, apprise.NotifyFormat.HTML),
}
_FORMS_OF_SERVICES = {
    "discord": _FORMS[apprise.NotifyFormat.MARKDOWN],  # reads text as Markdown, too
    "workflow": _Form(CARD, None),
    "workflows": _Form(CARD, None),
}


class AppriseChannel(Channel):
    """Sends messages to one Apprise URL.

    A message that the service refuses is sent again as plain text. Apprise's own logs, which may hold addresses with
    tokens and answers of services, are not passed on.

    Args:
        url: An Apprise URL.
        identity: The sender.
        timeout: Seconds for one delivery.
        ca_file: PEM of the authorities that sign a mail server's certificate; None for the system's.

    Raises:
        SetupError: Apprise does not take the URL.
    """

    def __init__(
        self, url: str, identity: ChannelIdentity, timeout: float = TIMEOUT, ca_file: Path | None = None
    ) -> None:
        _silence_libraries()
        with _captured() as records:
            service = apprise.Apprise.instantiate(url.strip(), asset=_asset())
        if not isinstance(service, NotifyBase):
            raise SetupError(
                "Apprise does not take the url: see https://appriseit.com/services/ for the form of each service"
            )
        if records.dropped:
            raise SetupError("Apprise drops a part of the url, such as a recipient that is no address: correct it")
        if "overflow" not in url:
            service.overflow_mode = apprise.OverflowMode.SPLIT
        service.request_rate_per_sec = 0.0  # it sleeps seconds between two requests, within the limit of time
        self._service = service
        self._mail = None
        if isinstance(service, NotifyEmail):
            check_recipients(url, service)
        if type(service) is NotifyEmail and service.pgp_mode == "no":
            self._mail = MailSender(service, identity, timeout, ca_file)
        self._deadline = Deadline(timeout)

    def deliver(self, message: Message) -> None:
        """Send a message."""
        mail = self._mail
        if mail is not None:
            self._deadline.run(lambda: mail.send(message), mail.abandon)
            return
        form = _FORMS_OF_SERVICES.get(self._service.schema) or _FORMS[self._service.resolve_format()]
        try:
            self._deadline.run(lambda: self._send(message, form))
        except ChannelError as error:
            if error.retry or form is _TEXT_FORM:
                raise
            self._deadline.run(lambda: self._send(message, _TEXT_FORM))

    def _send(self, message: Message, form: _Form) -> None:
        """Send a message in one form.

        Raises:
            ChannelError: it was not sent; unless `retry` is true, the service refuses this form of it.
        """
        shown = form.dialect.render(message)
        has_title = form is _TEXT_FORM and shown.body != ""
        kind = apprise.NotifyType.SUCCESS if message.change is Change.CLOSED else _TYPES[message.severity]
        with _captured() as records:
            try:
                sent = self._service.notify(
                    body=shown.body if has_title else shown.whole,
                    title=shown.title if has_title else "",
                    notify_type=kind,
                    body_format=form.declared,
                )
            except Exception as error:  # a service's plugin may fail in any way, and its text may hold the URL
                raise ChannelError("the service's plugin failed", retry=True, answered=True) from error
        if sent:
            return
        if records.statuses:
            status = records.statuses[-1]
            raise ChannelError(f"the service answers {status}", retry=status not in _REFUSED, answered=True)
        reason = "the service cannot be reached, or refuses the message"
        raise ChannelError(reason, retry=True, answered=not records.unreached)


def _asset() -> apprise.AppriseAsset:
    """Return Apprise's settings: no redirects, no emoji names, no images of its own, nothing on the disk."""
    return apprise.AppriseAsset(
        app_id="Panguard",
        app_desc="Panguard",
        app_url="",
        http_redirects=False,
        interpret_emojis=False,
        image_url_mask="",
        image_url_logo="",
        default_service_retry=0,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )


class _Records(logging.Handler):
    """Reads the log records of Apprise in one thread: it says these things nowhere else.

    Attributes:
        statuses: The HTTP statuses of services.
        dropped: Whether a part of a URL was dropped.
        unreached: Whether a service could not be reached.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.statuses: list[int] = []
        self.dropped = False
        self.unreached = False
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            text = record.getMessage()
            self.statuses += [int(status) for status in _STATUS.findall(text)]
            self.unreached = self.unreached or "onnection error" in text
            self.dropped = self.dropped or text.startswith(("Dropped", "Dropping", "Ignored invalid"))


@contextmanager
def _captured() -> Iterator[_Records]:
    """Yield what Apprise logs within the block, in this thread."""
    handler = _Records()
    _LOGGER.addHandler(handler)
    try:
        yield handler
    finally:
        _LOGGER.removeHandler(handler)


def _silence_libraries() -> None:
    """Keep Apprise's records, and those of its HTTP library, from every log: they repeat addresses with tokens."""
    _LOGGER.propagate = False
    _LOGGER.setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
