"""The console's session: the cookie, its CSRF token, its ends, and what a page of another origin can do with it."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from manager.domain.console_sessions import SESSION_IDLE, SESSION_LIFETIME, SESSIONS_OF_TOKEN
from schemas.fleet import FleetEvent
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.support.waiting import eventually

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(served: Served) -> Iterator[httpx2.Client]:
    """A client without a token that keeps cookies, as a page of this origin sends requests."""
    with httpx2.Client(base_url=served.url, headers=SAME, trust_env=False, verify=False, timeout=60) as client:
        yield client


def _token(admin: httpx2.Client, role: str, name: str = "alice", **members: Any) -> str:
    made = admin.post("/api/access", json={"name": name, "role": role, **members})
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["token"])


def _sign_in(browser: httpx2.Client, token: str = ADMIN_TOKEN) -> dict[str, Any]:
    answer = browser.post("/api/session", json={"token": token})
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


def _wait(served: Served, seconds: float) -> None:
    with served.bench() as bench:
        bench.pass_time(seconds, step=60)


def test_a_sign_in_sets_a_cookie_that_scripts_cannot_read(browser: httpx2.Client) -> None:
    """HttpOnly, SameSite=Strict, 256 bits; it opens the API from then on, and the answer holds no token."""
    answer = browser.post("/api/session", json={"token": ADMIN_TOKEN})
    cookie, *flags = answer.headers["set-cookie"].split("; ")
    assert flags == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert len(cookie.removeprefix("panguard_session=")) == 43
    assert ADMIN_TOKEN not in answer.text
    assert cookie.partition("=")[2] not in answer.text
    assert browser.get("/api/agents").status_code == 200
    told = browser.get("/api/session").json()["data"]
    assert (told["name"], told["role"], told["organizations"]) == ("admin", "admin", None)


def test_the_store_has_the_digest_of_a_cookie_alone(served: Served, browser: httpx2.Client) -> None:
    """Whoever reads the store can open no session with what is in it."""
    _sign_in(browser)
    secret = browser.cookies["panguard_session"]
    with served.bench() as bench:
        rows = bench.rows("SELECT * FROM console_session")
    assert len(rows) == 1
    assert secret not in str(rows)
    assert ADMIN_TOKEN not in str(rows)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{url}"},
    ],
)
def test_the_cookie_opens_nothing_for_another_origin(
    served: Served, browser: httpx2.Client, headers: dict[str, str]
) -> None:
    """Without the browser's word that a page of this origin asks, a request has no token: not even its stream opens."""
    _sign_in(browser)
    given = {name: value.format(url=served.url) for name, value in headers.items()}
    with httpx2.Client(
        base_url=served.url, cookies=dict(browser.cookies), headers=given, trust_env=False, verify=False, timeout=60
    ) as page:
        assert page.get("/api/agents").status_code == 401
        assert page.get("/api/session").status_code == 401
        with page.stream("GET", "/api/events/stream") as answer:
            assert answer.status_code == 401


def test_a_matching_origin_is_as_good_as_the_browsers_word(served: Served, browser: httpx2.Client) -> None:
    """For browsers and networks in which Sec-Fetch-Site is not sent: plain HTTP beyond loopback."""
    _sign_in(browser)
    with httpx2.Client(
        base_url=served.url, cookies=dict(browser.cookies), headers={"Origin": served.url}, trust_env=False
    ) as page:
        assert page.get("/api/agents").status_code == 200


def test_a_change_needs_the_csrf_token(browser: httpx2.Client) -> None:
    """Without it, or with another session's, the answer is 403 and nothing changes."""
    csrf = _sign_in(browser)["csrfToken"]
    body = {"value": "203.0.113.9"}
    for headers in ({}, {"X-Panguard-CSRF": ""}, {"X-Panguard-CSRF": csrf[:-1]}, {"X-Panguard-CSRF": "0" * len(csrf)}):
        refused = browser.post("/api/blocks", json=body, headers=headers)
        assert refused.status_code == 403
        assert "X-Panguard-CSRF" in refused.json()["error"]
    assert browser.get("/api/blocks").json()["data"] == []
    assert browser.post("/api/blocks", json=body, headers={"X-Panguard-CSRF": csrf}).status_code == 201


def test_a_sign_in_from_another_origin_is_refused(browser: httpx2.Client) -> None:
    """Else a page could sign its visitor in as somebody else."""
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none", "Origin": "https://evil.example"}):
        refused = browser.post("/api/session", json={"token": ADMIN_TOKEN}, headers=headers)
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers


