"""Messages on groups: titles with counts, a line for each thing, and the command that undoes or acts."""

from collections import Counter
from collections.abc import Iterable, Sequence

from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.groups.items import ROOM, Item, Words, line_of, most_severe, plain, quoted
from manager.domain.notifications.judgement.groups.occurrences import OccurrenceGroup
from manager.domain.notifications.judgement.groups.standing import Member, StandingGroup
from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.message import Change, Line, Message, Plain
from schemas.threats import Severity

_NAMED = 40
"""The maximum number of hosts that the last line of a long list names."""

_OCCURRED = {
    GroupKind.WE_HURT: ("1 response did harm or failed", "{} responses did harm or failed"),
    GroupKind.FLAPPING: (
        "1 agent becomes silent or degraded again and again",
        "{} agents become silent or degraded again and again",
    ),
    GroupKind.NOTICE: ("1 notice", "{} notices"),
}
STAND = {
    GroupKind.WAITS: ("1 response waits for approval", "{} responses wait for approval"),
    GroupKind.BLIND: ("1 agent is blind", "{} agents are blind"),
    GroupKind.SYSTEM: ("The manager has trouble", "The manager has {} troubles"),
}
_OVER = {
    GroupKind.WAITS: "No response waits for approval any longer",
    GroupKind.BLIND: "No longer blind",
    GroupKind.SYSTEM: "The manager's trouble is over",
}


def counted(forms: tuple[str, str], number: int) -> str:
    """Return the form for one or many, with the number."""
    return forms[0] if number == 1 else forms[1].format(number)


def place(thread: Thread) -> Words:
    """Return where a group is: its organization and site."""
    words: Words = []
    if thread.organization_id is not None:
        words += [plain(" in "), quoted(thread.organization_id)]
    if thread.site:
        words += [plain(" at "), quoted(thread.site)]
    return words


def duration(seconds: float) -> str:
    """Return a duration in its two greatest units, rounded down."""
    minutes = max(0, int(seconds)) // 60
    if minutes < 60:  # noqa: PLR2004 -- minutes of an hour
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004 -- hours of a day
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def got_in_title(number: int, others: int) -> str:
    """Return the title for suspicious events, with the number of those that are no logins.

    It says that somebody got in only where a login is among them.
    """
    logins = number - others
    events = counted(("1 suspicious event", "{} suspicious events"), number)
    if logins <= 0:
        return f"{events}, no login" if number == 1 else f"{events}, no login among them"
    among = "" if others == 0 else f", {counted(('1 login', '{} logins'), logins)} among them"
    return f"Got in: {events}{among}"


def others_of(items: Iterable[Item]) -> int:
    """Return the number of events that are no logins among items."""
    return sum(item.count for item in items if not item.is_login)


def occurrence_title(group: OccurrenceGroup) -> Words:
    """Return the title for what is untold in a group."""
    number = sum(item.count for item in group.untold.values()) + group.untold_more
    words = _title(group, number, others_of(group.untold.values()) + group.untold_others)
    if group.total > number:
        words.append(plain(f" ({group.total} in all)"))
    return words


def whole_title(group: OccurrenceGroup) -> Words:
    """Return the title for everything in a group."""
    return _title(group, group.total, group.others)


def _title(group: OccurrenceGroup, number: int, others: int) -> Words:
    kind = group.thread.kind
    text = got_in_title(number, others) if kind is GroupKind.GOT_IN else counted(_OCCURRED[kind], number)
    return [plain(text), *place(group.thread)]


def occurrence_message(group: OccurrenceGroup, now: float) -> Message:
    """Return the message on what is untold in a group; it is told with this."""
    title, more, hosts = occurrence_title(group), group.untold_more, group.untold_hosts
    items = group.tell()
    command = next((item.command for item in items if item.command is not None), None)
    lines = item_lines(items, more, ROOM, hosts)
    return _message(group.thread, now, _change(group.thread), title, lines, [i.severity for i in items], command)


def standing_title(group: StandingGroup) -> Words:
    """Return the title for what stands in a group."""
    return [plain(counted(STAND[group.thread.kind], group.count)), *place(group.thread)]


def standing_message(group: StandingGroup, members: Sequence[Member], now: float) -> Message:
    """Return the message on what stands in a group, with the members that it names."""
    title = [plain(counted(STAND[group.thread.kind], len(members) + group.overflow)), *place(group.thread)]
    lines = [_overview(group, members, now)]
    lines += member_lines(members, now, ROOM - 1)
    command = next((each.command for each in members if each.command is not None), None)
    severities = [each.severity for each in members]
    return _message(group.thread, now, _change(group.thread), title, lines, severities, command)


def closing_message(group: StandingGroup, now: float) -> Message:
    """Return the message on the end of a group, with the members that still stand."""
    thread = group.thread
    title: Words = [plain(_OVER[thread.kind]), *place(thread)]
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(group.ended.items())) or "over"
    lines: list[Words] = [[plain(f"{outcomes}, after {duration(now - (thread.first_told or now))}")]]
    left = list(group.members.values())
    if left:
        title = [plain(f"{title[0][1]}, apart from {group.count}"), *title[1:]]
        lines += member_lines(left, now, ROOM - 1)
    return _message(thread, now, Change.CLOSED, title, lines, [Severity.LOW], None)


