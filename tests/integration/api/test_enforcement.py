"""Acceptance and enforcement apart: what a mixed fleet says of one block, in records, tables and metrics."""

import re
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from manager.engine.commands.requests import ReadPolicy
from manager.runtime.metrics import EngineCollector, Histograms
from schemas import topics
from schemas.model import utc
from schemas.policy import PolicyApplied
from schemas.presence import Enforced, Mode, PolicyState, SourceReport, Unenforced
from tests.integration.api.served import HttpAgent, Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

SILENT = SourceReport(name="journal", state="silent", reason="sshd wrote and nothing was read")


def beat(bench: Bench, agent: SimulatedAgent, enforced: dict[str, Any] | None = None, **members: Any) -> None:
    """Let an agent say that it has accepted everything, and what of it its host enforces."""
    policy = bench.ask(ReadPolicy(agent.agent_id))
    sequence = bench.fleet.blocklists.sequences.get("default", 0)
    if enforced is not None:
        names = {"policy_version": policy.version, "blocklist_sequence": sequence}
        members["enforced"] = Enforced(**{**names, **enforced})
    payload = agent.heartbeat(
        bench.wall, policy_version=policy.version, policy_digest=policy.digest, policy_state=PolicyState.APPLIED,
        blocklist_sequence=sequence, **members,
    )  # fmt: skip
    bench.receive(topics.HEARTBEAT, agent.agent_id, payload)


def exposed(bench: Bench) -> str:
    """Return the engine's metrics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(bench.engine, Histograms(registry)))
    return generate_latest(registry).decode()


def incident(admin: httpx2.Client) -> dict[str, Any]:
    """Return the attacker's incident."""
    found = admin.get("/api/incidents?kind=source_ip").json()["data"]
    return next(dict(each) for each in found if each["value"] == ATTACKER)


def test_a_mixed_fleet_counts_only_what_kernels_have(served: Served, admin: httpx2.Client, terminal: Terminal) -> None:
    """Of five that accepted a block one enforces it: not the old guard, the container, the simulation, the refusal."""
    with served.bench() as bench:
        agents = trusted(bench, "real", "old", "container", "simulated", "refusing")
        attack(bench, *agents[:3])
        bench.pass_time(2)
        real, old, container, simulated, refusing = agents
        beat(bench, real, {"set": 1}, enforcement="nftables")
        beat(bench, old)
        beat(bench, container, {"impossible": 1, "reasons": [Unenforced(value=ATTACKER, reason="own network")]},
             enforcement="impossible")  # fmt: skip
        beat(bench, simulated, {}, enforcement="simulated")
        beat(bench, refusing, {"refused": 1, "reasons": [Unenforced(value=ATTACKER, reason="this is its gateway")]},
             enforcement="nftables")  # fmt: skip
        bench.pass_time(10)
        metrics = exposed(bench)
    found = incident(admin)
    assert (found["targetCount"], found["acceptedCount"], found["enforcedCount"]) == (5, 5, 1)
    assert {each["hostname"]: each["reason"] for each in found["notEnforced"]} == {
        "old": "it does not say what its host enforces: an older guard, or another agent",
        "container": "own network",
        "simulated": "it only simulates enforcement",
        "refusing": "this is its gateway",
    }
    assert found["timeToAcceptance"]["100"] == pytest.approx(2, abs=0.5)
    assert found["timeToImmunity"] == {"50": None, "95": None, "100": None}
    shown = admin.get("/api/blocks?kind=ip").json()["data"]
    wide = next(each for each in shown if each["scope"] == "organization")
    assert (wide["targetCount"], wide["acceptedCount"], wide["enforcedCount"]) == (5, 5, 1)
    assert found["response"] == "applied"
    assert "recorded" not in terminal.ok("incidents", "list")
    assert "this is its gateway" in terminal.ok("now")
    assert "this is its gateway" in terminal.ok("agents", "show", "refusing")
    assert 'panguard_agents_by_enforcement{enforcement="unknown"} 1.0' in metrics
    assert 'panguard_measures{outcome="refused"} 1.0' in metrics


