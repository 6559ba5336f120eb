"""The choice which agents a block of the organization counts: kept in the store, asked for in stores of before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.domain.response import OrganizationResponse
from manager.engine.commands.requests import ReadResponseStatus, SetOrganizationResponse
from manager.engine.fleet import UNCHOSEN_WARNING
from manager.settings import Settings
from tests.support.attacks import attack, trusted
from tests.support.engine import Bench

pytestmark = pytest.mark.usefixtures("each_system")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_a_new_store_asks_for_vouched_reports(bench: Bench) -> None:
    """Nobody has to choose in a new store, and no warning stands in `now`."""
    status = bench.ask(ReadResponseStatus())
    assert (status.organization_response, status.organization_chosen) == (OrganizationResponse.VOUCHED, True)
    assert UNCHOSEN_WARNING not in bench.fleet.warnings


def test_a_store_of_before_counts_any_agent_and_says_so_until_somebody_chooses(bench: Bench) -> None:
    """The choice ends the warning, stands in the audit log, and survives a restart."""
    bench.store.set_meta("organization_response", "unchosen")
    bench.crash()
    status = bench.ask(ReadResponseStatus())
    assert (status.organization_response, status.organization_chosen) == (OrganizationResponse.ANY, False)
    assert "panguard manager responses organization vouched" in bench.fleet.warnings[UNCHOSEN_WARNING]
    for choice in (OrganizationResponse.ANY, OrganizationResponse.VOUCHED):
        assert bench.ask(SetOrganizationResponse(choice, "ann")) == choice
        assert UNCHOSEN_WARNING not in bench.fleet.warnings
        bench.crash()
        assert bench.fleet.responder.organization_response == choice
        assert UNCHOSEN_WARNING not in bench.fleet.warnings
    assert bench.rows("SELECT action FROM audit_entry") == [("responses.organization",)] * 2


@pytest.mark.parametrize("vouching", [(True, True, True), (True, False, True)])
def test_a_restart_forgets_no_vouched_report(bench: Bench, vouching: tuple[bool, ...]) -> None:
    """Reports from before each of two restarts count: the organization blocks exactly if all three agents vouched."""
    agents = trusted(bench, "a", "b", "c")
    for agent, vouches in zip(agents, vouching, strict=True):
        agent.vouches = vouches
    attack(bench, agents[0])
    bench.crash()
    attack(bench, agents[1])
    bench.crash()
    attack(bench, agents[2])
    scopes = bench.rows("SELECT scope FROM emergency_entry WHERE kind = 'ip'")
    assert (("organization",) in scopes) is all(vouching)
    assert bench.rows("SELECT count(*) FROM incident_member JOIN incident ON id = incident_id "
                      "WHERE kind = 'source_ip' AND vouched") == [(sum(vouching),)]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "age", "networks"),
    [
        (Settings(), 0.0, 0),
        (Settings(host="192.0.2.1"), 86_400.0, 2),
        (Settings(broker="mqtts://broker.example:8883"), 86_400.0, 2),
        (Settings(host="192.0.2.1", organization_response_age=60, organization_response_networks=0), 60.0, 0),
        (Settings(organization_response_networks=3), 0.0, 3),
    ],
)
def test_age_and_networks_are_asked_for_beyond_loopback(settings: Settings, age: float, networks: int) -> None:
    """They are off where HTTP and broker are on loopback only; a value that is set counts everywhere."""
    assert (settings.organization_age, settings.organization_networks) == (age, networks)
