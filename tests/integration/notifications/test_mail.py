from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from manager.domain.notifications.message import Quoted
from manager.errors import SetupError
from manager.notifications.channels.apprise import AppriseChannel
from manager.notifications.channels.channel import ChannelError
from tests.support.mail_server import mail_server
from tests.support.receivers import certificates, closed_port, dripping_receiver, silent_receiver
from tests.unit.manager.notifications.messages import HOSTILE, IDENTITY, message

RECIPIENTS = "?from=panguard@example.org&to=ops@example.org,night@example.org"


def channel(port: int, timeout: float = 20.0) -> AppriseChannel:
    return AppriseChannel(f"mailto://127.0.0.1:{port}{RECIPIENTS}", IDENTITY, timeout)


def test_a_mail_of_plain_text_and_html() -> None:
    """Each recipient gets the message as plain text and as HTML, with a subject, the event's time and a stable id."""
    with mail_server() as mailbox:
        channel(mailbox.port).deliver(message(None))
        channel(mailbox.port).deliver(message(None))
    first, second = mailbox.mails
    assert mailbox.envelopes[0].rcpt_tos == ["ops@example.org", "night@example.org"]
    assert first["Message-ID"] == second["Message-ID"] == "<id-1@store-1.panguard>"
    assert first["References"] == "<in-1@store-1.panguard>"
    assert first["Subject"] == "Login as `alice` after 12 failures"
    assert first["Date"] == "Mon, 21 Sep 2026 14:13:20 +0000"
    assert first["From"] == "Panguard <panguard@example.org>"
    plain, html = first.get_body(("plain",)), first.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "Command: panguard manager blocks add 203.0.113.9 --for 4h" in plain.get_content()
    assert "<code>alice</code>" in html.get_content()


def test_a_hostile_name_is_text() -> None:
    """A user name with markup, links, line breaks and controls makes no header, tag or link."""
    with mail_server() as mailbox:
        name = HOSTILE + "\r\nBcc: victim@example.org\r\n\r\n<script>"
        channel(mailbox.port).deliver(message(None, title=(Quoted(name),), lines=((Quoted(name),),)))
    (mail,) = mailbox.mails
    assert mail["Bcc"] is None
    html = mail.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "http://" not in html.get_content() + str(mail["Subject"])


def test_a_server_that_refuses_html_gets_plain_text() -> None:
    """Where the server refuses the mail's content it is sent again as plain text alone."""
    with mail_server() as mailbox:
        mailbox.refuses_html = True
        channel(mailbox.port).deliver(message(None))
    (mail,) = mailbox.mails
    assert mail.get_content_type() == "text/plain"


@pytest.mark.parametrize(("refusal", "retry"), [("451 later: token s3cret", True), ("554 never: token s3cret", False)])
def test_refusals(refusal: str, retry: bool) -> None:
    """A mail that the server defers is tried again, one that it never takes is not; its words stay out of the error."""
    with mail_server() as mailbox:
        mailbox.refusal = refusal
        with pytest.raises(ChannelError) as failed:
            channel(mailbox.port).deliver(message(None))
    assert failed.value.retry is retry
    assert failed.value.reason == f"the mail server answers {refusal[:3]}"


def test_tls_and_login(tmp_path: Path) -> None:
    """With `mailtos://` the server's certificate is verified before the password is sent."""
    mine = certificates(tmp_path)
    logins: list[Any] = []

    def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any) -> AuthResult:
        logins.append(data)
        return AuthResult(success=data.password == b"pass", handled=False)

    options = {"tls_context": mine.server, "require_starttls": True, "authenticator": authenticate}
    with mail_server(**options) as mailbox:
        url = f"mailtos://me:{{}}@127.0.0.1:{mailbox.port}{RECIPIENTS}&mode=starttls"
        with pytest.raises(ChannelError, match="not trusted"):
            AppriseChannel(url.format("pass"), IDENTITY, 20).deliver(message(None))
        assert logins == []
        AppriseChannel(url.format("pass"), IDENTITY, 20, mine.ca_file).deliver(message(None))
        with pytest.raises(ChannelError, match="refuses the login"):
            AppriseChannel(url.format("wrong"), IDENTITY, 20, mine.ca_file).deliver(message(None))
    assert len(mailbox.mails) == 1


def test_a_recipient_that_is_no_address() -> None:
    """A mistyped recipient beside a right one is an error at the start: Apprise alone would leave it out silently."""
    url = "mailto://127.0.0.1:25?from=panguard@example.org&to=ops@example.org"
    for wrong in (",night@@example.org", ",night", ";night@.org", "&cc=night", "&bcc=night@@example.org"):
        with pytest.raises(SetupError, match="no address") as refused:
            AppriseChannel(url + wrong, IDENTITY)
        assert "night" not in str(refused.value)
    for right in (
        ",night@example.org",
        "&cc=Night%20<night@example.org>",
        "&bcc=night@example.org",
        ",Ops@example.org",
    ):
        AppriseChannel(url + right, IDENTITY)


def test_no_password_in_plain_text() -> None:
    """A password is not sent without TLS beyond this machine."""
    with pytest.raises(SetupError, match="plain text") as refused:
        AppriseChannel(f"mailto://me:s3cret@mail.example.org{RECIPIENTS}", IDENTITY)
    assert "s3cret" not in str(refused.value)


def test_a_server_that_hangs_is_slow_or_gone() -> None:
    """A server that says nothing, never ends its greeting, or is gone costs at most the timeout, and is tried again."""
    with silent_receiver() as silent, dripping_receiver(b"220-wait\r\n") as slow:
        for port in (silent, slow, closed_port()):
            with pytest.raises(ChannelError) as failed:
                channel(port, timeout=0.5).deliver(message(None))
            assert failed.value.retry
