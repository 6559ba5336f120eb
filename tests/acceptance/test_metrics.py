"""The figures that operators are promised, of a real manager with a real guard: each is there, moves, and is shown."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from schemas.keys import AgentKeys
from schemas.message_codes import from_base64url
from schemas.topics import PREFIX
from tests.support.mqtt_client import MqttClient
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.waiting import eventually

ATTACKER = "203.0.113.50"
FIGURES = {
    "ingest rate": ["panguard_threats_stored_total", 'panguard_events_total{event="heartbeat"}'],
    "batch size": ["panguard_batch_messages_count", "panguard_batch_messages_sum"],
    "commit time": ["panguard_commit_seconds_count", "panguard_commit_seconds_sum"],
    "lag": ["panguard_report_lag_seconds_count"],
    "dead letters": ["panguard_dead_letters_total"],
    "agents by state": ['panguard_agents{state="online"}', 'panguard_agents{state="stale"}'],
    "incidents": ["panguard_incidents_opened_total"],
    "policy publish time": ["panguard_policy_publish_seconds_count"],
    "policy applied time": ["panguard_policy_apply_seconds_count", "panguard_policy_current_agents"],
    "HTTP by route": [
        'panguard_http_request_seconds_count{method="PUT",route="/api/policies/agents/{agent_id}",status="200"}',
        'panguard_http_request_seconds_sum{method="POST",route="/api/agents/{agent_id}/events",status="201"}',
    ],
}
"""Each promised figure, and the samples that move when what they count happens."""


@pytest.fixture
def manager(tmp_path: Path, each_deployment: str) -> Iterator[ManagerProcess]:
    del each_deployment
    pace = {"PANGUARD_STALE_AFTER": "2", "PANGUARD_SWEEP_INTERVAL": "0.2"}
    with ManagerProcess(tmp_path, environment=pace) as manager:
        yield manager


def test_every_promised_figure_moves(manager: ManagerProcess) -> None:
    """With threats on both doors, a policy, a message that says nothing, and an agent that falls silent."""
    before = _figures(manager)
    guard = GuardProcess(manager, "web-1")
    agent_id = guard.start()
    try:
        _join_and_report(manager)
        guard.attacked_by(ATTACKER)
        manager.request("PUT", f"/api/policies/agents/{agent_id}", {"thresholds": {"autoRespond": 61}})
        _say_nothing(manager, guard)
        moved: set[str] = set()

        def all_moved() -> bool:
            now = _figures(manager)
            moved.update(name for name in now if now[name] > before.get(name, 0))
            return {sample for samples in FIGURES.values() for sample in samples} <= moved

        eventually(all_moved, what="all figures moved")
    finally:
        guard.stop()


def test_the_example_dashboard_shows_every_promised_figure() -> None:
    """One of its panels asks for each of them."""
    dashboard = json.loads((Path(__file__).parents[2] / "examples" / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()))
    roots = {sample.partition("{")[0] for samples in FIGURES.values() for sample in samples}
    histograms = {root.removesuffix("_count").removesuffix("_sum") for root in roots}
    assert [root for root in sorted(histograms) if root not in asked] == []


def _figures(manager: ManagerProcess) -> dict[str, float]:
    """Return the samples of the manager that leads, and of one that stands by: each counts what it served."""
    figures: defaultdict[str, float] = defaultdict(float)
    for each in {manager, manager.leader}:
        with each.client() as client:
            text = client.get("/metrics").text
        for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            figures[sample.name + _labels(sample.labels)] += sample.value
    return dict(figures)


def _labels(labels: dict[str, str]) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{inside}}}" if inside else ""


def _join_and_report(manager: ManagerProcess) -> None:
    """Let an agent register by HTTP, report the attacker, and never be heard again."""
    host = {"hostname": "silent", "os": "linux", "arch": "x64", "version": "1.4.2"}
    with manager.client() as client:
        told = client.post("/api/agents/register", json=host).json()
        threat = {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": ATTACKER}}
        own = {"Authorization": f"Bearer {told['token']}"}
        answer = client.post(f"/api/agents/{told['agentId']}/events", json={"threat": threat}, headers=own)
        assert answer.status_code == 201


def _say_nothing(manager: ManagerProcess, guard: GuardProcess) -> None:
    """Publish a heartbeat that is none, with the guard's own credential."""
    secret = from_base64url(json.loads((guard.data / "identity.json").read_text())["secret"])
    client = MqttClient(CallbackAPIVersion.VERSION2, "says-nothing")
    client.username_pw_set(guard.agent_id(), AgentKeys.derive(secret).mqtt_password)
    client.connect("127.0.0.1", int(manager.mqtt.rpartition(":")[2]))
    client.loop_start()
    client.publish(f"{PREFIX}agents/{guard.agent_id()}/heartbeat", b"{", 1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
