"""The answers of every query of a store, page by page, to compare two stores with the same content."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

from manager.domain.policies.scopes import Scope
from manager.errors import Invalid, NotFound
from manager.storage.queries import StoreQueries
from manager.storage.queries.summary import PERIODS

_PAGE = 3
_ORGANIZATIONS = (None, ("acme",), ("acme", "default"), ())


def answers(queries: StoreQueries, ids: dict[str, Sequence[str]], now: float) -> dict[str, Any]:
    """Return the answers of all queries with many arguments, by their text.

    Args:
        queries: of the store.
        ids: those that occur in it, `agents`, `incidents`, `blocks`, `threats`, `hostnames`, `channels` and `groups`.
        now: the time of the queries, in seconds since 1970.
    """
    return {f"{name} {arguments}": _answer(getattr(queries, name), arguments) for name, arguments in _calls(ids, now)}


def _answer(query: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return _pages(query, arguments)
    except (NotFound, Invalid) as error:
        return str(error)


def _pages(query: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    if "limit" not in arguments or query.__name__.startswith("events"):
        return query(**arguments)
    found: list[Any] = []
    cursor = None
    while True:
        records, cursor = query(**arguments, cursor=cursor)
        found += records
        if cursor is None:
            return found


def _calls(ids: dict[str, Sequence[str]], now: float) -> Iterator[tuple[str, dict[str, Any]]]:
    page = {"limit": _PAGE}
    for name in ("access", "audit", "dead_letters", "notifications", "policy_groups", "tokens"):
        yield name, page
    for name in ("active_policy", "agent_counts", "event_bounds", "notification_cursors"):
        yield name, {}
    yield from (("audit", {**page, "action": action}) for action in ("policy", "token.created", "agent"))
    yield "audit", {**page, "since": now - 700}
    yield from _of_organizations(page, now)
    yield from _of_ids(ids, now)
    yield from _filters(page, now)


def _of_organizations(page: dict[str, Any], now: float) -> Iterator[tuple[str, dict[str, Any]]]:
    for organizations in _ORGANIZATIONS:
        chosen = {"organizations": organizations}
        for name in ("agents", "incidents", "threats", "policy_documents", "policy_history"):
            yield name, {**page, **chosen}
        for name in ("overview", "situation", "mutes"):
            yield name, {"now": now, **chosen}
        yield "blocks", {**page, **chosen, "after": now}
        yield "blocks", {**page, **chosen, "after": 0.0}
        yield "response_counts", {"after": now, **chosen}
        yield "count_events", {"after": 3, **chosen}
        yield "events", {"after": 0, "limit": 10_000, **chosen}
        yield "protection_forecast", {"since": 0.0, "now": now, **chosen}
        yield "policy_differences", {"before": 0, **chosen}
        yield "policy_differences", {"before": 1, "after": 3, **chosen}
        for period in PERIODS:
            yield "threat_summary", {"now": now, "period": period, **chosen}
    yield "events_to_tell", {"after": 0, "limit": 10_000}
    yield "untold_events", {"after": 0, "last": 10_000}
    for scope in (Scope("global", ""), Scope("organization", "acme")):
        yield "policy_document", {"scope": scope}


def _of_ids(ids: dict[str, Sequence[str]], now: float) -> Iterator[tuple[str, dict[str, Any]]]:
    for agent_id in (*ids["agents"], "ag-none"):
        yield "agent", {"agent_id": agent_id}
        yield "agent_vitals", {"agent_id": agent_id, "now": now}
        yield "organization_of_agent", {"agent_id": agent_id}
        yield "threats", {"limit": _PAGE, "agent_id": agent_id}
        yield "policy_document", {"scope": Scope("agent", agent_id)}
    yield "hostnames", {"agent_ids": tuple(ids["agents"])}
    for incident_id in (*ids["incidents"], "inc-none"):
        yield "incident", {"incident_id": incident_id}
    for block_id in (*ids["blocks"], "blk-none"):
        yield "block", {"block_id": block_id}
        yield "organization_of_block", {"entry_id": block_id}
    for threat_id in (*ids["threats"], "none"):
        yield "threats_of_id", {"threat_id": threat_id}
    for channel in (*ids["channels"], "none"):
        yield "pending_notifications", {"channel": channel}
    yield "notification_group_is_stored", {"group": "none"}


def _filters(page: dict[str, Any], now: float) -> Iterator[tuple[str, dict[str, Any]]]:
    for since, severity, type_ in product((None, now - 4000), (None, "medium", "critical"), (None, "scan")):
        yield "threats", {**page, "since": since, "severity": severity, "type_": type_}
    for name, value in (
        ("source_ip", "203.0.113.1"),
        ("technique", "T1110"),
        ("recognized", True),
        ("recognized", False),
    ):
        yield "threats", {**page, name: value}
    for is_open, kind, merged in product((None, True), (None, "source_ip"), (None, False)):
        yield "incidents", {**page, "is_open": is_open, "kind": kind, "merged": merged}
    for name, value in (("response", "applied"), ("chronic", True), ("since", now - 700), ("value", "203.0.113.1")):
        yield "incidents", {**page, name: value}
    for name, value in (("status", "stale"), ("health", "degraded"), ("unenforced", True), ("unconfirmed", True),
                        ("brief", True), ("mode", "protection"), ("tags", ("web",)), ("version", "1.0")):  # fmt: skip
        yield "agents", {**page, name: value}
