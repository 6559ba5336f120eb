"""Piecewise commit: writes a rejected batch in smaller transactions, and drops only the change that does not fit.

A batch becomes a list of pieces, each of which is consistent by itself: one removal, one agent, one incident with its
members and entries, the reports of one submission, and so on. The list is committed by bisection. A piece that the
store rejects alone is dropped: a report is refused, any other change becomes a dead letter and an error for its caller.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import structlog

from manager.domain.protection.measures import ReportedMeasure
from manager.domain.response.manual_blocks import ManualBlock, ManualHolder
from manager.engine.batch import Batch, Changes, CommandAnswer, DeadLetter, ThreatRow, Undo
from manager.engine.commands.block_requests import BlocksAdded
from manager.engine.context import Context, ReceivedReport
from manager.engine.failure_isolation import isolated
from manager.engine.messages.reports import ReportKey, report_key
from manager.engine.origin import MANAGER
from manager.engine.ports import Store
from manager.engine.response import manual_response
from manager.errors import StoreRejected

log = structlog.get_logger(__name__)

Measures = Mapping[ReportKey, tuple[ReportedMeasure, float]]

_REFUSAL = "the store cannot hold this report"


@dataclass(slots=True)
class Piece:
    """Changes that are committed or dropped together.

    Attributes:
        changes: One part of a batch.
        subject: The id or scope that the changes are about, such as an agent id.
        rows: The reports of the piece; a piece has either reports or other changes.
    """

    changes: Changes
    subject: str
    rows: tuple[ThreatRow, ...] = ()


class PiecewiseCommit:
    """The pieces of a rejected batch that are not committed yet; `run` may be called again until it returns.

    Args:
        context: the rejected batch.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: list[ThreatRow] = []
        self._dropped_agents: set[str] = set()
        self._rejected_blocks: set[str] = set()
        pieces = [*_other_pieces(context.batch), *_report_pieces(context), *_decided_pieces(context.batch.changes)]
        self._groups = [pieces] if pieces else []
        """A stack: the next group is the last one."""

    def run(self, store: Store) -> None:
        """Commit the remaining pieces; afterwards the batch holds the reports that were stored.

        Raises:
            StoreUnavailable: some pieces are not committed yet.
        """
        while self._groups:
            group = self._groups[-1]
            try:
                store.commit(_merged(group))
            except StoreRejected as error:
                self._groups.pop()
                if len(group) > 1:
                    middle = len(group) // 2
                    self._groups += [group[middle:], group[:middle]]
                else:
                    self._drop(group[0], str(error))
            else:
                self._groups.pop()
                self._kept += [row for piece in group for row in piece.rows]
        self._context.batch.changes.threats = self._kept

    def _drop(self, piece: Piece, reason: str) -> None:
        log.error("change_rejected", subject=piece.subject, reason=reason)
        context = self._context
        context.fleet.counters["changes_rejected"] += 1
        if piece.rows:
            self._refuse(piece)
        else:
            self._drop_effects(piece, reason)
        if not piece.changes.dead_letters:
            size = sum(len(row.document) for row in piece.rows)
            letter = DeadLetter(context.batch.now.wall, piece.subject, reason[:512], size, b"")
            self._groups.append([Piece(Changes(dead_letters=[letter]), piece.subject)])

    def _refuse(self, piece: Piece) -> None:
        """Change reports from stored to refused, unless the cause is that their agent was dropped."""
        context = self._context
        keys = {(row.agent_number, row.threat_id) for row in piece.rows}
        for submission in context.decided_submissions:
            if any(report_key(report) in keys for report in submission.reports):
                submission.refuse(0 if len(submission.reports) == 1 else None, _REFUSAL)
        for row in piece.rows:
            agent = context.fleet.registry.find_by_number(row.agent_number)
            agent_id = "" if agent is None else agent.agent_id
            answered = (agent_id, row.threat_id)
            if answered in context.stored:  # twice, if the report came twice
                context.stored[:] = [each for each in context.stored if each != answered]
                if agent_id not in self._dropped_agents:
                    context.refused.append((agent_id, row.threat_id, _REFUSAL))

    def _drop_effects(self, piece: Piece, reason: str) -> None:
        """Answer the callers of a dropped change with an error, and drop the publications about the change."""
        context, batch = self._context, self._context.batch
        self._dropped_agents |= piece.changes.agents.keys()
        error = StoreRejected(f"the store cannot hold this change: {reason}")
        requests = {id(each.request) for each in self._undone_with(piece)}
        batch.answers = [
            answer._replace(value=None, error=error)
            if id(answer.request) in requests or _names(answer, piece.subject)
            else answer
            for answer in batch.answers
        ]
        batch.publications = [each for each in batch.publications if each.subject != piece.subject]
        self._revert(piece)
        for session_id in piece.changes.sessions:
            context.fleet.sessions.close(session_id)
        for agent in piece.changes.agents.values():
            if agent.agent_id in context.new_agents:
                context.fleet.forget_agent(agent)
                batch.admitted = [entry for entry in batch.admitted if entry[0] is not agent]

    def _revert(self, piece: Piece) -> None:
        """Take a dropped change back in memory, and commit what corrects its effects after everything else.

        The audit log gets no entry of it, and its events are not told.
        """
        context, batch = self._context, self._context.batch
        undone = self._undone_with(piece)
        if not undone:
            return
        corrections = dataclasses.replace(context, batch=Batch(batch.now), origin=MANAGER)
        for each in reversed(undone):
            batch.undo.remove(each)
            with isolated(context.fleet.counters, "undo of a rejected change"):
                each.revert(corrections)
        self._rejected_blocks |= {block.id for block in piece.changes.manual_added}
        manual_response.remove_rejected(corrections, self._rejected_blocks)
        batch.publications += corrections.batch.publications
        untold = {id(row) for each in undone for row in (*each.events, *each.records)}
        removed = {agent.agent_id for agent in piece.changes.removed}
        batch.cut_off = [agent_id for agent_id in batch.cut_off if agent_id not in removed]
        for events in (batch.changes.events, batch.passing_events):
            events[:] = [event for event in events if id(event) not in untold]
        targets = {piece.subject, *(block.id for block in piece.changes.manual_added)}
        self._groups = [[each for each in group if not _tells(each, targets, untold)] for group in self._groups]
        self._groups.insert(0, list(_other_pieces(corrections.batch)))
        self._groups = [group for group in self._groups if group]

    def _undone_with(self, piece: Piece) -> list[Undo]:
        """Return what takes a piece back; a removed block may be in the piece of the block that replaced it."""
        changes = piece.changes
        subjects = {piece.subject, *(block.id for block in (*changes.manual_added, *changes.manual_removed))}
        undo = self._context.batch.undo
        return [each for each in undo if each.subject in subjects and getattr(piece.changes, each.member)]


