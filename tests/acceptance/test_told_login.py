"""A login after failures, from the report of an agent to a mailbox."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.mail_server import mail_server
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

SOURCE = "203.0.113.7"
pytestmark = pytest.mark.usefixtures("each_deployment")


def _report(manager: ManagerProcess, agent: dict[str, Any], threat: dict[str, Any], outcome: str) -> None:
    response = {"action": "block_ip", "target": SOURCE, "outcome": outcome}
    body = {"threat": threat, "response": response, "timestamp": datetime.now(UTC).isoformat()}
    headers = {"Authorization": f"Bearer {agent['token']}"}
    with manager.client() as client:
        answer = client.post(f"/api/agents/{agent['agentId']}/events", json=body, headers=headers)
    assert answer.status_code == 201, answer.text


def test_a_login_after_failures_is_in_the_mailbox_in_quiet_hours_and_a_failed_block_is_not(tmp_path: Path) -> None:
    """The mail says who got in where and the command that acts; a masked user, for it may be a password."""
    now = datetime.now(UTC)
    quiet = {
        "start": f"{now - timedelta(hours=2):%H:%M}",
        "end": f"{now + timedelta(hours=2):%H:%M}",
        "timeZone": "UTC",
    }
    with mail_server() as mailbox:
        manager = ManagerProcess(tmp_path / "home")
        manager.configure(
            f"""
            [notifications.night]
            type = "apprise"
            url = "mailto://127.0.0.1:{mailbox.port}?from=panguard@example.org&to=ops@example.org"
            """
        )
        with manager:
            alerting = {"channels": ["night"], "minimumSeverity": "medium", "quietHours": quiet}
            manager.request("PUT", "/api/policies/global", {"alerting": alerting})
            host = {"hostname": "web-1", "os": "Debian 12", "arch": "x64", "version": "1.0"}
            with manager.client() as client:
                agent = client.post("/api/agents/register", json=host).json()
            scan = {"type": "brute_force", "confidence": 90, "severity": "high", "evidence": {"sourceIp": SOURCE}}
            _report(manager, agent, scan, "ineffective: the address still fails logins")
            _report(manager, agent, scan, "taken")
            evidence = {"sourceIp": SOURCE, "user": "hunter2!"}
            login = {"type": "login_after_failures", "confidence": 90, "severity": "critical", "count": 12}
            _report(manager, agent, {**login, "evidence": evidence}, "taken")
            eventually(lambda: bool(mailbox.mails), what="the mail on the login")
            names = [row["name"] for row in manager.get("/api/notifications")]
            assert names == ["night"]
    (mail,) = mailbox.mails
    assert str(mail["Subject"]).startswith("Got in: 1 suspicious event")
    part = mail.get_body(("plain",))
    assert part is not None
    text = part.get_content()
    assert "web-1" in text
    assert SOURCE in text
    assert "after 12 failures; the address was blocked" in text
    assert f"panguard manager blocks add {SOURCE} --for 4h" in text
    assert "hunter2" not in text
