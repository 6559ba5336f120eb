"""Messages on many events: the daily digest, and the summary of a backlog."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from manager.domain.notifications.judgement.backlog import Backlog
from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.groups.items import (
    ROOM,
    Item,
    Words,
    by_weight,
    line_of,
    most_severe,
    plain,
)
from manager.domain.notifications.judgement.wording.group_messages import (
    STAND,
    counted,
    duration,
    got_in_title,
    item_lines,
    others_of,
)
from manager.domain.notifications.message import Change, Message
from schemas.threats import Severity

_GOT_IN_LINES = 4
"""The lines for suspicious events that the other groups of a backlog leave at least."""

_NUMBERS: Mapping[str, tuple[str, str]] = {
    "suspicious": ("1 suspicious event, told apart from this", "{} suspicious events, told apart from this"),
    "mistyped": ("1 login after a few mistakes", "{} logins after a few mistakes"),
    "unusual": ("1 other login of low severity", "{} other logins of low severity"),
    "incident_opened": ("1 incident on several hosts", "{} incidents on several hosts"),
    "answered": ("1 decision to respond", "{} decisions to respond"),
    "muted": ("1 event of muted groups", "{} events of muted groups"),
    "unseen": ("1 outage that began and ended untold", "{} outages that began and ended untold"),
    "agent_offline": ("1 sign-off of an agent", "{} sign-offs of agents"),
    "agent_registered": ("1 agent registered", "{} agents registered"),
    "agent_removed": ("1 agent removed", "{} agents removed"),
    "blocks_added": ("1 block by hand", "{} blocks by hand"),
    "policy_created": ("1 change of policies", "{} changes of policies"),
    "signed_in": ("1 sign-in", "{} sign-ins"),
}
_BACKLOG: Mapping[GroupKind, tuple[str, str]] = {
    GroupKind.WE_HURT: ("1 response did harm or failed", "{} responses did harm or failed"),
    GroupKind.FLAPPING: ("1 agent flapped", "{} agents flapped"),
    GroupKind.NOTICE: ("1 notice", "{} notices"),
}
_PASSED: Mapping[GroupKind, tuple[str, str]] = {
    GroupKind.WAITS: ("1 approval is over", "{} approvals are over"),
    GroupKind.BLIND: ("1 agent was blind and is well again", "{} agents were blind and are well again"),
    GroupKind.SYSTEM: ("1 trouble of the manager is over", "{} troubles of the manager are over"),
}


def digest_message(
    counts: Mapping[str, int], since: float, now: float, sequence: int, standing: Mapping[GroupKind, int]
) -> Message:
    """Return the digest of the numbers since a time, with the numbers of what stands now."""
    group = f"digest-{datetime.fromtimestamp(now, UTC).date().isoformat()}-{sequence}"
    texts = []
    if counts.get("threats"):
        texts.append(f"{counts.get('taken', 0)} of {counts['threats']} reported threats were blocked by the hosts")
    texts += [f"now: {counted(STAND[kind], number)}" for kind, number in standing.items() if number]
    texts += [counted(forms, counts[name]) for name, forms in _NUMBERS.items() if counts.get(name)]
    if len(texts) > ROOM:
        texts = [*texts[: ROOM - 1], ", ".join(texts[ROOM - 1 :])]
    return Message(
        id=f"{group}.1",
        group=group,
        change=Change.DIGEST,
        severity=Severity.LOW,
        title=line_of([plain(f"Digest of {duration(now - since)}: {numbers_of(counts)}")]),
        lines=tuple(line_of([plain(each)]) for each in texts),
        at=now,
    )


def numbers_of(counts: Mapping[str, int]) -> str:
    """Return the number that stands for what was blocked and did not get in."""
    return f"{counts.get('taken', 0)} threats blocked"


def backlog_message(
    backlog: Backlog, now: float, standing: Sequence[Words], counts: Mapping[str, int] | None
) -> Message:
    """Return the summary of a backlog.

    Args:
        backlog: its events.
        now: the time.
        standing: a line for each group of conditions that stand.
        counts: the numbers of a digest that is due, too; None where none is due.
    """
    got_in = by_weight(list(backlog.items.get(GroupKind.GOT_IN, {}).values()))
    more = backlog.more.get(GroupKind.GOT_IN, 0)
    number = sum(item.count for item in got_in) + more
    rest = _rest(backlog, standing, counts)
    kept = ROOM - min(len(got_in), _GOT_IN_LINES)
    if len(rest) > kept:
        rest = [*rest[: kept - 1], [plain(f"and {len(rest) - kept + 1} further groups")]]
    lines = item_lines(got_in, more, ROOM - len(rest)) if got_in else []
    ended = f"the last {duration(now - backlog.newest)} ago"
    head = f"Not told in time: {counted(('1 event', '{} events'), backlog.events)}, {ended}"
    if number:
        head = f"{got_in_title(number, others_of(got_in) + backlog.more_others)}, not told in time"
    every: list[Item] = [item for items in backlog.items.values() for item in items.values()]
    return Message(
        id=backlog.thread.told(now),
        group=backlog.thread.id,
        change=Change.DIGEST,
        severity=most_severe([item.severity for item in every]),
        title=line_of([plain(head)]),
        lines=tuple(line_of(each) for each in [*lines, *rest]),
        at=now,
        command=next((item.command for item in got_in if item.command is not None), None),
    )


def _rest(backlog: Backlog, standing: Sequence[Words], counts: Mapping[str, int] | None) -> list[Words]:
    lines = list(standing)
    for kind, forms in _BACKLOG.items():
        number = sum(item.count for item in backlog.items.get(kind, {}).values()) + backlog.more.get(kind, 0)
        if number:
            lines.append([plain(counted(forms, number))])
    lines += [[plain(counted(_PASSED[kind], number))] for kind, number in sorted(backlog.over.items())]
    if counts is not None:
        lines.append([plain(f"meanwhile {numbers_of(counts)}")])
    return lines
