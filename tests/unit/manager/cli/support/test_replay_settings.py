"""The settings file of a replay: what it may say, and how it is refused."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from manager.cli.support.failures import CommandFailed
from manager.cli.support.replay_settings import CorrelatorPart, ReplaySettings, ResponderPart, read_replay_settings
from manager.domain.correlation import CorrelatorSettings, Indicator
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response import ResponderSettings

EXAMPLE = Path(__file__).parents[5] / "examples" / "replay.json"
DOCUMENTS = {
    GLOBAL: {"allowlist": {"ips": ["192.0.2.1"]}},
    Scope("organization", "acme"): {"allowlist": {"ips": ["192.0.2.2"], "fileHashes": ["ab" * 32]}},
}


def written(directory: Path, said: object) -> Path:
    """Return a settings file."""
    file = directory / "replay.json"
    file.write_text(said if isinstance(said, str) else json.dumps(said))
    return file


def allowed(settings: ReplaySettings, value: str, organization_id: str = "acme") -> bool:
    """Return whether an address or hash makes no incident in an organization."""
    kind = "file_hash" if len(value) == 64 else "source_ip"
    return settings.candidate(DOCUMENTS, ["acme", "other"]).allowed(Indicator(kind, value, organization_id, None))


def test_the_example_is_a_settings_file() -> None:
    """Given members reach the rules; missing ones have their defaults."""
    candidate = read_replay_settings(EXAMPLE).candidate({}, ["default"])
    assert (candidate.correlator.source_ip_agents, candidate.correlator.file_hash_agents) == (3, 2)
    assert (candidate.responder.duration, candidate.responder.window) == (3600, 300)
    assert candidate.allowed(Indicator("source_ip", "192.0.2.9", "default", None))
    assert candidate.admin_networks == ("198.51.100.0/24",)


def test_an_empty_file_is_the_rules_own_defaults_and_the_policies_allowlists(tmp_path: Path) -> None:
    """Nothing said, nothing changed; every setting of the rules can be said, under its own name."""
    settings = read_replay_settings(written(tmp_path, {}))
    candidate = settings.candidate(DOCUMENTS, ["acme", "other"])
    assert (candidate.correlator, candidate.responder) == (CorrelatorSettings(), ResponderSettings())
    assert allowed(settings, "192.0.2.1")
    assert allowed(settings, "192.0.2.2")
    assert allowed(settings, "ab" * 32)
    assert not allowed(settings, "192.0.2.2", "other")
    for part, rules, fixed in (
        (CorrelatorPart(), CorrelatorSettings(), {"max_watched", "max_open"}),
        (ResponderPart(), ResponderSettings(), {"agent_manual_blocks", "organization_manual_blocks", "simulation"}),
    ):
        names = {each.name for each in fields(rules)} - fixed
        assert part.model_dump() == {name: getattr(rules, name) for name in names}


def test_an_allowlist_that_is_said_replaces_the_policys(tmp_path: Path) -> None:
    """So that taking an entry away can be tried; each scope by itself."""
    tried = {"allowlist": {"ips": []}, "organizations": {"acme": {"allowlist": {"ips": ["192.0.2.3"]}}}}
    settings = read_replay_settings(written(tmp_path, tried))
    found = [allowed(settings, f"192.0.2.{number}") for number in (1, 2, 3)]
    assert found == [False, False, True]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"correlator": {"sourceIpAgents": 1}}, "correlator.sourceIpAgents"),
        ({"correlator": {"source_ip_agents": 3}}, "correlator.source_ip_agents"),
        ({"responder": {"duration": "4h"}}, "responder.duration"),
        ({"responder": {"agentShare": 2}}, "responder.agentShare"),
        ({"allowlist": {"ips": ["nonsense"]}}, "allowlist.ips.0"),
        ({"organizations": {"acme": {}}}, "organizations.acme.allowlist"),
        ({"thresholds": {}}, "thresholds"),
        ("{", "JSON"),
        ("[]", "object"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_its_field(tmp_path: Path, said: object, named: str) -> None:
    """One sentence, with the file and the field in it."""
    with pytest.raises(CommandFailed) as failure:
        read_replay_settings(written(tmp_path, said))
    assert "replay.json: " in str(failure.value)
    assert named in str(failure.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(CommandFailed, match="cannot be read"):
        read_replay_settings(tmp_path / "replay.json")
