"""The requests of docs/http.md for an agent without MQTT, sent in their order."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.api.served import LOOPBACK, Served

PAGE = Path(__file__).parents[3] / "docs" / "http.md"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _requests() -> list[tuple[str, str, bytes | None]]:
    """Return method, path and body of each curl command in the section on agents without MQTT."""
    section = PAGE.read_text().partition("## An agent without MQTT")[2].partition("\n## ")[0]
    shell = "\n".join(re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    found = []
    for command in re.split(r"^curl ", shell, flags=re.MULTILINE)[1:]:
        words = shlex.split(command)
        url = next(word for word in words if word.startswith("https://"))
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        body = words[words.index("-d") + 1].encode() if "-d" in words else None
        found.append((method, url.removeprefix("https://manager:8443"), body))
    return found


def test_an_agent_lives_by_the_requests_of_the_page(served: Served, admin: httpx2.Client) -> None:
    """It registers, is alive, reports, polls and leaves; no value is dropped, and what is stored is what was meant."""
    register, *others = _requests()
    assert [(method, path.rpartition("/")[2]) for method, path, _ in others] == [
        ("POST", "heartbeat"), ("POST", "events"), ("GET", "$AGENT_ID?version=0"), ("DELETE", "$AGENT_ID"),
    ]  # fmt: skip
    with served.client(token=None) as agent:
        headers = {"Content-Type": "application/json"}
        answer = agent.request(register[0], register[1], content=register[2], headers=headers)
        assert answer.status_code == 201, answer.text
        agent_id = answer.json()["agentId"]
        agent.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        bodies = []
        for method, path, body in others:
            answer = agent.request(method, path.replace("$AGENT_ID", agent_id), content=body, headers=headers)
            assert answer.is_success, (path, answer.text)
            bodies.append(answer.json())
    assert not bodies[0].get("warnings")
    assert bodies[0]["data"]["cpu"] == json.loads(others[0][2] or b"")["cpu"]
    assert bodies[1]["data"]["accepted"] == 1
    (threat,) = admin.get("/api/threats").json()["data"]
    assert (threat["id"], threat["threat"]["confidence"], threat["threat"]["evidence"]["sourceIp"]) == (
        "t-1", 90, "203.0.113.9",
    )  # fmt: skip