def _other_pieces(batch: Batch) -> Iterator[Piece]:
    """Yield all changes except reports; a row comes before rows that refer to it."""
    changes = batch.changes
    for agent in changes.removed:
        yield Piece(Changes(removed=[agent]), agent.agent_id)
    yield from _keyed_pieces("agents", changes.agents)
    yield from _keyed_pieces("stated", changes.stated)
    yield from _keyed_pieces("vitals", changes.vitals)
    yield from _keyed_pieces("tokens", changes.tokens)
    yield from _keyed_pieces("access", changes.access)
    yield from _keyed_pieces("sessions", changes.sessions)
    for revision in changes.revisions:
        yield Piece(Changes(revisions=[revision]), str(revision.scope))
    yield from _keyed_pieces("policies", changes.policies)
    if changes.fleet_revision is not None:
        yield Piece(Changes(fleet_revision=changes.fleet_revision), "fleet")
    yield from _keyed_pieces("meta", changes.meta)
    yield from _keyed_pieces("sealed", changes.sealed)
    if changes.incident_shift is not None:
        yield Piece(Changes(incident_shift=changes.incident_shift), "clock.step")
    yield from _incident_pieces(changes)
    yield from _manual_pieces(batch)
    for indicator, observed in changes.evidence.items():
        yield Piece(Changes(evidence={indicator: observed}), indicator.value)
    yield from _followup_pieces(changes)
    for sample in changes.vitals_history:
        yield Piece(Changes(vitals_history=[sample]), str(sample.agent_number))
    for threat, recognition in changes.recognitions.items():
        yield Piece(Changes(recognitions={threat: recognition}), threat[0])
    yield from _record_pieces(changes)


