"""A mail server (aiosmtpd) on loopback."""

import asyncio
import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """Keeps the mails that a server takes.

    Attributes:
        port: The server's port.
        envelopes: What was taken.
        refusal: The answer to each mail; None to take them.
        refuses_html: Refuse mails with HTML.
    """

    def __init__(self) -> None:
        self.port = 0
        self.envelopes: list[Envelope] = []
        self.refusal: str | None = None
        self.refuses_html = False

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's
        """Take or refuse a mail."""
        if self.refusal is not None:
            return self.refusal
        if self.refuses_html and b"text/html" in (envelope.original_content or b""):
            return "554 no HTML here"
        self.envelopes.append(envelope)
        return "250 OK"

    @property
    def mails(self) -> list[EmailMessage]:
        """The mails, parsed."""
        contents = [each.original_content or b"" for each in self.envelopes]
        return [cast("EmailMessage", email.message_from_bytes(each, policy=email.policy.default)) for each in contents]


@contextmanager
def mail_server(port: int = 0, **options: Any) -> Iterator[Mailbox]:
    """Run a mail server; options are those of `aiosmtpd.smtp.SMTP`."""
    mailbox = Mailbox()
    loop = asyncio.new_event_loop()

    def protocol() -> SMTP:
        return SMTP(mailbox, loop=loop, hostname="mail.example.org", **options)

    server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", port))
    mailbox.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield mailbox
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        # waits for no time: the cancelled tasks end in the loop's next turn
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
