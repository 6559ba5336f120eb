"""Absorption: takes an event into groups, digest, backlog and mutes, without telling anything."""

from math import ceil, inf
from typing import NamedTuple

from manager.domain.notifications.event import Event
from manager.domain.notifications.judgement.backlog import OLD, Backlog
from manager.domain.notifications.judgement.classification import (
    BEGINNINGS,
    CONTROLS,
    ENDINGS,
    GroupKind,
    member_of,
    occurrence,
)
from manager.domain.notifications.judgement.flapping import FALLS, WINDOW
from manager.domain.notifications.judgement.groups.items import Item, plain, quoted
from manager.domain.notifications.judgement.groups.occurrences import OccurrenceGroup
from manager.domain.notifications.judgement.groups.standing import REMINDER, StandingGroup
from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.judgement.mutes import Subject, mute_of
from manager.domain.notifications.judgement.quiet_hours import QuietHours
from manager.domain.notifications.judgement.state import JudgementState, group_key
from manager.domain.notifications.judgement.wording.event_lines import describe, describe_member
from manager.domain.notifications.judgement.wording.group_messages import duration
from schemas.threats import Severity

_OUTCOMES = {"agent_offline": "signed off", "agent_removed": "removed", "approval_over": "over"}


class _Arrival(NamedTuple):
    """An event with the time at which it is taken and the quiet hours that hold for it."""

    event: Event
    now: float
    quiet: QuietHours | None

    @property
    def is_old(self) -> bool:
        """Whether it belongs to the backlog."""
        return self.now - self.event.at > OLD


def absorb(state: JudgementState, event: Event, now: float, quiet: QuietHours | None) -> float:
    """Take an event into the state.

    Returns:
        A time before which the event alone has no effect; infinity if it has none.
    """
    kind, arrival = occurrence(event), _Arrival(event, now, quiet)
    is_muted = kind is not None and state.mutes.until(kind, _place(event), now) is not None
    state.digest.record(event, at_once=kind is GroupKind.GOT_IN, is_muted=is_muted)
    if arrival.is_old and state.backlog is not None:
        state.backlog.taken = now  # it is not read to its end
    if event.name in CONTROLS:
        _control(state, arrival)
        return now
    if kind is not None:
        subject, item = describe(event)
        return _occur(state, arrival, kind, subject, item)
    if event.name in BEGINNINGS:
        return _begin(state, arrival)
    if event.name in ENDINGS:
        return _end(state, arrival)
    return inf


def _place(event: Event) -> Subject:
    return Subject(event.organization_id, event.site, event.agent_id)


def _occur(state: JudgementState, arrival: _Arrival, kind: GroupKind, subject: str, item: Item) -> float:
    event = arrival.event
    if state.mutes.until(kind, _place(event), arrival.now) is not None:
        state.digest.count("muted")
        return inf
    site = event.site if kind is GroupKind.FLAPPING else None
    return _gather(state, arrival, Thread(f"{kind}-{event.sequence}", kind, event.organization_id, site), subject, item)


def _gather(
    state: JudgementState, arrival: _Arrival, thread: Thread, subject: str, item: Item, *, part: str | None = None
) -> float:
    """Add an occurrence to its group, which has the thread if there is none yet; groups of a kind may be parted."""
    event, now, kind = arrival.event, arrival.now, thread.kind
    if arrival.is_old:
        backlog = _backlog(state, arrival)
        backlog.add(kind, subject, item)
        return backlog.due(now)
    key = group_key(kind, thread.organization_id, part or thread.site)
    group = state.occurrences.get(key)
    if group is None:
        group = state.occurrences[key] = OccurrenceGroup(thread)
    group.add(subject, item, now, arrival.quiet)
    group.thread.note_incident(event.data.get("incidentId"))
    due = group.due(now)
    return now if due is None else due


def _begin(state: JudgementState, arrival: _Arrival) -> float:
    event, now = arrival.event, arrival.now
    kind, cause = BEGINNINGS[event.name]
    site = event.site if kind is GroupKind.BLIND else None
    place = group_key(kind, event.organization_id, site)
    group = state.standing.get(place)
    if group is None:
        thread = Thread(f"{kind}-{event.sequence}", kind, event.organization_id, site)
        group = state.standing[place] = StandingGroup(thread)
    member, quiet_before = describe_member(event, cause), group.thread.quiet
    member.causes = {cause: min(member.since, now)}
    key = member_of(event)
    is_new = group.begin(key, member, now, arrival.quiet)
    member = group.members.get(key, member)
    times = [float(ceil(group.ripe_at(member)))]  # as `Thread.next_at` has it
    if quiet_before and group.thread.quiet != quiet_before:  # what was held back may be due
        times.append(now)
    if member.ends_at is not None:
        times += [member.ends_at, member.ends_at - REMINDER]
    if arrival.is_old:
        times.append(_backlog(state, arrival).due(now))
    if is_new and event.agent_id is not None and state.flapping.fell(event.agent_id, min(event.at, now)):
        words = [quoted(event.hostname), plain(f" fell {FALLS} times in {WINDOW / 3600:.0f} h")]
        item = Item(words, event.at, event.severity, event.hostname)
        times.append(_occur(state, arrival, GroupKind.FLAPPING, event.agent_id, item))
    return min(times)


