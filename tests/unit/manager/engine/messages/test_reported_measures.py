"""Reported measures and what follows them, from a guard's messages into the store and the forecast."""

from typing import Any

import pytest

from manager.engine.commands.requests import AcceptClock, RemoveBlock, UndoIncident
from manager.errors import StoreRejected
from manager.storage.protection import LOGINS_OF_AGENT
from manager.storage.queries import StoreQueries
from schemas import topics
from schemas.model import utc
from schemas.presence import ReportedLogin
from schemas.threats import ResponseTaken
from tests.support.attacks import trusted
from tests.support.engine import Bench
from tests.support.migrated_store import open_reading
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.usefixtures("each_system")

DAY = 86_400.0
FRIEND, STRANGER = "203.0.113.7", "203.0.113.8"


def block(bench: Bench, agent: SimulatedAgent, address: str, report_id: str | None = None, **members: Any) -> None:
    """Let an agent report a block that it took, or would have taken."""
    members = {"action": "block_ip", "outcome": "would_be_taken", **members}
    agent.response = ResponseTaken(target=address, **members)
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, report_id, sourceIp=address))


def log_in(bench: Bench, agent: SimulatedAgent, *logins: ReportedLogin) -> None:
    """Let an agent's heartbeat report logins."""
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, logins=list(logins)))


def login(bench: Bench, address: str, user: str = "bob", *, guessed: bool = False) -> ReportedLogin:
    """Return a login just now."""
    return ReportedLogin(source_ip=address, user=user, at=utc(bench.wall), guessed=guessed)


def forecast(bench: Bench, days: float = 30, organization_id: str | None = None) -> dict[str, Any]:
    """Return the forecast from the bench's store."""
    reader = open_reading(bench.directory / "panguard.db")
    try:
        return StoreQueries(reader).protection_forecast(
            since=bench.wall - days * DAY,
            now=bench.wall,
            organizations=None if organization_id is None else (organization_id,),
        )
    finally:
        reader.close()


def test_a_later_login_on_another_host_makes_a_friend(bench: Bench) -> None:
    """A login that any guard of the organization reports after the block counts, and names user and host."""
    one, two = trusted(bench, "web-1", "web-2")
    log_in(bench, two, login(bench, STRANGER, "early"))
    bench.pass_time(60)
    block(bench, one, FRIEND, connections=2)
    block(bench, one, STRANGER)
    bench.pass_time(60)
    log_in(bench, two, login(bench, FRIEND))
    found = forecast(bench)
    assert (found["addresses"], found["loggedIn"], found["friends"], found["connectionsCut"]) == (2, 1, 1, 1)
    (case,) = found["cases"]
    assert (case["address"], case["hostname"], case["guesses"], case["connections"]) == (FRIEND, "web-1", 1, 2)
    assert (case["login"]["user"], case["login"]["hostname"]) == ("bob", "web-2")
    assert (found["hosts"], found["hostsReportingLogins"]) == (1, 0)


def test_the_same_report_again_counts_once(bench: Bench) -> None:
    """A report that a guard sends again adds no measure."""
    (agent,) = trusted(bench, "web-1")
    payload_id = "t-1"
    agent.response = ResponseTaken(action="block_ip", target=FRIEND, outcome="taken")
    payload = agent.threat(bench.wall, payload_id, sourceIp=FRIEND)
    for _ in range(2):
        bench.receive(topics.THREATS, agent.agent_id, payload)
    assert bench.rows("SELECT count(*) FROM reported_measure") == [(1,)]
    assert forecast(bench)["taken"] == 1


def test_a_repeated_login_is_stored_once(bench: Bench) -> None:
    """Each login is in several heartbeats; the newest of a user from an address stays, guessed ones apart."""
    (agent,) = trusted(bench, "web-1")
    first = login(bench, FRIEND)
    log_in(bench, agent, first)
    bench.pass_time(30)
    log_in(bench, agent, first, login(bench, FRIEND), login(bench, FRIEND, guessed=True))
    log_in(bench, agent, first)
    rows = bench.rows('SELECT "user", guessed, at FROM host_login ORDER BY guessed')
    assert rows == [("bob", 0, bench.wall), ("bob", 1, bench.wall)]