def _record_pieces(changes: Changes) -> Iterator[Piece]:
    """Yield what is only added: history, events, messages to channels, audit entries, dead letters."""
    for line in changes.history:
        yield Piece(Changes(history=[line]), line.agent_id)
    for event in changes.events:
        yield Piece(Changes(events=[event]), event.event.event)
    for each in changes.notifications:
        yield Piece(Changes(notifications=[each]), each.cursor.channel)
    yield from _keyed_pieces("notifications_paused", changes.notifications_paused)
    for mute, at in changes.mutes:
        yield Piece(Changes(mutes=[(mute, at)]), "notifications")
    for entry in changes.audit:
        yield Piece(Changes(audit=[entry]), entry.target)
    for letter in changes.dead_letters:
        yield Piece(Changes(dead_letters=[letter]), letter.topic)


def _followup_pieces(changes: Changes) -> Iterator[Piece]:
    """Yield the logins and lifts that may follow measures."""
    for login in changes.logins:
        yield Piece(Changes(logins=[login]), login.subject.value)
    for agent_number, since in changes.login_reporters.items():
        yield Piece(Changes(login_reporters={agent_number: since}), str(agent_number))
    for lift in changes.lifts:
        yield Piece(Changes(lifts=[lift]), lift.subject.value)


def _manual_pieces(batch: Batch) -> Iterator[Piece]:
    """Yield the manual blocks that one command added together, with those that they replace, and every other change.

    Commands that follow each other on one value of one holder are together in a piece. Blocks are added before they are
    moved, and moved before they are removed.
    """
    changes = batch.changes
    added = {block.id: block for block in changes.manual_added}
    removed = {block.id: block for block in changes.manual_removed}
    groups: list[list[ManualBlock]] = []
    for blocks_ids in [*_added_together(batch), *([block_id] for block_id in added)]:
        together = [added.pop(block_id) for block_id in blocks_ids if block_id in added]
        touching = [group for group in groups if _values(group) & _values(together)]
        groups = [group for group in groups if group not in touching]
        if together:
            groups.append([*chain.from_iterable(touching), *together])
    for group in groups:
        values = _values(group)
        replaced = [block.id for block in removed.values() if (block.holder, block.value) in values]
        yield Piece(Changes(manual_added=group, manual_removed=[removed.pop(each) for each in replaced]), group[0].id)
    for block in changes.manual_moved:
        yield Piece(Changes(manual_moved=[block]), block.id)
    for block in removed.values():
        yield Piece(Changes(manual_removed=[block]), block.id)


def _values(blocks: Iterable[ManualBlock]) -> set[tuple[ManualHolder, str]]:
    return {(block.holder, block.value) for block in blocks}


def _added_together(batch: Batch) -> list[list[str]]:
    """Return the ids of the manual blocks that each command added."""
    return [[block.id for block in answer.value.blocks] for answer in batch.answers if _adds_blocks(answer)]


def _adds_blocks(answer: CommandAnswer) -> bool:
    return isinstance(answer.value, BlocksAdded)


def _tells(piece: Piece, targets: set[str], untold: set[int]) -> bool:
    """Return whether a piece is an audit entry about one of some targets, or one of some events and records."""
    changes = piece.changes
    audits = any(entry.target in targets for entry in changes.audit)
    rows = (*changes.events, *changes.history, *changes.audit, *changes.lifts)
    return audits or any(id(row) in untold for row in rows)


def _keyed_pieces(member: str, values: Mapping[str, Any]) -> Iterator[Piece]:
    for key, value in values.items():
        changes = Changes()
        getattr(changes, member)[key] = value
        yield Piece(changes, key)