def test_immunity_is_reached_by_the_kernels_word(served: Served, admin: httpx2.Client) -> None:
    """Acceptance comes with the policy, immunity once every target's host names its version without an exception."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents)
        bench.pass_time(1)
        for agent in agents:
            beat(bench, agent, {"policy_version": 0}, enforcement="nftables")
    assert incident(admin)["timeToAcceptance"]["100"] == pytest.approx(1, abs=0.5)
    assert incident(admin)["timeToImmunity"]["50"] is None
    with served.bench() as bench:
        bench.pass_time(1)
        policy = bench.ask(ReadPolicy(agents[0].agent_id))
        word = PolicyApplied(
            version=policy.version, digest=policy.digest, state=PolicyState.APPLIED, sent_at=utc(bench.wall),
            enforced=Enforced(policy_version=policy.version, set=1),
        )  # fmt: skip
        bench.receive(topics.POLICY_APPLIED, agents[0].agent_id, agents[0].coded(topics.POLICY_APPLIED, word.body()))
        bench.pass_time(1)
        beat(bench, agents[1], {"set": 1}, enforcement="nftables")
        bench.pass_time(10)
    found = incident(admin)
    assert found["timeToImmunity"]["50"] == pytest.approx(2, abs=0.5)
    assert found["timeToImmunity"]["100"] == pytest.approx(3, abs=0.5)
    assert found["enforcedCount"] == 2


def test_more_exceptions_than_reasons_make_nothing_certain(
    served: Served, admin: httpx2.Client, terminal: Terminal
) -> None:
    """An agent that lists fewer reasons than it has counts as accepted only, and the incident is `recorded`."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents)
        for agent in agents:
            beat(bench, agent, {"set": 9, "failed": 1}, enforcement="nftables")
        bench.pass_time(10)
    found = incident(admin)
    assert (found["acceptedCount"], found["enforcedCount"], found["timeToImmunity"]["50"]) == (2, 0, None)
    assert {each["reason"] for each in found["notEnforced"]} == {
        "more of its measures do not hold than it gives reasons for"
    }
    assert found["response"] == "applied"
    assert "recorded" in terminal.ok("incidents", "list")
    shown = terminal.ok("now")
    assert "Blocks that guards say do not hold: 2" in shown
    assert "… and 2 without a reason" in shown


@pytest.mark.parametrize(
    ("enforced", "members", "reason"),
    [
        (
            {"policy_version": None, "blocklist_sequence": None},
            {"enforcement": "nftables", "mode": Mode.LEARNING},
            "its mode is learning: it only reports",
        ),
        ({"policy_version": 0, "blocklist_sequence": 0}, {"enforcement": "nftables"}, "its fence has not taken it yet"),
        (
            {
                "policy_version": 0,
                "blocklist_sequence": 0,
                "reasons": [Unenforced(value="blocklist sequence", reason="the fence is stopped by `panic`")],
            },
            {"enforcement": "nftables"},
            "the fence is stopped by `panic`",
        ),
        ({}, {"enforcement": "impossible"}, "nothing can be blocked on its host"),
    ],
)
def test_none_of_a_blocks_targets_is_without_a_reason(  # noqa: PLR0917 -- three fixtures and three parameters
    served: Served,
    admin: httpx2.Client,
    terminal: Terminal,
    enforced: dict[str, Any],
    members: dict[str, Any],
    reason: str,
) -> None:
    """An agent that names no reason for the block gets the one that its mode, its fence or its version implies."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents)
        for agent in agents:
            beat(bench, agent, enforced, **{"mode": Mode.PROTECTION, **members})
        bench.pass_time(10)
    assert incident(admin)["enforcedCount"] == 0
    for block in admin.get("/api/blocks?kind=ip").json()["data"]:
        assert len(block["notEnforced"]) == block["targetCount"] > 0
        assert {each["reason"] for each in block["notEnforced"]} == {reason}
    assert re.search(rf"^    not on [ab]: {re.escape(reason)}; and not on 1 more$", terminal.ok("now"), re.MULTILINE)


@pytest.mark.parametrize(("digits", "enforcing"), [(32, 0), (40, 0), (64, 2)])
def test_a_hash_that_guards_only_alert_on_is_never_enforced(
    served: Served, admin: httpx2.Client, digits: int, enforcing: int
) -> None:
    """Fences name the version of an MD5 or SHA-1 hash and list no exception, and still no target enforces it."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents, fileHash="c" * digits)
        bench.pass_time(1)
        for agent in agents:
            beat(bench, agent, {"set": 1}, enforcement="nftables")
        bench.pass_time(10)
    (found,) = admin.get("/api/incidents?kind=file_hash").json()["data"]
    assert (found["targetCount"], found["acceptedCount"], found["enforcedCount"]) == (2, 2, enforcing)
    assert (found["timeToAcceptance"]["100"] is None, found["timeToImmunity"]["100"] is None) == (False, not enforcing)


