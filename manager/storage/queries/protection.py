"""The forecast of automatic blocking, from reported measures and what followed them."""

import json
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from manager.domain.policies.fleet_policies import Scope
from manager.domain.policies.groups import Placement, PolicyGroup
from manager.domain.protection.allowances import AllowlistRevision, allowances
from manager.domain.protection.forecast import Followups, HostLogin, Judgement, Lift, forecast, totals
from manager.domain.protection.measures import ReportedMeasure, ScopedAddress
from manager.errors import NotFound
from manager.storage.queries import policies
from manager.storage.queries.reader import Reader, Record, json_list, moment
from manager.storage.tables import AgentTable


class ForecastFilter(NamedTuple):
    """The measures of a forecast: those from `since` to `now`, in seconds since 1970; None matches any organization."""

    since: float
    now: float
    organizations: tuple[str, ...] | None = None
    agents: tuple[int, ...] | None = None
    """The numbers of the agents; None for all."""

    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statements."""
        return {
            "since": self.since,
            "until": self.now,
            "organizations": json_list(self.organizations),
            "agents": None if self.agents is None else json.dumps(self.agents),
        }


def protection_forecast(reader: Reader, wanted: ForecastFilter) -> Record:
    """Return the forecast's counts and its named cases."""
    parameters = wanted.parameters()
    later = {"since": wanted.since, "organizations": json_list(wanted.organizations)}
    followups = Followups(
        (
            HostLogin(ScopedAddress(*row[:3]), row[3], row[4], row[5], bool(row[6]))
            for row in reader.each("protection.logins", later)
        ),
        (Lift(ScopedAddress(*row[:3]), *row[3:]) for row in reader.each("protection.lifts", later)),
        allowances(_revisions(reader), _members(reader)),
        wanted.now,
    )
    rows = reader.each("protection.measures", parameters)
    found = forecast((ReportedMeasure(ScopedAddress(*row[:3]), *row[3:]) for row in rows), followups)
    ((hosts, reporters),) = reader.select("protection.hosts", parameters)
    cases = found.cases()
    hostnames = _hostnames(reader, cases)
    return {
        "since": moment(wanted.since),
        "until": moment(wanted.now),
        "organizationId": wanted.organizations[0] if wanted.organizations and len(wanted.organizations) == 1 else None,
        **totals(found.counts),
        "hosts": hosts,
        "hostsReportingLogins": reporters,
        "cases": [_case(each, hostnames) for each in cases],
    }


def agents_of_group(reader: Reader, name: str, organizations: Collection[str] | None = None) -> tuple[int, ...]:
    """Return the numbers of a policy group's agents; a group of another organization than the given ones is not found.

    Raises:
        NotFound: there is no such group.
    """
    found = policies.last_of(reader, Scope("group", name))
    group = None if found is None or found["document"] is None else PolicyGroup.of(name, found["document"])
    owner = None if group is None else group.organization_id
    if group is None or (owner is not None and organizations is not None and owner not in organizations):
        raise NotFound(f"Group {name} not found")
    agent = AgentTable
    query = agent.select(agent.number, agent.organization_id, agent.site, agent.tags).where(agent.removed_at.is_null())
    return tuple(row["number"] for row in reader.rows(query) if group.selects(_placement(row)))


def _placement(row: Record) -> Placement:
    return Placement(row["organization_id"], row["site"], frozenset(json.loads(row["tags"])))


def _revisions(reader: Reader) -> Iterator[AllowlistRevision]:
    for scope, at, addresses in reader.each("protection.allowlists"):
        yield AllowlistRevision(Scope.parse(scope), at, frozenset(json.loads(addresses or "[]")))


def _members(reader: Reader) -> Callable[[Scope], frozenset[int] | None]:
    """Return the function that returns the agents of an agent's or a group's scope, and None for wider scopes.

    A group has the agents that it selects now, and one that was removed has none.
    """

    def members(scope: Scope) -> frozenset[int] | None:
        if scope.kind == "group":
            try:
                return frozenset(agents_of_group(reader, scope.target))
            except NotFound:
                return frozenset()
        if scope.kind != "agent":
            return None
        query = AgentTable.select(AgentTable.number).where(AgentTable.agent_id == scope.target)
        return frozenset(row["number"] for row in reader.rows(query))

    return members


def _hostnames(reader: Reader, cases: list[Judgement]) -> dict[int, tuple[str, str]]:
    """Return agent id and hostname of the agents in cases, removed ones too, by number."""
    numbers = {each.first.agent_number for each in cases}
    numbers |= {each.login.agent_number for each in cases if each.login is not None}
    if not numbers:
        return {}
    agent = AgentTable
    query = agent.select(agent.number, agent.agent_id, agent.hostname).where(agent.number.in_(sorted(numbers)))
    return {row["number"]: (row["agent_id"], row["hostname"]) for row in reader.rows(query)}


def _case(judged: Judgement, hostnames: dict[int, tuple[str, str]]) -> Record:
    first, login, lift, allowance = judged.first, judged.login, judged.lift, judged.allowance
    agent_id, hostname = hostnames.get(first.agent_number, (None, None))
    return {
        "address": first.subject.value,
        "organizationId": first.subject.organization_id,
        "site": first.subject.site or None,
        "at": moment(first.at),
        "agentId": agent_id,
        "hostname": hostname,
        "hosts": judged.hosts,
        "measure": first.kind,
        "outcome": "taken" if judged.taken else "would_be_taken",
        "ruleId": first.rule_id or None,
        "guesses": first.guesses,
        "connections": judged.connections,
        "login": None
        if login is None
        else {
            "user": login.user,
            "hostname": hostnames.get(login.agent_number, (None, None))[1],
            "at": moment(login.at),
            "guessed": login.guessed,
        },
        "lift": None if lift is None else {"kind": lift.kind, "at": moment(lift.at), "author": lift.author},
        "allowance": None
        if allowance is None
        else {"value": allowance.value, "scope": allowance.scope, "since": moment(allowance.since)},
    }