def test_a_login_from_what_is_no_address_is_dropped(bench: Bench) -> None:
    """A hostile guard makes no friend of a whole network, nor of a word."""
    (agent,) = trusted(bench, "web-1")
    log_in(bench, agent, *(login(bench, source) for source in ("2001:db8::/64", "0.0.0.0/0", "nobody", FRIEND)))
    assert bench.rows("SELECT address FROM host_login") == [(FRIEND,)]


def test_a_login_of_another_organization_is_none(bench: Bench) -> None:
    """Organizations never mix: neither logins nor counts of another one are seen."""
    one = bench.enroll("web-1", bench.token(organization_id="acme"))
    two = bench.enroll("web-2", bench.token(organization_id="other"))
    for agent in (one, two):
        log_in(bench, agent)
    block(bench, one, FRIEND)
    bench.pass_time(60)
    log_in(bench, two, login(bench, FRIEND))
    found = forecast(bench, organization_id="acme")
    assert (found["addresses"], found["loggedIn"], found["hostsReportingLogins"]) == (1, 0, 1)
    assert forecast(bench, organization_id="other")["addresses"] == 0


def test_undo_and_removal_of_a_block_are_lifts(bench: Bench) -> None:
    """An undone incident and a removed block count for their address, with their author."""
    agents = trusted(bench, "web-1", "web-2")
    for address in (FRIEND, STRANGER):
        for agent in agents:
            block(bench, agent, address)
    bench.pass_time(60)
    ((incident_id,),) = bench.rows(f"SELECT id FROM incident WHERE value = '{FRIEND}'")
    bench.ask(UndoIncident(incident_id, "ann"))
    ((entry_id,), *_) = bench.rows(f"SELECT id FROM emergency_entry WHERE value = '{STRANGER}'")
    bench.ask(RemoveBlock(entry_id, "eve"))
    found = forecast(bench)
    lifts = {case["address"]: (case["lift"]["kind"], case["lift"]["author"]) for case in found["cases"]}
    assert lifts == {FRIEND: ("undo", "ann"), STRANGER: ("lift", "eve")}
    assert found["lifted"] == len(lifts)


def test_one_agent_cannot_fill_the_table_of_logins(bench: Bench) -> None:
    """Of one agent the newest logins are kept, up to the limit."""
    (agent,) = trusted(bench, "web-1")
    for start in range(0, LOGINS_OF_AGENT + 32, 16):
        log_in(bench, agent, *(login(bench, FRIEND, f"user-{start + number}") for number in range(16)))
        bench.pass_time(1)
    users = [user for (user,) in bench.rows('SELECT "user" FROM host_login')]
    assert (len(users), "user-0" in users) == (LOGINS_OF_AGENT, False)


def test_measures_and_followups_are_kept_for_thirty_days(bench: Bench) -> None:
    """After 30 days measures, logins and lifts are deleted; those of the last day stay."""
    agents = trusted(bench, "web-1", "web-2")
    for address, days in ((FRIEND, 29.5), (STRANGER, 1.0)):
        for agent in agents:
            block(bench, agent, address)
            log_in(bench, agent, login(bench, address))
        ((incident_id,),) = bench.rows(f"SELECT id FROM incident WHERE value = '{address}'")
        bench.ask(UndoIncident(incident_id, "ann"))
        bench.pass_time(days * DAY, step=3600)
    bench.ask(AcceptClock("admin"))
    bench.pass_time(180)
    for table in ("reported_measure", "host_login", "block_lift"):
        assert bench.rows(f"SELECT DISTINCT address FROM {table}") == [(STRANGER,)]


@pytest.mark.parametrize("outcome", ["taken", "would_be_taken"])
def test_a_report_that_the_store_rejects_leaves_no_measure(bench: Bench, outcome: str) -> None:
    """Of a rejected batch each report is stored with its measure, or neither of them."""
    (agent,) = trusted(bench, "web-1")
    commit = bench.store.commit

    def rejecting(changes: Any) -> None:
        if any(row.source_ip == STRANGER for row in changes.threats):
            raise StoreRejected("it does not fit")
        commit(changes)

    bench.store.commit = rejecting  # type: ignore[method-assign]
    for address in (FRIEND, STRANGER):
        agent.response = ResponseTaken(action="block_ip", target=address, outcome=outcome)
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=address))
    bench.engine.step(bench.now)
    assert bench.rows("SELECT address, outcome FROM reported_measure") == [(FRIEND, outcome)]