def _incident_pieces(changes: Changes) -> Iterator[Piece]:
    """Yield each incident with its members, response and entries; entries are added before they are removed."""
    pieces: dict[str, Changes] = {}

    def of(incident_id: str) -> Changes:
        return pieces.setdefault(incident_id, Changes())

    for incident_id, incident in changes.incidents.items():
        of(incident_id).incidents[incident_id] = incident
    for member in changes.members:
        of(member[0]).members.append(member)
    for incident_id, response in changes.responses.items():
        of(incident_id).responses[incident_id] = response
    for name in ("entries_added", "entries_moved", "entries_removed", "work"):
        for entry in getattr(changes, name):
            getattr(of(entry.incident_id), name).append(entry)
    for incident_id, acceptance in changes.acceptance.items():
        of(incident_id).acceptance[incident_id] = acceptance
    for incident_id, immunity in changes.immunity.items():
        of(incident_id).immunity[incident_id] = immunity
    for incident_id, part in pieces.items():
        yield Piece(part, incident_id)


def _report_pieces(context: Context) -> Iterator[Piece]:
    """Yield the reports of each submission together, and every other report alone."""
    rows: dict[ReportKey, ThreatRow] = {(row.agent_number, row.threat_id): row for row in context.batch.changes.threats}
    for submission in context.decided_submissions:
        yield from _report_piece(rows, submission.reports, context.batch.changes.measures)
    for key in list(rows):
        yield _piece_of((rows.pop(key),), context)


def _decided_pieces(changes: Changes) -> Iterator[Piece]:
    """Yield the corrections of threats that another process stored, and last that they were decided.

    A process that ends before decides on them again: an incident that they opened is open by then.
    """
    for sequence, row in changes.corrections.items():
        yield Piece(Changes(corrections={sequence: row}), row.threat_id)
    if changes.decided:
        yield Piece(Changes(decided=changes.decided), "decided")


def _report_piece(
    rows: dict[ReportKey, ThreatRow], reports: Iterable[ReceivedReport], measures: Measures
) -> Iterator[Piece]:
    reports = list(reports)
    together = tuple(rows.pop(key) for key in dict.fromkeys(map(report_key, reports)) if key in rows)
    if together:
        changes = _of_reports(together, measures)
        yield Piece(changes, f"agents/{reports[0].agent.agent_id}/threats", together)


def _piece_of(rows: tuple[ThreatRow, ...], context: Context) -> Piece:
    agent = context.fleet.registry.find_by_number(rows[0].agent_number)
    agent_id = "?" if agent is None else agent.agent_id
    return Piece(_of_reports(rows, context.batch.changes.measures), f"agents/{agent_id}/threats", rows)


def _of_reports(rows: tuple[ThreatRow, ...], measures: Measures) -> Changes:
    """Return the changes of reports: their rows, and the measures that they state."""
    keys = [(row.agent_number, row.threat_id) for row in rows]
    return Changes(threats=list(rows), measures={key: measures[key] for key in keys if key in measures})


def _merged(pieces: list[Piece]) -> Changes:
    merged = Changes()
    for piece in pieces:
        for member in dataclasses.fields(Changes):
            part, whole = getattr(piece.changes, member.name), getattr(merged, member.name)
            if isinstance(part, dict):
                whole.update(part)
            elif isinstance(part, list):
                whole.extend(part)
            elif part is not None:
                setattr(merged, member.name, part)
    return merged


def _names(answer: Any, subject: str) -> bool:
    """Return whether a command or its answer contains the id of a subject."""
    found = list(_members(answer.request)) + list(_members(answer.value))
    return any(str(each) == subject for each in found)


def _members(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        for member in dataclasses.fields(value):
            inner = getattr(value, member.name)
            if isinstance(inner, tuple):
                yield from (getattr(each, "id", each) for each in inner)
            else:
                yield from inner.values() if isinstance(inner, dict) else (inner,)
    else:
        yield value