def _end(state: JudgementState, arrival: _Arrival) -> float:
    event = arrival.event
    kind, causes = ENDINGS[event.name]
    site = event.site if kind is GroupKind.BLIND else None
    key, member = group_key(kind, event.organization_id, site), member_of(event)
    group = state.standing.get(key)
    if group is None or member not in group.members:  # its agent may have moved meanwhile
        others = (name for name, each in state.standing.items() if each.thread.kind is kind and member in each.members)
        key = next(others, key)
        group = state.standing.get(key)
    due = inf
    if group is not None:
        due = _end_in(state, arrival, group, causes)
        if not group.count and not group.is_told:
            del state.standing[key]
    if event.agent_id is not None and event.name == "agent_removed":
        state.flapping.removed(event.agent_id)
    return due


def _end_in(state: JudgementState, arrival: _Arrival, group: StandingGroup, causes: frozenset[str]) -> float:
    event, now = arrival.event, arrival.now
    key = member_of(event)
    member = group.members.get(key)
    outcome = str(event.data.get("state") or _OUTCOMES.get(event.name, "well again"))
    if not group.end(key, causes, outcome, now) or member is None:
        return now if group.is_told else inf
    if event.agent_id is not None:
        state.flapping.rose(event.agent_id, min(event.at, now))
    lasted = member.told or event.at >= group.ripe_at(member)
    if arrival.is_old and lasted:
        backlog = _backlog(state, arrival)
        backlog.add_over(group.thread.kind)
        return min(backlog.due(now), group.closes_at(now))
    if lasted and not member.told and group.thread.kind is GroupKind.BLIND:
        state.digest.count("unseen")
    if lasted and not member.told and group.thread.kind is GroupKind.SYSTEM:
        # the store cannot hold the event on its own trouble before that is over
        words = [*member.words, plain(f"; this lasted {duration(event.at - member.since)} and is over")]
        return _occur(state, arrival, GroupKind.NOTICE, key, Item(words, event.at, member.severity))
    return group.closes_at(now)


def _backlog(state: JudgementState, arrival: _Arrival) -> Backlog:
    event = arrival.event
    if state.backlog is None:
        thread = Thread(f"backlog-{event.sequence}", GroupKind.NOTICE)
        state.backlog = Backlog(thread, event.at, event.at)
    state.backlog.record(event.at, arrival.now, arrival.quiet)
    return state.backlog


def _control(state: JudgementState, arrival: _Arrival) -> None:
    event, now, data = arrival.event, arrival.now, arrival.event.data
    author = str(data.get("author"))
    match event.name:
        case "notifications_muted":
            mute = mute_of(event)
            state.mutes.add(mute, now)
            if mute.is_grave:
                thread = Thread(f"{GroupKind.NOTICE}-{event.sequence}", GroupKind.NOTICE, event.organization_id)
                subject, item = describe(event)
                item.severity = Severity.HIGH
                _gather(state, arrival._replace(quiet=None), thread, subject, item, part="mutes")
        case "notifications_unmuted":
            state.mutes.remove(mute_of(event))
        case "notification_acknowledged":
            _acknowledge(state, author, group_id=str(data.get("group")))
        case "incident_work" if str(data.get("action")) in {"acknowledge", "close"}:
            _acknowledge(state, author, incident_id=str(data.get("incidentId")))


def _acknowledge(state: JudgementState, author: str, group_id: str = "", incident_id: str = "") -> None:
    """Record who acknowledged a group, by its id, that of a message it shared, or an incident in it."""
    for occurrences in state.occurrences.values():
        thread = occurrences.thread
        if group_id in {thread.id, thread.shared} or incident_id in thread.incidents:
            thread.acknowledged_by = author
    for standing in state.standing.values():
        thread = standing.thread
        if group_id in {thread.id, thread.shared} or incident_id in standing.members:
            thread.acknowledged_by = author
