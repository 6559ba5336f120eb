"""Escalation: groups that nobody acknowledged in time are told to a second channel, once each."""

from math import inf

from manager.domain.notifications.judgement.groups.items import ROOM, by_weight, most_severe
from manager.domain.notifications.judgement.settings import JudgementSettings
from manager.domain.notifications.judgement.state import JudgementState
from manager.domain.notifications.judgement.wording.group_messages import (
    escalation_message,
    item_lines,
    member_lines,
    standing_title,
    whole_title,
)
from manager.domain.notifications.message import Message


def escalate(state: JudgementState, settings: JudgementSettings, now: float) -> list[Message]:
    """Return the messages that are due to the second channel; they count as sent."""
    messages = []
    for occurrences in state.occurrences.values():
        at = occurrences.thread.escalation_at(settings.escalate_after)
        if at is not None and at <= now:
            occurrences.thread.escalated = True
            items = [*by_weight(list(occurrences.untold.values())), *occurrences.told]
            lines = item_lines(items, 0, ROOM)
            severity = most_severe([item.severity for item in items])
            title = whole_title(occurrences)
            messages.append(escalation_message(occurrences.thread, now, title, lines, severity))
    for standing in state.standing.values():
        at = standing.thread.escalation_at(settings.escalate_after)
        if at is not None and at <= now and standing.low_since is None and standing.is_urgent:
            standing.thread.escalated = True
            members = [each for each in standing.members.values() if each.told]
            severity = most_severe([each.severity for each in members])
            lines = member_lines(members, now, ROOM)
            messages.append(escalation_message(standing.thread, now, standing_title(standing), lines, severity))
    return messages


def escalation_due(state: JudgementState, settings: JudgementSettings) -> float:
    """Return when the next group is to be escalated; infinity if none is."""
    threads = [group.thread for group in state.occurrences.values()]
    threads += [group.thread for group in state.standing.values() if group.low_since is None and group.is_urgent]
    times = (thread.escalation_at(settings.escalate_after) for thread in threads)
    return min((at for at in times if at is not None), default=inf)
