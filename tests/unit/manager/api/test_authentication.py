"""Bearer tokens: identification of callers, in constant time."""

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.api import authentication
from manager.api.authentication import ADMIN, Caller, Credentials
from manager.domain.access import AccessToken, AccessTokens, Role
from manager.domain.agents.agent import Agent, Credential, Door
from manager.domain.agents.host import Host
from manager.domain.agents.tokens import Token
from schemas.keys import EnrollmentToken, ManagerKeyring

AGENT_TOKEN = "an-agents-token"
AGENT = Agent(
    number=1,
    agent_id="ag-0123456789abcdef",
    organization_id="default",
    host=Host.of("srv-01", "Debian 12", "x64", "1.0"),
    credential=Credential(b""),
    token_id=None,
    door=Door.HTTP,
    registered_at=0.0,
)
CREDENTIALS = Credentials("admin", {hashlib.sha256(AGENT_TOKEN.encode()).digest(): AGENT}.get)


def test_the_admin_and_an_agent_are_told_apart() -> None:
    """The admin token opens all, an agent's names the agent."""
    admin, agent = CREDENTIALS.identify("admin"), CREDENTIALS.identify(AGENT_TOKEN)
    assert admin == ADMIN
    assert ADMIN.is_admin
    assert agent == Caller.of_agent(AGENT.agent_id)
    assert not Caller.of_agent(AGENT.agent_id).is_admin


@given(st.text().filter(lambda text: text not in {"admin", AGENT_TOKEN}))
def test_any_other_text_is_nobodys(text: str) -> None:
    """For any characters."""
    assert CREDENTIALS.identify(text) is None


ACCESS_TEXT = "pga_a-viewers-token"


def _token(name: str, text: str, **members: Any) -> AccessToken:
    return AccessToken(name, hashlib.sha256(text.encode()).digest(), Role.VIEWER, ("acme",), 0.0, 0.0, **members)


def _access(*tokens: AccessToken) -> AccessTokens:
    access = AccessTokens()
    access.load(tokens or [_token("alice", ACCESS_TEXT)])
    return access


def test_an_access_token_names_its_holder_role_and_organizations() -> None:
    """As the audit log and the routes need them; its use is noted, its digest is not shown."""
    access = _access()
    caller = Credentials("admin", {}.get, access=access, clock=lambda: 50.0).identify(ACCESS_TEXT)
    assert caller is not None
    assert (caller.name, caller.role, caller.organizations) == ("alice", Role.VIEWER, {"acme"})
    assert (caller.sees("acme"), caller.sees("other"), caller.is_admin) == (True, False, False)
    assert [(token.name, token.last_used_at) for token in access.used()] == [("alice", 50.0)]
    assert access.used() == []
    assert "digest" not in repr(caller)


@pytest.mark.parametrize("members", [{"expires_at": 50.0}, {"revoked_at": 1.0}])
def test_an_expired_or_revoked_access_token_is_nobodys(members: dict[str, Any]) -> None:
    """From the second of its expiry on; and a caller that it identified before is not current any more."""
    known = Credentials("admin", {}.get, access=_access(_token("alice", ACCESS_TEXT, **members)), clock=lambda: 50.0)
    assert known.identify(ACCESS_TEXT) is None
    assert not known.is_current(Caller("alice", None, Role.VIEWER, None, hashlib.sha256(ACCESS_TEXT.encode()).digest()))
    assert known.is_current(ADMIN)


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
    """One look-up by a SHA-256, and two comparisons of equal length that end no sooner for a wrong token.

    So neither a good beginning of the admin's token, nor an agent's token, nor none of them takes another path.
    """
    steps = Steps(monkeypatch)
    known = Credentials("the-admins-own-token", steps.bearer, access=_access(), clock=lambda: 50.0)
    for token in (
        "the-admins-own-token",
        "the-admins-own-tokem",
        "the",
        "x" * 10_000,
        AGENT_TOKEN,
        AGENT_TOKEN[:-1],
        ACCESS_TEXT,
        ACCESS_TEXT[:-1],
        "",
    ):
        known.identify(token)
        assert steps.take() == [("look up", 32), ("compare", (32, 32)), ("compare", (32, 32))], token


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
