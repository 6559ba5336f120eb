"""Bearer tokens: identification of callers, in constant time."""

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.api import authentication
from manager.api.authentication import Caller, Credentials
from manager.domain.agents.agent import Agent, Credential, Door, Host
from manager.domain.agents.tokens import Token
from schemas.keys import EnrollmentToken, ManagerKeyring

AGENT_TOKEN = "an-agents-token"
AGENT = Agent(
    number=1,
    agent_id="ag-0123456789abcdef",
    organization_id="default",
    host=Host("srv-01", "Debian 12", "x64", "1.0"),
    credential=Credential(b"", b"", b"", b""),
    token_id=None,
    door=Door.HTTP,
    registered_at=0.0,
)
CREDENTIALS = Credentials("admin", {hashlib.sha256(AGENT_TOKEN.encode()).digest(): AGENT}.get)


def test_the_admin_and_an_agent_are_told_apart() -> None:
    """The admin's token opens all, an agent's names the agent."""
    assert CREDENTIALS.identify("admin") == Caller()
    assert CREDENTIALS.identify(AGENT_TOKEN) == Caller(AGENT.agent_id)
    assert Caller().is_admin
    assert not Caller(AGENT.agent_id).is_admin


@given(st.text().filter(lambda text: text not in {"admin", AGENT_TOKEN}))
def test_any_other_text_is_nobodys(text: str) -> None:
    """For any characters."""
    assert CREDENTIALS.identify(text) is None


class Steps:
    """Records lookups and comparisons by size only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[tuple[str, Any]] = []
        monkeypatch.setattr(authentication.hmac, "compare_digest", self._compare)

    def bearer(self, digest: bytes) -> Agent | None:
        self.taken.append(("look up", len(digest)))
        return AGENT if digest == hashlib.sha256(AGENT_TOKEN.encode()).digest() else None

    def _compare(self, left: bytes, right: bytes) -> bool:
        self.taken.append(("compare", (len(left), len(right))))
        return hmac_compare(left, right)

    def take(self) -> list[tuple[str, Any]]:
        taken, self.taken = self.taken, []
        return taken


hmac_compare = hmac.compare_digest


def test_every_token_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up by a SHA-256, and one comparison of two of equal length that ends no sooner for a wrong one.

    So neither a good beginning of the admin's token, nor an agent's token, nor none of them takes another path.
    """
    steps = Steps(monkeypatch)
    known = Credentials("the-admins-own-token", steps.bearer)
    for token in (
        "the-admins-own-token",
        "the-admins-own-tokem",
        "the",
        "x" * 10_000,
        AGENT_TOKEN,
        AGENT_TOKEN[:-1],
        "",
    ):
        known.identify(token)
        assert steps.take() == [("look up", 32), ("compare", (32, 32))], token


def test_every_enrollment_token_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a manager made a token of this id is not told by whether a comparison is made."""
    steps = Steps(monkeypatch)
    good = EnrollmentToken.parse(str(EnrollmentToken.new(ManagerKeyring(bytes(32)).sign_public)))
    kept = Token(token_id=good.token_id, proof_key=good.proof_key, created_at=0.0)
    known = Credentials("admin", steps.bearer, {good.token_id: kept}.get)
    wrong = replace(good, secret=bytes(16))
    unknown = replace(good, token_id="tok-0000000000000000")
    for token, admitted in ((good, True), (wrong, False), (unknown, False)):
        assert (known.enrollment(str(token)) is not None) is admitted
        assert steps.take() == [("compare", (32, 32))]
