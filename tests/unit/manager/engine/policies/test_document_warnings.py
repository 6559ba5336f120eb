"""Warnings of the policy documents in force: set, taken back, and there again after a restart."""

from manager.domain.policies.document_check import DocumentWarnings
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import RemoveAgent, RollBack, SetPolicy
from tests.support.engine import Bench

CHANNELS = {"alerting": {"channels": ["syslog"]}}


def test_warnings_stand_as_long_as_their_documents(bench: Bench) -> None:
    """They name their scope, and go with the document, a rollback, or the agent."""
    agent = bench.enroll("web-1")
    own = Scope("agent", agent.agent_id)
    bench.ask(SetPolicy(GLOBAL, CHANNELS, "test"))
    bench.ask(SetPolicy(own, {"rules": [{"type": "block_ip", "condition": {"failures": 9}}]}, "test"))
    warnings = bench.fleet.document_warnings
    first, second = warnings.sentences
    assert first.startswith("policy of global: alerting.channels.0: no such channel")
    assert second.startswith(f"policy of agent:{agent.agent_id}: rules.0.condition.failures: ")
    bench.crash()
    assert set(bench.fleet.document_warnings.sentences) == {first, second}
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    assert bench.fleet.document_warnings.sentences == (first,)
    bench.ask(SetPolicy(GLOBAL, None, "test"))
    assert bench.fleet.document_warnings.sentences == ()
    bench.ask(RollBack(2, "test"))
    assert bench.fleet.document_warnings.sentences == (first,)


def test_many_warnings_are_counted() -> None:
    """A fleet of documents does not fill the screen."""
    warnings = DocumentWarnings()
    warnings.set({f"agent:{number}": CHANNELS for number in range(50)})
    assert len(warnings.sentences) == 21
    assert warnings.sentences[-1] == "policies have 30 more warnings"