def test_a_degraded_agent_stands_in_lists_now_and_metrics(
    served: Served, admin: httpx2.Client, terminal: Terminal
) -> None:
    """Health stands beside status, with the source and the reason; once it is well again it is in no list."""
    with served.bench() as bench:
        (agent,) = trusted(bench, "srv-01")
        events: list[str] = []
        bench.engine.listeners.append(lambda row: events.append(row.event.event))
        beat(bench, agent, health="degraded", sources=[SILENT], enforcement="impossible")
        bench.pass_time(10)
        metrics = exposed(bench)
    (found,) = admin.get("/api/agents?health=degraded").json()["data"]
    assert (found["status"], found["health"], found["enforcement"]) == ("online", "degraded", "impossible")
    assert found["sources"][0]["reason"] == SILENT.reason
    assert "sshd wrote and nothing was read" in terminal.ok("now")
    assert "srv-01" in terminal.ok("agents", "list", "--health", "degraded")
    assert "panguard_degraded_agents 1.0" in metrics
    with served.bench() as bench:
        beat(bench, agent, health="ok", sources=[SILENT.model_copy(update={"state": "ok"})])
        bench.pass_time(10)
    assert admin.get("/api/agents?health=degraded").json()["data"] == []
    assert [event for event in events if event.startswith("agent_")] == ["agent_degraded", "agent_recovered"]


def test_a_protection_that_fell_back_is_told(served: Served, admin: httpx2.Client, terminal: Terminal) -> None:
    """The trial is shown while it lasts, and its end without confirmation is a fleet event."""
    with served.bench() as bench:
        (agent,) = trusted(bench, "srv-01")
        events: list[str] = []
        bench.engine.listeners.append(lambda row: events.append(row.event.event))
        beat(bench, agent, mode=Mode.PROTECTION, mode_wanted=Mode.PROTECTION, trial_seconds_left=600.0)
        bench.pass_time(10)
    assert "trial, 600 s left" in terminal.ok("now")
    with served.bench() as bench:
        beat(bench, agent, mode=Mode.LEARNING, mode_wanted=Mode.PROTECTION)
        bench.pass_time(10)
    assert "mode_reverted" in events
    (found,) = admin.get("/api/agents?unconfirmed=true").json()["data"]
    assert (found["mode"], found["modeWanted"], found["trialSecondsLeft"]) == ("learning", "protection", None)
    assert "learning (protection wanted)" in terminal.ok("now")


