"""Opens channels by their settings."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from manager.errors import SetupError
from manager.notifications.channels import syslog, webhook
from manager.notifications.channels.address import ReceiverAddress, scheme_of
from manager.notifications.channels.channel import TIMEOUT, Channel
from manager.notifications.channels.file import FileChannel
from manager.notifications.channels.syslog import SyslogChannel
from manager.notifications.channels.webhook import WebhookChannel
from manager.notifications.rendering.identity import ChannelIdentity

KINDS = ("apprise", "webhook", "syslog", "file")
"""The types of channels."""

_FILE = "file://"


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options of a channel beside its type and URL.

    Attributes:
        timeout: Seconds for one delivery.
        key: The key of a webhook's signatures.
        ca_file: PEM of the authorities that sign the certificate of a webhook, syslog receiver or mail server; None for
            the system's.
        plain_http: Allow a webhook over plain HTTP beyond loopback.
        facility: The facility of syslog messages.
    """

    timeout: float = TIMEOUT
    key: bytes | None = field(default=None, repr=False)
    ca_file: Path | None = None
    plain_http: bool = False
    facility: str = "auth"


_NO_OPTIONS = ChannelOptions()


def open_channel(kind: str, url: str, identity: ChannelIdentity, options: ChannelOptions = _NO_OPTIONS) -> Channel:
    """Return a channel.

    Args:
        kind: One of `KINDS`.
        url: The receiver's address; of a file its absolute path, or `file://` and the path.
        identity: The sender.
        options: The other options.

    Raises:
        SetupError: a setting cannot be used; the message holds no secret.
    """
    timeout = options.timeout
    match kind:
        case "apprise":
            from manager.notifications.channels.apprise import AppriseChannel  # noqa: PLC0415 -- 2 s and 20 MB

            return AppriseChannel(url, identity, timeout, options.ca_file)
        case "webhook":
            if options.key is None:
                raise SetupError("a webhook needs a key for its signatures")
            return WebhookChannel(
                url,
                options.key,
                identity,
                ca_file=options.ca_file,
                plain_http=options.plain_http,
                timeout=timeout,
            )
        case "syslog":
            return SyslogChannel(url, identity, ca_file=options.ca_file, facility=options.facility, timeout=timeout)
        case "file":
            return FileChannel(_path(url), identity, timeout)
    raise SetupError(f"{kind!r} is no type of a channel: use one of {', '.join(KINDS)}")


def _path(url: str) -> Path:
    path = Path(unquote(url.removeprefix(_FILE)) if url.startswith(_FILE) else url)
    if not path.is_absolute():
        raise SetupError("the url of a file channel is an absolute path, such as /var/log/panguard/events.json")
    return path


def destination(kind: str, url: str) -> str:
    """Return where a channel delivers to, without what may be secret: a file's path, else scheme, host and port."""
    if kind == "file":
        return url
    ports = {"webhook": webhook.PORTS, "syslog": syslog.PORTS}.get(kind)
    with suppress(SetupError):
        if ports is not None:
            return ReceiverAddress.parse(url, ports).shown
    return f"{scheme_of(url) or '?'}://…"
