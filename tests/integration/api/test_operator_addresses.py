"""Addresses of the people who use the API: recorded by the HTTP server, for the organizations of the token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.api.middleware.client_address import ClientAddresses
from manager.domain.access import Role
from tests.integration.api.served import LOOPBACK, Served
from tests.support.waiting import eventually


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A manager behind a proxy on its own host."""
    with Served(tmp_path, client_addresses=ClientAddresses(proxies=["127.0.0.1"])) as running:
        yield running


def ask(served: Served, token: str, address: str, path: str = "/api/agents") -> int:
    """Return the status of a request that the proxy forwards for a client."""
    with served.client(token) as client:
        return client.get(path, headers={"X-Forwarded-For": address}).status_code


def recorded(served: Served, organization_id: str) -> list[str]:
    with served.bench() as bench:
        return bench.fleet.operator_addresses.of_organization(organization_id)


def token(served: Served, role: Role, *organizations: str) -> str:
    with served.client() as admin:
        name = f"{role}-{len(organizations)}"
        made = admin.post("/api/access", json={"name": name, "role": role, "organizations": organizations})
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["token"])


def test_who_may_act_is_never_blocked_from_where_it_asks(served: Served) -> None:
    """Admins and responders count, in the organizations of their tokens; programs, readers and agents do not."""
    agent = served.join("srv-01")
    expected = {"default": ["203.0.113.1"], "acme": ["203.0.113.1", "203.0.113.3"]}
    tokens = [token(served, Role.VIEWER), token(served, Role.METRICS), token(served, Role.FEED), agent.told["token"]]
    for number, each in enumerate(tokens):
        ask(served, each, f"198.51.100.{number}")
    ask(served, "no token of ours", "198.51.100.9")
    with agent.client:
        agent.heartbeat()
    limited = token(served, Role.RESPONDER, "acme")
    with served.client() as admin:
        for address in ("203.0.113.1", "127.0.0.1", "::1", "not an address"):
            admin.get("/api/agents", headers={"X-Forwarded-For": address})
    ask(served, limited, "203.0.113.3")
    eventually(lambda: {each: recorded(served, each) for each in expected} == expected, what=f"{expected}")


def test_requests_over_loopback_record_nobody(tmp_path: Path) -> None:
    """Where no proxy is named its header counts for nothing, and the peer's loopback address does not either."""
    with Served(tmp_path, client_addresses=LOOPBACK) as served:
        assert ask(served, token(served, Role.ADMIN), "203.0.113.1") == 200
        with served.join("srv-01").client:  # the engine has carried out everything before it
            pass
        assert recorded(served, "default") == []


def test_a_request_over_the_limit_records_nobody(tmp_path: Path) -> None:
    """A token that asks from one address after the other makes no more commands of the engine than it may ask."""
    with Served(tmp_path, client_addresses=ClientAddresses(proxies=["127.0.0.1"]), rate_limit=1) as served:
        limited = token(served, Role.RESPONDER, "acme")
        answers = [ask(served, limited, f"203.0.113.{number}") for number in range(1, 15)]
        assert answers == [200] * 10 + [429] * 4
        expected = sorted(f"203.0.113.{number}" for number in range(1, 11))
        eventually(lambda: recorded(served, "acme") == expected, what=f"{expected}")
        with served.client() as admin:  # the engine carries out what was submitted before
            admin.post("/api/tokens", json={})
        assert recorded(served, "acme") == expected