def escalation_message(thread: Thread, now: float, title: Words, lines: list[Words], severity: Severity) -> Message:
    """Return the message to the second channel on a group that nobody acknowledged."""
    waited = duration(now - (thread.first_told or now))
    head: Words = [plain(f"Nobody has acknowledged for {waited}: "), *title]
    return Message(
        id=f"{thread.id}.escalated",
        group=thread.id,
        change=Change.UPDATED,
        severity=severity,
        title=line_of(head),
        lines=tuple(line_of(each) for each in lines[:ROOM]),
        at=now,
        organization_id=thread.organization_id,
        command=f"panguard manager notifications acknowledge {thread.id}",
    )


def shared_message(group_id: str, now: float, messages: Sequence[Message], *, urgent: bool) -> Message:
    """Return the one message in place of several, for which the limit leaves no room.

    It has the title of each; of urgent ones also the first line, and the organizations of those that have no line.
    """
    head = f"{len(messages)} groups of {'suspicious events' if urgent else 'events'} in one message: there are many"
    shown = list(messages) if len(messages) <= ROOM else list(messages[: ROOM - 1])
    lines: list[Line] = [
        (*each.title, Plain(": "), *each.lines[0]) if urgent and each.lines else each.title for each in shown
    ]
    rest = messages[len(shown) :]
    if rest:
        words: Words = [plain(f"and {len(rest)} more")]
        organizations = list(dict.fromkeys(each.organization_id for each in rest if each.organization_id is not None))
        if urgent and organizations:
            words += [plain(" in "), *_names(organizations, "organizations")]
        lines.append(line_of(words))
    return Message(
        id=f"{group_id}.1",
        group=group_id,
        change=Change.UPDATED,
        severity=most_severe([each.severity for each in messages]),
        title=line_of([plain(head)]),
        lines=tuple(lines),
        at=now,
        command="panguard manager now",
    )


def item_lines(items: Sequence[Item], more: int, room: int, more_hosts: Sequence[str] = ()) -> list[Words]:
    """Return a line for each item; where there is no room for all, the last line names the hosts of the rest.

    Args:
        items: the items.
        more: the number of those that are not among them.
        room: the maximum number of lines.
        more_hosts: hosts of those that are not among them.
    """
    if len(items) + (more > 0) <= room:
        lines = [_item_line(item) for item in items]
        return [*lines, [plain(f"and {more} more")]] if more else lines
    shown, rest = items[: room - 1], items[room - 1 :]
    named = {item.hostname for item in shown}
    hosts = list(dict.fromkeys([*(item.hostname for item in rest if item.hostname), *more_hosts]))
    hosts.sort(key=named.__contains__)  # those that no line names come first
    words: Words = [plain(f"and {sum(item.count for item in rest) + more} more")]
    if hosts:
        words.append(plain(" on "))
        words += _names(hosts)
    return [*(_item_line(item) for item in shown), words]


def member_lines(members: Sequence[Member], now: float, room: int) -> list[Words]:
    """Return a line for each member; where there is no room for all, the last line counts the rest."""
    if len(members) <= room:
        return [_member_line(each, now) for each in members]
    shown, rest = members[: room - 1], len(members) - room + 1
    return [*(_member_line(each, now) for each in shown), [plain(f"and {rest} more")]]


def _overview(group: StandingGroup, members: Sequence[Member], now: float) -> Words:
    first = min(each.since for each in members)
    ends = min((each.ends_at for each in members if each.ends_at is not None), default=None)
    if ends is not None:
        return [plain(f"time left: {duration(ends - now)} for the first of them")]
    causes = Counter(cause for each in members for cause in each.causes)
    named = ", ".join(f"{number} {cause}" for cause, number in sorted(causes.items()))
    new = f"; {group.count - len(members)} more" if group.count > len(members) else ""
    return [plain(f"{named}, the first for {duration(now - first)}{new}")]


def _item_line(item: Item) -> Words:
    return [*item.words, plain(f" ({item.count} times)")] if item.count > 1 else item.words


def _member_line(member: Member, now: float) -> Words:
    if member.ends_at is not None:
        return [*member.words, plain(f", {duration(member.ends_at - now)} left")]
    causes = " and ".join(sorted(member.causes)) if member.agent_id else ""
    return [*member.words, plain(f" ({causes + ' ' if causes else ''}for {duration(now - member.since)})")]


def _names(names: Sequence[str], kind: str = "hosts") -> Words:
    words: Words = []
    for name in names[:_NAMED]:
        words += [plain(", " if words else ""), quoted(name)]
    if len(names) > _NAMED:
        words.append(plain(f" and {len(names) - _NAMED} further {kind}"))
    return words


def _change(thread: Thread) -> Change:
    return Change.OPENED if thread.messages == 0 else Change.UPDATED


def _message(  # noqa: PLR0917 -- each part of a message once
    thread: Thread,
    now: float,
    change: Change,
    title: Words,
    lines: Sequence[Words],
    severities: list[Severity],
    command: str | None,
) -> Message:
    return Message(
        id=thread.told(now),
        group=thread.id,
        change=change,
        severity=most_severe(severities),
        title=line_of(title),
        lines=tuple(line_of(each) for each in lines),
        at=now,
        organization_id=thread.organization_id,
        command=command,
    )
