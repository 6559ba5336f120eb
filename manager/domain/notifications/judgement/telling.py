"""Telling: the messages that are due at a time, within the limit on their number."""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from manager.domain.notifications.judgement.backlog import DRAINED
from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.groups.items import Words, weight
from manager.domain.notifications.judgement.groups.occurrences import OccurrenceGroup
from manager.domain.notifications.judgement.groups.standing import Deferral, Member, StandingGroup
from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.judgement.limits import MessageLimit
from manager.domain.notifications.judgement.mutes import Subject
from manager.domain.notifications.judgement.settings import JudgementSettings
from manager.domain.notifications.judgement.state import JudgementState
from manager.domain.notifications.judgement.wording.group_messages import (
    closing_message,
    occurrence_message,
    shared_message,
    standing_message,
)
from manager.domain.notifications.judgement.wording.summaries import backlog_message, digest_message
from manager.domain.notifications.message import Message, Quoted

_OPENING_SPACING, _URGENT_SPACING = 60.0, 300.0
"""Seconds between messages on suspicious logins beyond the limit: with a group that none has told, and without."""

_RANK = {kind: rank for rank, kind in enumerate(GroupKind)}


class _Due(NamedTuple):
    """A group with something to tell, or whose end is to be told."""

    at: float
    group: OccurrenceGroup | StandingGroup
    closes: bool = False


def tell(state: JudgementState, settings: JudgementSettings, now: float) -> list[Message]:
    """Return the messages that are due, and take over that they are told."""
    _end_what_is_over(state, settings, now)
    messages = []
    if state.backlog is not None and state.backlog.due(now) <= now:
        messages += _summary(state, settings, now)
    due = [each for each in _waiting(state, now) if each.at <= now]
    due.sort(key=lambda each: (_RANK[each.group.thread.kind], each.group.thread.id))
    urgent = [each for each in due if each.group.thread.rule.urgent]
    others = [each for each in due if not each.group.thread.rule.urgent]
    messages += _within_limit(state, state.urgent_limit, urgent, settings, now)
    messages += _within_limit(state, state.limit, others, settings, now)
    if state.digest.due(settings) <= now:
        messages += _digest(state, now)
    _end_what_is_over(state, settings, now)
    return messages


def next_due(state: JudgementState, settings: JudgementSettings, now: float) -> float:
    """Return when `tell` has something to do next, if no event comes."""
    times = [state.digest.due(settings)]
    if state.backlog is not None:
        drained = state.backlog.taken + DRAINED
        times += [state.backlog.due(now), drained if drained > now else inf]
    for each in _waiting(state, now):
        limit = state.urgent_limit if each.group.thread.rule.urgent else state.limit
        room_at = limit.next_at(now, settings.most_messages, settings.limit_window, _spacing([each]))
        times.append(max(each.at, room_at))
    for occurrences in state.occurrences.values():
        ends = occurrences.ends_at(settings.escalate_after)
        times.append(inf if ends is None else ends)
    times += [standing.expires_at() for standing in state.standing.values()]
    return min(times)


def deferral(state: JudgementState, thread: Thread, now: float) -> Deferral:
    """Return the function that defers a group's members while they are muted or flap."""

    def until(_key: str, member: Member) -> float:
        subject = Subject(thread.organization_id, thread.site, member.agent_id)
        muted = state.mutes.until(thread.kind, subject, now)
        flaps = None if member.agent_id is None else state.flapping.until(member.agent_id, now)
        return max(muted or 0.0, flaps or 0.0)

    return until


def _waiting(state: JudgementState, now: float) -> Iterator[_Due]:
    """Yield the groups with something to tell, each with its time."""
    for occurrences in state.occurrences.values():
        at = occurrences.due(now)
        if at is not None:
            yield _Due(at, occurrences)
    if state.backlog is not None and now < state.backlog.taken + DRAINED:
        return  # what stands is told by the summary, or after it
    for standing in state.standing.values():
        closes, due = standing.closes_at(now), standing.due(now, deferral(state, standing.thread, now))
        if closes < inf:
            yield _Due(closes, standing, closes=True)
        elif due < inf:
            yield _Due(due, standing)


