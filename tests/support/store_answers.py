"""Everything that a store answers: each method of its queries with many filters, each page of each list, its state."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from manager.domain.agents.agent import State
from manager.domain.correlation import Indicator
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.errors import Invalid, NotFound
from manager.storage.archive import StoredArchive
from manager.storage.queries import StoreQueries
from manager.storage.queries.summary import PERIODS

ORGANIZATIONS: tuple[tuple[str, ...] | None, ...] = (None, ("acme",), ("acme", "default"), ())

PAGE = 3


class Subjects(NamedTuple):
    """The identifiers, values and times that a store is asked about."""

    now: float
    agents: Sequence[str] = ()
    numbers: Sequence[int] = ()
    threats: Sequence[str] = ()
    incidents: Sequence[str] = ()
    blocks: Sequence[str] = ()
    channels: Sequence[str] = ()
    addresses: Sequence[str] = ()
    techniques: Sequence[str] = ("T1110",)
    groups: Sequence[str] = ()


_IDENTIFIERS = ("agents", "threats", "incidents", "blocks", "groups", "channels")


def answers(queries: StoreQueries, about: Subjects) -> Iterator[tuple[str, Any]]:
    """Yield each answer of the queries with the name of its method and the filter."""
    ask = _Asked(queries)
    about = about._replace(**{name: [*getattr(about, name), "unknown"] for name in _IDENTIFIERS})
    times = (0.0, about.now - 86_400, about.now - 60)
    for organizations in ORGANIZATIONS:
        yield from _of_organizations(ask, about, organizations, times)
    yield from _agents(ask, about)
    yield from _threats(ask, about, times)
    yield from _responses(ask, about)
    yield from _operators(ask, about, times)
    missing = {name for name in vars(StoreQueries) if not name.startswith("_")} - ask.methods
    assert not missing, f"nothing asks {missing}"


class _Asked:
    """Calls methods, and keeps their names."""

    def __init__(self, queries: StoreQueries) -> None:
        self._queries = queries
        self.methods: set[str] = set()

    def once(self, name: str, *arguments: Any, **filters: Any) -> tuple[str, Any]:
        """Return one answer; for an error its text."""
        self.methods.add(name)
        try:
            found = getattr(self._queries, name)(*arguments, **filters)
        except (NotFound, Invalid) as error:
            found = str(error)
        return f"{name}{arguments}{filters}", found

    def pages(self, name: str, **filters: Any) -> tuple[str, Any]:
        """Return the records of all pages, with each cursor; of messages only whether there is one.

        A cursor names a message's number, and on PostgreSQL one that is stored again takes a number that no row has.
        """
        found, cursor = [], None
        while True:
            label, page = self.once(name, **filters, limit=PAGE, cursor=cursor)
            is_message_page = name == "notifications" and not isinstance(page, str)
            found.append((page[0], page[1] is None) if is_message_page else page)
            if isinstance(page, str) or page[1] is None:
                return label, found
            cursor = page[1]


def _of_organizations(
    ask: _Asked, about: Subjects, organizations: tuple[str, ...] | None, times: Sequence[float]
) -> Iterator[tuple[str, Any]]:
    of = {"organizations": organizations}
    yield ask.once("overview", about.now, organizations)
    yield ask.once("situation", about.now, organizations)
    for period in PERIODS:
        yield ask.once("threat_summary", now=about.now, period=period, **of)
    for name in ("agents", "threats", "incidents", "policy_history", "policy_documents"):
        yield ask.pages(name, **of)
    yield ask.pages("blocks", after=about.now, **of)
    yield ask.once("hostnames", list(about.agents), organizations)
    yield ask.once("policy_differences", 1, None, organizations)
    yield ask.once("mutes", about.now, organizations)
    for after in (0, 3, 10):
        yield ask.once("events", after=after, limit=5, **of)
        yield ask.once("count_events", after=after, **of)
    for time in times:
        yield ask.once("response_counts", after=time, **of)
        yield ask.once("protection_forecast", since=time, now=about.now, **of)
        yield ask.pages("incidents", since=time, **of)
        yield ask.pages("threats", since=time, **of)
    for group in about.groups:
        yield ask.once("protection_forecast", since=0.0, now=about.now, group=group, **of)


def _agents(ask: _Asked, about: Subjects) -> Iterator[tuple[str, Any]]:
    filters: list[dict[str, Any]] = [{"status": state.value} for state in State]
    filters += [{name: flag} for name, flag in product(("unenforced", "unconfirmed"), (True, False))]
    filters += [{"tags": ("web",)}, {"hostnames": ("host-1", "b")}, {"health": "degraded"}, {"site": "berlin"}]
    filters += [{"version": "1.0"}, {"mode": "learning"}, {"enforcement": ("unknown",)}, {"enforcement": ("kernel",)}]
    for each in filters:
        yield ask.pages("agents", **each)
    yield ask.pages("agents", brief=True)
    for group in about.groups:
        yield ask.pages("agents", group=group)
    yield ask.once("agent_counts")
    for agent_id in about.agents:
        for name in ("agent", "organization_of_agent"):
            yield ask.once(name, agent_id)
        yield ask.once("agent_vitals", agent_id, about.now)
        yield ask.pages("threats", agent_id=agent_id)
        yield ask.pages("threats", agent_id=agent_id, organizations=("acme",))


def _threats(ask: _Asked, about: Subjects, times: Sequence[float]) -> Iterator[tuple[str, Any]]:
    for severity, type_, recognized in product((None, "low", "high"), (None, "brute_force"), (None, True, False)):
        yield ask.pages("threats", severity=severity, type_=type_, recognized=recognized)
    for address, technique, since in product((None, *about.addresses), (None, *about.techniques), (None, *times)):
        yield ask.pages("threats", source_ip=address, technique=technique, since=since)
    for threat_id in about.threats:
        yield ask.once("threats_of_id", threat_id)
        yield ask.once("threats_of_id", threat_id, organizations=("acme",))
        for agent_id in about.agents:
            yield ask.once("threats_of_id", threat_id, agent_id)


def _responses(ask: _Asked, about: Subjects) -> Iterator[tuple[str, Any]]:
    filters: list[dict[str, Any]] = [
        {name: flag} for name, flag in product(("is_open", "chronic", "merged"), (True, False))
    ]
    filters += [{"kind": "source_ip"}, {"response": "pending_approval"}, {"response": "requested"}]
    filters += [{"value": address} for address in about.addresses]
    for each in filters:
        yield ask.pages("incidents", **each)
    for incident_id in about.incidents:
        yield ask.once("incident", incident_id)
        yield ask.pages("blocks", after=0.0, incident_id=incident_id)
    for block_id in about.blocks:
        yield ask.once("block", block_id)
        yield ask.once("organization_of_block", block_id)
    for address in about.addresses:
        yield ask.pages("blocks", after=0.0, value=address)
    for agent_id in about.agents:
        yield ask.pages("blocks", after=0.0, kind="ip", target=agent_id)


def _operators(ask: _Asked, about: Subjects, times: Sequence[float]) -> Iterator[tuple[str, Any]]:
    yield ask.once("active_policy")
    for scope in (GLOBAL, Scope("organization", "acme"), *(Scope("group", name) for name in about.groups)):
        yield ask.once("policy_document", scope)
    for before, after in ((1, 2), (1, 3), (2, 99)):
        yield ask.once("policy_differences", before, after)
    for name in ("policy_groups", "tokens", "access", "dead_letters", "audit", "notifications"):
        yield ask.pages(name)
    for action in ("policy", "policy.set", "incident"):
        yield ask.pages("audit", action=action)
    for since in times:
        yield ask.pages("audit", since=since, actor="test")
    for target in about.incidents:
        yield ask.pages("audit", target=target)
    yield ask.once("event_bounds")
    yield ask.once("notification_cursors")
    for channel in about.channels:
        yield ask.once("pending_notifications", channel)
        yield ask.once("notification_group_is_stored", channel)
        yield ask.pages("notifications", channel=channel)
    for after in (0, 3):
        yield ask.once("events_to_tell", after=after, limit=7)
        yield ask.once("untold_events", after=after, last=10**9)


def archive_answers(archive: StoredArchive, about: Subjects) -> Iterator[tuple[str, Any]]:
    """Yield what the archive reads back for the engine."""
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("revisions", lambda: list(archive.revisions())),
        ("evidence", lambda: list(archive.evidence())),
    ]
    for since in (0.0, about.now - 600):
        calls.append((f"live {since}", lambda since=since: _sorted(archive.live(since))))  # type: ignore[misc]
        calls.append((f"responding {since}", lambda since=since: _sorted(archive.responding(since))))  # type: ignore[misc]
    for name, call in calls:
        yield name, call()
    for incident_id in about.incidents:
        yield f"find {incident_id}", archive.find(incident_id)
        yield f"response {incident_id}", archive.response(incident_id)
        yield f"work {incident_id}", archive.work_counts(incident_id)
    for number in about.numbers:
        yield f"stamp {number}", archive.stamp(number)
        yield f"sources {number}", archive.sources(number)
    for threat_id, agent_id in product(about.threats, about.agents):
        yield f"recognition {threat_id} {agent_id}", archive.recognition(threat_id, agent_id)
    values = [("source_ip", each) for each in about.addresses] + [("technique", each) for each in about.techniques]
    for (kind, value), organization, site in product(values, ("acme", "default"), (None, "", "berlin")):
        indicator = Indicator(kind, value, organization, site)
        for start, end in ((0.0, 1e12), (about.now - 3600, about.now)):
            yield f"reports {indicator} {start}", list(archive.reports(indicator, start, end))
            yield f"incidents {indicator} {start}", _sorted(archive.incidents(indicator, start, end))
        yield f"count {indicator}", archive.incident_count(indicator, about.now, list(about.incidents)[:1])


def _sorted(incidents: Any) -> list[Any]:
    return sorted(incidents, key=lambda each: each.id)
