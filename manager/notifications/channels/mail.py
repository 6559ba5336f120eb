"""Mail over the server of an Apprise URL, with a Message-ID that is the same at each delivery."""

import hashlib
import re
import smtplib
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qs

from apprise.plugins.email.base import NotifyEmail
from apprise.plugins.email.common import SecureMailMode

from manager.domain.notifications.message import Message
from manager.errors import SetupError
from manager.notifications.channels.channel import ChannelError
from manager.notifications.channels.connection_errors import disconnect, reason_of
from manager.notifications.rendering.dialects import HTML, PLAIN
from manager.notifications.rendering.identity import ChannelIdentity
from manager.tls.certificates import CertificateError
from manager.tls.client_context import client_context
from schemas.loopback import is_loopback

_ATOM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_-]{1,64}){0,3}")
_PERMANENT = 500
_LIST = re.compile(r"[,;]")


class MailSender:
    """Sends messages by SMTP: plain text and HTML side by side.

    Apprise itself gives each mail another Message-ID, so that a repeated mail could not be told from a new one.

    Args:
        service: The server, login and recipients, as Apprise has read them.
        identity: The sender.
        timeout: Seconds for each step of the connection.
        ca_file: PEM of the authorities that sign the server's certificate; None for the system's.

    Raises:
        SetupError: the password would go to the server in plain text, or there is no recipient, or no such file.
    """

    def __init__(self, service: NotifyEmail, identity: ChannelIdentity, timeout: float, ca_file: Path | None) -> None:
        plain = service.secure_mode == SecureMailMode.INSECURE and not is_loopback(service.smtp_host)
        if plain and service.password:
            raise SetupError("the mail server would get the password in plain text: use mailtos://")
        if not service.targets:
            raise SetupError("the mail has no recipient: name one by `?to=` in the url")
        try:
            self._context = client_context(ca_file)
        except CertificateError as error:
            raise SetupError(str(error)) from error
        if not service.verify_certificate:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        self._service = service
        self._identity = identity
        self._timeout = timeout
        self._sender = str(service.from_addr[1])
        self._open: smtplib.SMTP | None = None

    def abandon(self) -> None:
        """Wake up a thread that waits for the server."""
        if self._open is not None:
            disconnect(self._open.sock)

    def send(self, message: Message) -> None:
        """Send a message; if the server refuses its content, again as plain text alone.

        Raises:
            ChannelError: it was not taken for at least one recipient.
        """
        try:
            try:
                self._send(self._mail(message, with_html=True))
            except smtplib.SMTPDataError as error:
                if error.smtp_code < _PERMANENT:
                    raise
                self._send(self._mail(message, with_html=False))
        except smtplib.SMTPException as error:
            raise _failure(error) from error
        except OSError as error:
            raise ChannelError(reason_of(error), retry=True) from error

    def _send(self, mail: EmailMessage) -> None:
        service = self._service
        recipients = [address for _, address in service.targets] + sorted(service.cc) + sorted(service.bcc)
        with self._connection() as smtp:
            refused = smtp.send_message(mail, self._sender, recipients)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def _connection(self) -> smtplib.SMTP:
        service = self._service
        host, port = service.smtp_host, int(service.port or smtplib.SMTP_PORT)
        if service.secure_mode == SecureMailMode.SSL:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=self._timeout, context=self._context)
        else:
            smtp = smtplib.SMTP(host, port, timeout=self._timeout)
        self._open = smtp
        try:
            if service.secure_mode == SecureMailMode.STARTTLS:
                smtp.starttls(context=self._context)
            if service.user and service.password:
                smtp.login(service.user, service.password)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _mail(self, message: Message, *, with_html: bool) -> EmailMessage:
        service, shown = self._service, PLAIN.render(message)
        mail = EmailMessage(policy=SMTP)
        mail["Message-ID"] = self._message_id(message.id)
        mail["References"] = self._message_id(message.group)
        mail["Date"] = format_datetime(datetime.fromtimestamp(message.at, UTC))
        mail["Subject"] = shown.title
        mail["From"] = _address(service.from_addr[0] or "Panguard", self._sender)
        mail["To"] = [_address(name, address) for name, address in service.targets]
        if service.cc:
            mail["Cc"] = [_address(service.names.get(address), address) for address in sorted(service.cc)]
        if service.reply_to:
            mail["Reply-To"] = [_address(service.names.get(address), address) for address in sorted(service.reply_to)]
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Panguard-Severity"] = message.severity.value
        mail["X-Panguard-Group"] = self._message_id(message.group)
        mail.set_content(shown.whole)
        if with_html:
            mail.add_alternative(HTML.render(message).whole, subtype="html")
        return mail

    def _message_id(self, name: str) -> str:
        """Return an id made of a message's id or group, which is the same in each mail."""
        atom = name if _ATOM.fullmatch(name) else hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
        domain = re.sub(r"[^A-Za-z0-9-]", "-", self._identity.manager_id)
        return f"<{atom}@{domain}.panguard>"


def check_recipients(url: str, service: NotifyEmail) -> None:
    """Check that Apprise has taken all recipients of a URL: it silently leaves those out that are no addresses.

    Raises:
        SetupError: one was left out.
    """
    taken = {address.lower() for _, address in service.targets} | {each.lower() for each in service.cc | service.bcc}
    query = parse_qs(url.partition("?")[2])
    given = [each.lower() for name in ("to", "cc", "bcc") for text in query.get(name, []) for each in _LIST.split(text)]
    if any(each.strip() and not any(address in each for address in taken) for each in given):
        raise SetupError("one of the mail's recipients in the url is no address: correct it")


def _address(name: object, address: str) -> Address:
    return Address(name if isinstance(name, str) else "", addr_spec=address)


def _failure(error: smtplib.SMTPException) -> ChannelError:
    """Return the error for operators; the server's own words may repeat addresses and text from outside."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return ChannelError("the mail server refuses the login", retry=True)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        return ChannelError(f"the mail server refuses recipients ({', '.join(map(str, codes))})", retry=True)
    if isinstance(error, smtplib.SMTPResponseException):
        for_good = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= _PERMANENT
        return ChannelError(f"the mail server answers {error.smtp_code}", retry=not for_good, answered=True)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return ChannelError("the mail server does not support TLS or a login, as the url asks for", retry=True)
    return ChannelError("the mail server closed the connection", retry=True)
