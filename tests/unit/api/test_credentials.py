"""Who a bearer is."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from manager.api.credentials import Caller, Credentials
from manager.domain.agent import Agent, Credential, Door, Host

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
    """Whatever characters it has."""
    assert CREDENTIALS.identify(text) is None
