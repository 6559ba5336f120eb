"""How a guard registers over HTTP: what it shows, and what it makes of the answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.connection.http_registration import HttpRegistration, HttpRegistrations
from agent.connection.identity import Enrolled, IdentityFile
from agent.connection.registration import Accepted, CredentialRejected, Outcome, Refused, Unanswered
from agent.host import HostFacts
from agent.link.link import Opened, RegistrationAnswered
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.topics import REGISTRATION
from tests.unit.agent.fake_link import FakeLink

AGENT = "ag-00000000000000aa"
TOKEN = EnrollmentToken.new(ManagerKeyring(bytes(32)).sign_public)
FACTS = HostFacts("srv-01", "Debian 12", "x64", "1.2.3", addresses=("192.0.2.7",))


class Guard:
    def __init__(self, directory: Path, token: EnrollmentToken | None = TOKEN, *, own: str = "") -> None:
        self.identity = IdentityFile(directory, over_http=True)
        if own:
            self.identity.enroll(Enrolled(AGENT, "default", token=own), 0)
        self._begin = HttpRegistrations(identity=self.identity, token=token, facts=lambda: FACTS, organization="acme")

    def register(self, status: int = 500, **answer: Any) -> tuple[str, Outcome | None]:
        """Register once; return the bearer that was shown, and what the answer came to."""
        registration: HttpRegistration = self._begin()
        outcome = registration.handle(FakeLink(), RegistrationAnswered(status, json.dumps(answer).encode()), 0)
        return registration.account.password, outcome


def test_the_request_has_the_pages_five_fields(tmp_path: Path) -> None:
    """It is sent once, when the link is open."""
    guard, link = Guard(tmp_path), FakeLink()
    guard._begin().handle(link, Opened(), 0)
    (body,) = link.take(REGISTRATION)
    assert json.loads(body) == {
        "hostname": "srv-01",
        "os": "Debian 12",
        "arch": "x64",
        "version": "1.2.3",
        "organizationId": "acme",
        "ip": "192.0.2.7",
    }


@pytest.mark.parametrize(("token", "shown"), [(TOKEN, str(TOKEN)), (None, "")], ids=["a token", "none"])
def test_a_new_guard_shows_the_operators_token_or_none(
    tmp_path: Path, token: EnrollmentToken | None, shown: str
) -> None:
    """Without one it relies on a manager that trusts its network."""
    assert Guard(tmp_path, token).register()[0] == shown


def test_the_answer_is_read_at_its_top_level(tmp_path: Path) -> None:
    """`agentId` and `token` make the guard an agent; the organization is the record's."""
    _, outcome = Guard(tmp_path).register(201, agentId=AGENT, token="t0k", data={"organizationId": "acme"})
    assert outcome == Accepted(Enrolled(AGENT, "acme", token="t0k"), 0)
    _, outcome = Guard(tmp_path).register(200, agentId=AGENT, token="t0k")
    assert outcome == Accepted(Enrolled(AGENT, "default", token="t0k"), 0)


@pytest.mark.parametrize(
    "answer",
    [{}, {"agentId": AGENT}, {"agentId": "../admin", "token": "t"}, {"agentId": AGENT, "token": "t\r\nX-Evil: 1"}],
)
def test_an_answer_that_makes_nobody_of_the_guard_is_none(tmp_path: Path, answer: dict[str, str]) -> None:
    """Neither a path nor a header is ever made of what is no id and no token."""
    _, outcome = Guard(tmp_path).register(201, **answer)
    assert isinstance(outcome, Unanswered)


def test_a_known_guard_shows_its_own_token(tmp_path: Path) -> None:
    """So it takes its own place again, whatever the rule for strangers is; also after a restart."""
    Guard(tmp_path, own="mine")
    assert Guard(tmp_path).register()[0] == "mine"


@pytest.mark.parametrize("status", [401, 403, 409])
def test_an_own_token_that_is_refused_is_not_shown_again(tmp_path: Path, status: int) -> None:
    """A removed guard comes back with the operator's token, at once; a newer own token is trusted again."""
    guard = Guard(tmp_path, own="mine")
    assert guard.register(status, error="no") == ("mine", CredentialRejected("no"))
    assert guard.register(401, error="no") == (str(TOKEN), Refused("unauthorized", "no"))
    guard.identity.enroll(Enrolled(AGENT, "default", token="newer"), 0)
    assert guard.register()[0] == "newer"


@pytest.mark.parametrize(
    ("status", "error"), [(400, "malformed"), (401, "unauthorized"), (403, "forbidden"), (409, "conflict")]
)
def test_refusals_have_the_managers_reason(tmp_path: Path, status: int, error: str) -> None:
    """The manager's sentence reaches the operator, made safe to print."""
    _, outcome = Guard(tmp_path).register(status, error="ask for\x1b[2J a new one")
    assert outcome == Refused(error, "ask for [2J a new one")


def test_a_guard_that_needs_a_token_is_told_so(tmp_path: Path) -> None:
    """`Unauthorized` alone would help nobody."""
    _, outcome = Guard(tmp_path, None).register(401, error="Unauthorized")
    assert isinstance(outcome, Refused)
    assert "PANGUARD_ENROLL_TOKEN" in outcome.reason


def test_what_is_no_refusal_is_tried_again(tmp_path: Path) -> None:
    """An address where nobody registers guards turns no guard away for good."""
    _, outcome = Guard(tmp_path).register(404, error="Not found")
    assert outcome == Unanswered("the registration was answered 404: Not found")