def _within_limit(
    state: JudgementState, limit: MessageLimit, due: list[_Due], settings: JudgementSettings, now: float
) -> list[Message]:
    if not due:
        return []
    room = limit.room(len(due), now, settings.most_messages, settings.limit_window, _spacing(due))
    messages = [_message(state, each, now) for each in due[: room.single]]
    rest = due[room.single :]
    if room.shared and rest:
        messages.append(_shared(state, rest, now))
    limit.count(len(messages), now)
    return messages


def _spacing(due: list[_Due]) -> float:
    """Return the spacing of messages beyond the limit; what is not urgent waits for the limit."""
    threads = [each.group.thread for each in due]
    if not all(thread.rule.urgent for thread in threads):
        return inf
    return _URGENT_SPACING if all(thread.messages for thread in threads) else _OPENING_SPACING


def _message(state: JudgementState, due: _Due, now: float) -> Message:
    group = due.group
    if isinstance(group, OccurrenceGroup):
        return occurrence_message(group, now)
    if due.closes:
        return _close(state, group, now)
    return standing_message(group, group.tell(now, deferral(state, group.thread, now)), now)


def _shared(state: JudgementState, due: list[_Due], now: float) -> Message:
    group_id, urgent = state.new_id("shared"), due[0].group.thread.rule.urgent
    messages = []
    for each in sorted(due, key=_gravity) if urgent else due:
        messages.append(_message(state, each, now))
        each.group.thread.shared = group_id
    return shared_message(group_id, now, messages, urgent=urgent)


def _gravity(due: _Due) -> tuple[bool, tuple[bool, int, float]]:
    """Return a key that sorts groups that no message has told first, then those with a heavier item."""
    items = due.group.untold.values() if isinstance(due.group, OccurrenceGroup) else ()
    return due.group.thread.messages > 0, min((weight(item) for item in items), default=(True, 0, inf))


def _close(state: JudgementState, group: StandingGroup, now: float) -> Message:
    message = closing_message(group, now)
    _restart(state, group, now)
    return message


def _restart(state: JudgementState, group: StandingGroup, now: float) -> None:
    """Continue with what still stands of a closed group; its closing message has told it."""
    old, deferred = group.thread, deferral(state, group.thread, now)
    for key, member in group.members.items():
        member.told |= deferred(key, member) <= now
    thread = Thread(state.new_id(old.kind), old.kind, old.organization_id, old.site)
    thread.quiet, thread.quiet_told = old.quiet, True
    if any(member.told for member in group.members.values()):
        thread.messages, thread.first_told, thread.last_told = 1, now, now
        thread.acknowledged_by, thread.escalated = old.acknowledged_by, old.escalated
    group.restart(thread)


def _summary(state: JudgementState, settings: JudgementSettings, now: float) -> list[Message]:
    backlog, state.backlog = state.backlog, None
    if backlog is None:
        return []
    lines: list[Words] = []
    for group in state.standing.values():
        if group.is_told and group.low_since is not None:
            _restart(state, group, now)
        deferred = deferral(state, group.thread, now)
        if group.due(now, deferred) <= now:
            message = standing_message(group, group.tell(now, deferred), now)
            lines.append([(isinstance(part, Quoted), part.text) for part in message.title])
    is_due = state.digest.due(settings) <= now
    if not (lines or backlog.items or backlog.over):
        return []
    counts = state.digest.take(now) if is_due else None
    return [backlog_message(backlog, now, lines, counts)]


def _digest(state: JudgementState, now: float) -> list[Message]:
    since = state.digest.since or now
    counts = state.digest.take(now)
    standing = dict.fromkeys((GroupKind.WAITS, GroupKind.BLIND), 0)
    for group in state.standing.values():
        if group.thread.kind in standing:
            standing[group.thread.kind] += sum(each.told for each in group.members.values()) + group.overflow
    if not counts and not any(standing.values()):
        return []
    return [digest_message(counts, since, now, state.digest.last, standing)]


def _end_what_is_over(state: JudgementState, settings: JudgementSettings, now: float) -> None:
    for key, occurrences in list(state.occurrences.items()):
        ends = occurrences.ends_at(settings.escalate_after)
        if ends is not None and ends <= now:
            del state.occurrences[key]
    for key, standing in list(state.standing.items()):
        standing.expire(now)
        if not standing.count and not standing.is_told:
            del state.standing[key]