def test_an_http_agent_enforces_the_merged_policy(served: Served, admin: httpx2.Client) -> None:
    """Its one version stands for policy and blocklist; one that says nothing of enforcement counts as accepted only."""
    speaking, silent = served.join("http-1"), served.join("http-2")
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c"))
        sequence = bench.fleet.blocklists.sequences["default"]
    with speaking.client, silent.client:
        for agent in (speaking, silent):
            agent.poll(version=1)
            agent.heartbeat(policyVersion=sequence)
        stated = {"policyVersion": sequence, "set": 1}
        record = speaking.heartbeat(
            policyVersion=sequence, health="degraded", enforcement="nftables", enforced=stated,
            sources=[{"name": "journal", "state": "missing", "reason": "it is not there"}],
        ).json()["data"]  # fmt: skip
    assert (record["health"], record["enforcement"], record["enforced"]["set"]) == ("degraded", "nftables", 1)
    assert record["sources"] == [
        {"name": "journal", "state": "missing", "records": 0, "understood": 0, "reason": "it is not there"}
    ]
    with served.bench() as bench:
        bench.pass_time(10)
    found = incident(admin)
    assert (found["targetCount"], found["acceptedCount"], found["enforcedCount"]) == (5, 2, 1)


def state(agent: HttpAgent, version: int, by: str) -> None:
    """Let an HTTP agent state the version of the merged policy that it has accepted."""
    if by == "poll":
        agent.poll(version=version)
    else:
        agent.heartbeat(policyVersion=version)


@pytest.mark.parametrize("by", ["poll", "heartbeat"])
def test_an_http_agents_word_ends_the_time_to_acceptance(served: Served, admin: httpx2.Client, by: str) -> None:
    """A stated version that includes the block counts, also where the blocklist has changed since."""
    agent = served.join("http-1")
    with served.bench() as bench:
        others = trusted(bench, "a", "b", "c")
        attack(bench, *others)
        sequence = bench.fleet.blocklists.sequences["default"]
        for other in others:
            beat(bench, other)
    assert incident(admin)["timeToAcceptance"]["100"] is None
    with served.bench() as bench:
        attack(bench, *others, sourceIp="203.0.113.67")
        assert bench.fleet.blocklists.sequences["default"] > sequence
        bench.pass_time(3)
    with agent.client:
        state(agent, sequence - 1, by)
        assert incident(admin)["timeToAcceptance"]["100"] is None
        state(agent, sequence, by)
    with served.bench() as bench:
        bench.pass_time(10)
    found = incident(admin)
    assert (found["targetCount"], found["acceptedCount"]) == (4, 4)
    assert found["timeToAcceptance"]["100"] == pytest.approx(3, abs=0.5)
    other = next(each for each in admin.get("/api/incidents?kind=source_ip").json()["data"] if each != found)
    assert (other["targetCount"], other["acceptedCount"]) == (4, 0)


@pytest.mark.parametrize("by", ["poll", "heartbeat"])
def test_an_http_agents_own_block_is_accepted_by_its_word(served: Served, admin: httpx2.Client, by: str) -> None:
    """A block in the policies of two HTTP agents is accepted once both state the version that has it."""
    one, two = served.join("http-1"), served.join("http-2")
    report = {
        "threat": {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": ATTACKER}},
        "response": "block_ip",
        "timestamp": "2027-01-15T08:00:00Z",
    }
    with one.client, two.client:
        for agent in (one, two):
            assert agent.events(report).status_code == 201
        with served.bench() as bench:
            bench.pass_time(2)
        for agent in (one, two):
            state(agent, agent.poll(version=1).json()["data"]["version"], by)
    found = incident(admin)
    assert found["timeToAcceptance"]["100"] == pytest.approx(2, abs=0.5)


def test_a_policy_that_failed_on_an_http_agent_is_not_accepted(served: Served, admin: httpx2.Client) -> None:
    """Its version with `policyState` failed ends no measurement; the same version applied does."""
    agent = served.join("http-1")
    with served.bench() as bench:
        others = trusted(bench, "a", "b", "c")
        attack(bench, *others)
        sequence = bench.fleet.blocklists.sequences["default"]
        for other in others:
            beat(bench, other)
    with agent.client:
        agent.heartbeat(policyVersion=sequence, policyState="failed")
        assert incident(admin)["timeToAcceptance"]["100"] is None
        agent.heartbeat(policyVersion=sequence, policyState="applied")
        assert incident(admin)["timeToAcceptance"]["100"] is not None
