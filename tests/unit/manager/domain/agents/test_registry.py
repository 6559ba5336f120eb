"""Registry: hostnames in any spelling, and registrations stamped ahead."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.domain.agents.registry import (
    AcceptedRegistration,
    RefusedRegistration,
    RegistrationRequest,
    Registry,
    RemovedAgent,
    Takeover,
)
from manager.domain.instant import Instant
from schemas.identifiers import hostname_key

NOW = Instant(1_800_000_000.0, 1000.0)
YEAR = 366 * 86_400.0
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=20)


def _request(hostname: str, sent_at: float | None = None, secret: bytes = b"s" * 32) -> RegistrationRequest:
    digest = None if sent_at is None else str(sent_at).encode()
    host = Host.of(hostname, "Debian 12", "x64", "1.0")
    return RegistrationRequest(host, "acme", credential_of(secret), None, Door.MQTT, sent_at, digest)


def _register(registry: Registry, request: RegistrationRequest, new_id: str = "ag-1", now: Instant = NOW) -> object:
    decision = registry.register(request, Takeover.ALLOW, new_id, now)
    if isinstance(decision, AcceptedRegistration):
        registry.stamp(decision.agent, request, b"reply", now.wall)
    return decision


@pytest.mark.parametrize("spelling", ["SRV-01", "srv-01.", "Srv-01", "SRV-01."])
def test_spellings_of_one_host_are_one_agent(spelling: str) -> None:
    """Case and a trailing dot tell no hosts apart; the first spelling is kept."""
    registry = Registry()
    _register(registry, _request("srv-01"))
    _register(registry, _request(spelling), "ag-2")
    (agent,) = registry.agents.values()
    assert (agent.agent_id, agent.hostname) == ("ag-1", "srv-01")
    assert registry.find_by_hostname("acme", spelling) is agent
    assert registry.spellings(spelling) == ["srv-01"]


def test_composed_and_decomposed_names_are_one_host() -> None:
    """NFC and NFD of one name."""
    registry = Registry()
    _register(registry, _request(unicodedata.normalize("NFC", "Zürich-1")))
    _register(registry, _request(unicodedata.normalize("NFD", "zürich-1")), "ag-2")
    assert len(registry) == 1


@given(NAMES)
def test_the_key_is_stable(name: str) -> None:
    """The key of a key is itself, and every spelling has the same."""
    key = hostname_key(name)
    for spelling in (key, name.upper(), unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name)):
        assert hostname_key(spelling) == hostname_key(hostname_key(spelling))
    assert hostname_key(unicodedata.normalize("NFD", name)) == key
    assert hostname_key(unicodedata.normalize("NFC", name)) == key


def test_agents_of_an_earlier_release_keep_their_spellings() -> None:
    """Two agents whose names differ by case only stay two, each found by its own spelling, and can be removed."""
    registry = Registry()
    for number, hostname in enumerate(("SRV-01", "srv-01", "Srv-01"), 1):
        host = Host.of(hostname, "os", "x64", "1.0")
        registry.load(
            Agent(number, f"ag-{number}", "acme", host, credential_of(bytes([number]) * 32), None, Door.MQTT, 0.0)
        )
    for number, hostname in enumerate(("SRV-01", "srv-01", "Srv-01"), 1):
        found = registry.find_by_hostname("acme", hostname)
        assert found is not None
        assert found.agent_id == f"ag-{number}"
    assert registry.spellings("srv-01.") == ["SRV-01", "Srv-01", "srv-01"]
    for left, agent_id in enumerate(("ag-1", "ag-3", "ag-2")):
        registry.remove(registry.agents[agent_id], NOW.wall)
        assert len(registry.spellings("srv-01")) == 2 - left
    assert registry.find_by_hostname("acme", "srv-01") is None


def test_a_registration_stamped_years_ahead_does_not_lock_its_host_out() -> None:
    """Its stamp counts as the receipt, so the host registers again once its clock is right."""
    registry = Registry()
    _register(registry, _request("srv-01", NOW.wall + 70 * YEAR))
    later = Instant(NOW.wall + 1, 1001.0)
    assert isinstance(_register(registry, _request("srv-01", later.wall, b"t" * 32), now=later), AcceptedRegistration)


def test_a_clock_that_is_a_little_ahead_keeps_the_order_of_registrations() -> None:
    """An older registration of a host whose clock is 200 s ahead is still outdated."""
    registry = Registry()
    _register(registry, _request("srv-01", NOW.wall + 200))
    assert isinstance(_register(registry, _request("srv-01", NOW.wall + 199)), RefusedRegistration)


@pytest.mark.parametrize("spelling", ["srv-01", "SRV-01."])
def test_a_removed_host_whose_clock_was_ahead_may_come_back(spelling: str) -> None:
    """The removed agent's stamp is capped at the removal; its own old registration stays out in every spelling."""
    registry = Registry()
    registry.record_removed("acme", "srv-01", RemovedAgent(NOW.wall + 70 * YEAR, b"digest", NOW.wall))
    assert isinstance(_register(registry, _request(spelling, NOW.wall - 10)), RefusedRegistration)
    assert isinstance(_register(registry, _request(spelling, NOW.wall + 10)), AcceptedRegistration)


@pytest.mark.parametrize(
    ("takeover", "sentence"),
    [
        (Takeover.WHEN_OFFLINE, "another agent of this hostname is online: if it is another machine, give this one"),
        (Takeover.PROOF, "another agent of this hostname is registered with its own credential: remove it first, or"),
    ],
)
def test_a_second_host_of_one_name_is_told_the_likely_cause(takeover: Takeover, sentence: str) -> None:
    """The reason names the hostname and both remedies; the guard prints it."""
    registry = Registry()
    _register(registry, _request("web-1"))
    refused = registry.register(_request("web-1", secret=b"t" * 32), takeover, "ag-2", NOW)
    assert isinstance(refused, RefusedRegistration)
    assert (refused.error, refused.reason.startswith(sentence)) == ("conflict", True)
    assert "another hostname" in refused.reason


def test_hosts_share_equal_traits_and_a_change_reaches_one_host_alone() -> None:
    first, second = (Host.of(name, "Debian 12", "x64", "1.0", site="bonn", tags=("db",)) for name in ("a", "b"))
    assert first.traits is second.traits
    changed = first.changed(tags=("web",), version="1.1")
    assert (changed.hostname, changed.tags, changed.version, changed.site) == ("a", ("web",), "1.1", "bonn")
    assert (second.tags, second.version) == (("db",), "1.0")
    assert changed.changed(tags=("db",), version="1.0").traits is second.traits
    with pytest.raises(AttributeError):
        second.traits.site = "rome"  # type: ignore[misc]
