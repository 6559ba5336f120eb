"""Lines and commands for events: what happened, where, and what was done."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement.groups.items import Item, Words, plain, quoted
from manager.domain.notifications.judgement.groups.standing import Member

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DONE = {
    "block_ip": "the address was blocked",
    "throttle_ip": "the address was throttled",
    "kill_process": "the process was killed",
    "quarantine_file": "the file was quarantined",
}
_MOST = 2**53
_LATEST = 1e11
_OUTCOMES = {"refused": "refused", "impossible": "impossible", "failed": "tried and failed"}
_PASSIVE = frozenset({"none", "notify", "log", "log_only", "alert", "monitor"})
_LATE = 1800.0
_LOGINS = {
    "login_after_failures": "login after failures",
    "root_login": "root logged in by password",
    "new_source": "login from a new address",
    "privilege_misuse": "sudo by a user who may not use it",
}

_NO_LOGIN = frozenset({"privilege_misuse"})
"""Suspicious events of a session that is there already: who did it is known, and logged in by no failure."""


def describe(event: Event) -> tuple[str, Item]:
    """Return the subject and the item of an occurrence; the same subject again is counted with the first."""
    words, about, command = _OCCURRENCES.get(event.name, _other)(event)
    subject = "\x00".join((event.name, event.agent_id or "", *about))
    proven = bool(event.data.get("vouched", True))
    is_login = event.name == "suspicious_login" and str(event.data.get("type")) not in _NO_LOGIN
    return subject, Item(words, event.at, event.severity, event.hostname, command, proven, is_login=is_login)


def describe_member(event: Event, cause: str) -> Member:
    """Return the member of a standing group that an event begins."""
    data = event.data
    words: Words
    command = None
    ends_at = None
    match event.name:
        case "approval_waiting":
            words = [quoted(data.get("value")), plain(f": seen by {_number(data.get('agents'))} agents")]
            if data.get("reason"):
                words += [plain("; waits because "), quoted(data["reason"])]
            command = _incident_command(data, "approve")
            ends_at = _seconds(data.get("expiresAt"))
        case "agent_degraded":
            words = [quoted(event.hostname), plain(": "), *_sources(data.get("sources"))]
        case "agent_stale" | "reports_held_back":
            words = [quoted(event.hostname)]
            command = "panguard manager agents list" if event.name == "agent_stale" else None
        case "certificate_expiring":
            words = [plain("certificate "), quoted(data.get("name")), plain(" expires "), quoted(data.get("expiresAt"))]
        case "channel_failing":
            words = [plain("channel "), quoted(data.get("channel")), plain(" fails: "), quoted(data.get("reason"))]
        case _:
            words = [plain(f"the {cause} is not available: "), quoted(data.get("reason") or "no reason is known")]
    since = _seconds(data.get("since")) if event.name == "store_unavailable" else None
    causes = {cause: event.at if since is None else since}
    return Member(
        words,
        event.severity,
        causes,
        agent_id=event.agent_id,
        ends_at=ends_at,
        command=command,
        minor=data.get("agentsBlocked") is True,
    )


def _suspicious_login(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    data = event.data
    kind = str(data.get("type"))
    words: Words = [quoted(event.hostname), plain(": ")]
    words.append(plain(_LOGINS[kind]) if kind in _LOGINS else quoted(kind))
    if data.get("user"):
        words += [plain(", user "), quoted(data["user"])]
    if data.get("sourceIp"):
        words += [plain(" from "), quoted(data["sourceIp"])]
    if kind == "login_after_failures" and _number(data.get("count")):
        words.append(plain(f" after {_number(data.get('count'))} failures"))
    words += [*_response(data), *_lateness(event)]
    about = (kind, str(data.get("user")), str(data.get("sourceIp")))
    return words, about, _block_command(data.get("sourceIp"))


def _critical_threat(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    data = event.data
    words: Words = [quoted(event.hostname), plain(": "), quoted(data.get("type"))]
    named = [("from", "sourceIp"), ("file", "fileHash"), ("user", "user"), ("process", "process")]
    for word, key in named:
        if data.get(key):
            words += [plain(f" {word} "), quoted(data[key])]
    words += [*_response(data), *_lateness(event)]
    about = tuple(str(data.get(key)) for key in ("type", "sourceIp", "fileHash", "user", "process"))
    return words, about, _block_command(data.get("sourceIp"))


def _malware(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    data = event.data
    words = [plain("the same malware on "), plain(f"{_number(data.get('agents'))} hosts: "), quoted(data.get("value"))]
    return words, (str(data.get("incidentId")),), _incident_command(data, "show")


def _harmful_block(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    data = event.data
    address = data.get("value")
    words: Words = [quoted(event.hostname), plain(": ")] if event.hostname else []
    words += [plain("the block of "), quoted(address)]
    match event.name:
        case "block_cut_connections":
            words.append(plain(f" cut {_number(data.get('connections'))} connections to other services"))
        case "block_ineffective":
            words.append(plain(" has no effect: the address still gets through"))
        case _:
            words.append(plain(" was withdrawn"))
    if data.get("user"):
        words += [plain("; it logged in as "), quoted(data["user"])]
    if data.get("reason"):
        words += [plain("; "), quoted(data["reason"])]
    command = None if event.name == "block_withdrawn" else _lift_command(address)
    return words, (str(address),), command


def _mode_reverted(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    words = [quoted(event.hostname), plain(": protection was not confirmed and fell back to learning")]
    return words, (), "panguard guard confirm"


def _alerts_limited(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    limit, vouched = _number(event.data.get("limit")), event.data.get("vouched") is True
    words = [quoted(event.hostname), plain(f": more than {limit} suspicious events in a minute, severity ")]
    words.append(plain(f"{event.severity}{'' if vouched else ', not proven'}; the others of it are not named"))
    return words, (event.severity, str(vouched)), "panguard manager threats list"


def _muted(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    data = event.data
    hours = max(0.0, (_seconds(data.get("until")) or 0.0) - event.at) / 3600
    topic = "everything but got in" if data.get("topic") is None else str(data["topic"]).replace("_", " ")
    words = [plain("people are told nothing of "), quoted(topic), plain(f" for {hours:.1f} h: muted by ")]
    words.append(quoted(data.get("author")))
    scope = [str(data[key]) for key in ("site", "agentId") if data.get(key)]
    for each in scope:
        words += [plain(", for "), quoted(each)]
    words += [plain("; "), quoted(data["reason"])] if data.get("reason") else []
    return words, (topic, str(data.get("author")), *scope), None


def _other(event: Event) -> tuple[Words, tuple[str, ...], str | None]:
    data = event.data
    named = [quoted(event.hostname), plain(": ")] if event.hostname else []
    detail = next((data[key] for key in ("reason", "author", "name", "address") if data.get(key)), None)
    match event.name:
        case "agent_cloned":
            words: Words = [*named, plain("a second guard uses the identity of this agent")]
        case "agent_suspended":
            words = [*named, plain(f"suspended for {_number(data.get('seconds'))} s: it floods the broker")]
        case "responses_frozen" | "responses_thawed":
            state = "frozen" if event.name == "responses_frozen" else "running again"
            words = [plain(f"automatic response is {state}, by "), quoted(data.get("author"))]
        case "sign_in_refused":
            words = [plain(f"sign-in refused: {_number(data.get('count'))} wrong tokens from ")]
            words.append(quoted(data.get("address")))
        case "events_dropped":
            words = [plain(f"{_number(data.get('count'))} events not told: they were dropped before this channel")]
            words.append(plain(" had read them"))
        case _:
            words = [*named, plain(event.name.replace("_", " "))]
            words += [plain(": "), quoted(detail)] if detail is not None else []
    return words, (str(detail), str(data.get("name")), str(data.get("address"))), None


_OCCURRENCES: Mapping[str, Callable[[Event], tuple[Words, tuple[str, ...], str | None]]] = {
    "suspicious_login": _suspicious_login,
    "critical_threat": _critical_threat,
    "alerts_limited": _alerts_limited,
    "incident_opened": _malware,
    "block_cut_connections": _harmful_block,
    "block_ineffective": _harmful_block,
    "block_withdrawn": _harmful_block,
    "mode_reverted": _mode_reverted,
    "notifications_muted": _muted,
}


def _response(data: Mapping[str, Any]) -> Words:
    """Return what was done, never more than the outcome says; after a colon the outcome has a reason."""
    outcome, _, reason = str(data.get("outcome") or "").partition(":")
    words: Words
    match outcome:
        case "taken":
            return [plain(f"; {_DONE.get(str(data.get('action')), 'a response was taken')}")]
        case "would_be_taken":
            words = [plain("; nothing was done: the host is in mode learning")]
        case "refused" | "impossible" | "failed":
            words = [plain(f"; nothing was done: the response was {_OUTCOMES[outcome]}")]
        case "ineffective":
            words = [plain("; the response has no effect")]
        case _:
            action = str(data.get("action") or "none")
            return [plain("; nothing was done")] if action in _PASSIVE else [plain("; it states "), quoted(action)]
    return [*words, plain(": "), quoted(reason.strip())] if reason.strip() else words


def _lateness(event: Event) -> Words:
    """Return how long before its report a threat was, where that is long: a guard looks back at its first start."""
    happened = _seconds(event.data.get("eventTime"))
    late = 0.0 if happened is None else event.at - happened
    return [plain(f"; {late / 3600:.1f} h before its report")] if late > _LATE else []


def _sources(value: object) -> Words:
    sources = value if isinstance(value, list) else []
    words: Words = []
    for source in sources[:2]:
        if isinstance(source, Mapping):
            words += [
                plain(", " if words else ""),
                quoted(source.get("name")),
                plain(" is "),
                quoted(source.get("state")),
            ]
    return words or [plain("degraded")]


def _block_command(address: object) -> str | None:
    value = _address(address)
    return None if value is None else f"panguard manager blocks add {value} --for 4h"


def _lift_command(address: object) -> str | None:
    value = _address(address)
    return None if value is None else f"panguard manager blocks lift {value}"


def _incident_command(data: Mapping[str, Any], verb: str) -> str | None:
    incident_id = data.get("incidentId")
    if not isinstance(incident_id, str) or _ID.fullmatch(incident_id) is None:
        return None
    return f"panguard manager incidents {verb} {incident_id}"


def _address(value: object) -> str | None:
    """Return an address or network in normal form; None for any other text, which must not get into a command."""
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


def _seconds(value: object) -> float | None:
    """Return a time in seconds since 1970, given so or in ISO 8601; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < _LATEST else None
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return None
    return None