def test_five_wrong_tokens_a_minute_are_taken_and_no_more(
    served: Served, admin: httpx2.Client, browser: httpx2.Client
) -> None:
    """The right token too then waits; the fleet's events tell of the address once, and right ones do not count."""
    viewer = _token(admin, "viewer")
    told: list[FleetEvent] = []
    with served.bench() as bench:
        bench.engine.listeners.append(lambda row: told.append(row.event))
    for _ in range(6):
        _sign_in(browser, viewer)
    for number in range(5):
        assert browser.post("/api/session", json={"token": f"guess-{number}"}).status_code == 401
    refused = browser.post("/api/session", json={"token": viewer})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert admin.get("/api/agents").status_code == 200
    eventually(lambda: any(each.event == "sign_in_refused" for each in told), what="the address is told")
    assert [(each.event, each.data["address"]) for each in told if each.event == "sign_in_refused"] == [
        ("sign_in_refused", "127.0.0.1")
    ]
    assert [each.data["name"] for each in told if each.event == "signed_in"] == ["alice"] * 6


def test_wrong_tokens_whose_bodies_come_together_are_counted_one_by_one(served: Served) -> None:
    """Forty requests that wait with half a body each, and then send the rest: five are judged, the others wait."""
    body = b'{"token": "guess"}'
    head = (
        b"POST /api/session HTTP/1.1\r\nHost: manager\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    waiting = [socket.create_connection(("127.0.0.1", served.server.port), 60) for _ in range(40)]
    for each in waiting:
        each.sendall(head + body[:5])
    with served.client(None) as anybody:  # the server has taken what was sent before
        assert anybody.get("/health/live").status_code == 200
    for each in waiting:
        each.sendall(body[5:])
    statuses = []
    for each in waiting:
        with each, each.makefile("rb") as answer:
            statuses.append(int(answer.readline().split()[1]))
    assert sorted(statuses) == [401] * 5 + [429] * 35


@pytest.mark.parametrize("role", ["feed", "metrics"])
def test_roles_without_a_view_cannot_sign_in(admin: httpx2.Client, browser: httpx2.Client, role: str) -> None:
    """The answer says which role is needed; an agent's token is as wrong as an unknown one."""
    refused = browser.post("/api/session", json={"token": _token(admin, role)})
    assert refused.status_code == 403
    assert "viewer" in refused.json()["error"]


def test_an_agents_token_is_no_sign_in(served: Served, browser: httpx2.Client) -> None:
    """Agents have no console."""
    agent = served.join()
    token = agent.client.headers["Authorization"].removeprefix("Bearer ")
    assert browser.post("/api/session", json={"token": token}).status_code == 401


@pytest.mark.parametrize("role", ["viewer", "responder"])
def test_a_session_has_the_role_and_the_organizations_of_its_token(
    served: Served, admin: httpx2.Client, browser: httpx2.Client, role: str
) -> None:
    """What the token may not do, the cookie may not do."""
    served.enroll("here", organization_id="acme")
    served.enroll("there", organization_id="other")
    told = _sign_in(browser, _token(admin, role, organizations=["acme"]))
    assert [each["hostname"] for each in browser.get("/api/agents").json()["data"]] == ["here"]
    headers = {"X-Panguard-CSRF": told["csrfToken"]}
    refused = browser.post("/api/access", json={"name": "mallory", "role": "admin"}, headers=headers)
    assert refused.status_code == 403
    block = browser.post("/api/blocks", json={"value": "203.0.113.9", "organization": "acme"}, headers=headers)
    assert block.status_code == (201 if role == "responder" else 403)


@pytest.mark.parametrize("end", ["revoke", "rotate"])
def test_a_session_ends_with_its_token(admin: httpx2.Client, browser: httpx2.Client, end: str) -> None:
    """At once, its open stream too: a token that was taken away opens nothing by a cookie."""
    _sign_in(browser, _token(admin, "viewer"))
    assert browser.get("/api/agents").status_code == 200
    with browser.stream("GET", "/api/events/stream", timeout=60) as stream:
        assert stream.status_code == 200
        if end == "revoke":
            admin.delete("/api/access/alice")
        else:
            admin.post("/api/access/alice/rotate", json={})
        assert browser.get("/api/agents").status_code == 401


def test_a_session_ends_when_it_is_idle(served: Served, browser: httpx2.Client) -> None:
    """30 minutes after the last request; what a page asks by itself does not count."""
    _sign_in(browser)
    for _ in range(3):
        _wait(served, SESSION_IDLE - 1)
        assert browser.get("/api/agents").status_code == 200
    _wait(served, SESSION_IDLE / 2)
    background = {"X-Panguard-Background": "1"}
    assert browser.get("/api/agents", headers=background).status_code == 200
    assert browser.get("/api/session").status_code == 200
    with browser.stream("GET", "/api/events/stream") as stream:
        assert stream.status_code == 200
    _wait(served, SESSION_IDLE / 2)
    assert browser.get("/api/agents", headers=background).status_code == 401
    assert browser.get("/api/agents").status_code == 401


def test_a_session_ends_after_its_lifetime(served: Served, browser: httpx2.Client) -> None:
    """Twelve hours, however busy."""
    _sign_in(browser)
    for _ in range(round(SESSION_LIFETIME / 1200) - 1):
        _wait(served, 1200)
        assert browser.get("/api/agents").status_code == 200
    _wait(served, 1200)
    assert browser.get("/api/agents").status_code == 401

    def gone() -> bool:
        with served.bench() as bench:
            bench.pass_time(1)
            return bench.rows("SELECT * FROM console_session") == []

    eventually(gone, what="no row of an ended session")


def test_a_sign_out_ends_the_session_for_every_copy_of_the_cookie(served: Served, browser: httpx2.Client) -> None:
    """The cookie goes, and whoever kept it has nothing."""
    csrf = _sign_in(browser)["csrfToken"]
    kept = dict(browser.cookies)
    assert browser.delete("/api/session").status_code == 403
    gone = browser.delete("/api/session", headers={"X-Panguard-CSRF": csrf})
    assert gone.status_code == 200
    assert "Max-Age=0" in gone.headers["set-cookie"]
    with httpx2.Client(
        base_url=served.url, cookies=kept, headers=SAME, trust_env=False, verify=False, timeout=60
    ) as page:
        assert page.get("/api/agents").status_code == 401


def test_a_bearer_token_goes_before_the_cookie(served: Served, admin: httpx2.Client, browser: httpx2.Client) -> None:
    """A wrong one is refused, a right one needs no CSRF token."""
    _sign_in(browser)
    assert browser.get("/api/agents", headers={"Authorization": "Bearer wrong"}).status_code == 401
    viewer = {"Authorization": f"Bearer {_token(admin, 'viewer')}"}
    assert browser.post("/api/blocks", json={"value": "203.0.113.9"}, headers=viewer).status_code == 403
    with served.client() as bearer:
        assert bearer.post("/api/blocks", json={"value": "203.0.113.9"}).status_code == 201


def test_two_cookies_of_the_name_count_as_none(served: Served, browser: httpx2.Client) -> None:
    """A neighbouring host may set a second one for the whole domain."""
    _sign_in(browser)
    value = browser.cookies["panguard_session"]
    headers = {**SAME, "Cookie": f"panguard_session=other; panguard_session={value}"}
    with httpx2.Client(base_url=served.url, headers=headers, trust_env=False, verify=False, timeout=60) as page:
        assert page.get("/api/agents").status_code == 401


def test_sessions_survive_a_restart_and_are_audited_by_name(served: Served, admin: httpx2.Client) -> None:
    """The store has them; the audit log says who signed in, from where."""
    token = _token(admin, "viewer")
    with httpx2.Client(base_url=served.url, headers=SAME, trust_env=False, verify=False, timeout=60) as browser:
        _sign_in(browser, token)
    with served.bench() as bench:
        bench.crash()
        assert len(bench.fleet.sessions) == 1
        assert bench.rows("SELECT actor, target, address FROM audit_entry WHERE action = 'session.open'") == [
            ("alice", "alice", "127.0.0.1")
        ]


def test_a_token_has_a_bounded_number_of_sessions(served: Served, admin: httpx2.Client) -> None:
    """Another one ends the one that was idle longest, in the store too."""
    token = _token(admin, "viewer")
    kept = []
    for _ in range(SESSIONS_OF_TOKEN + 1):
        _wait(served, 1)
        with httpx2.Client(base_url=served.url, headers=SAME, trust_env=False, verify=False, timeout=60) as browser:
            _sign_in(browser, token)
            kept.append(dict(browser.cookies))
    with served.bench() as bench:
        assert len(bench.rows("SELECT * FROM console_session")) == SESSIONS_OF_TOKEN
    for cookies, status in ((kept[0], 401), (kept[1], 200), (kept[-1], 200)):
        with httpx2.Client(
            base_url=served.url, cookies=cookies, headers=SAME, trust_env=False, verify=False, timeout=60
        ) as page:
            assert page.get("/api/agents").status_code == status
