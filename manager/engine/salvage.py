"""Salvage: commits a rejected batch piece by piece, so that one bad report does not take the others along."""

from manager.engine.batch import Changes, DeadLetter, ThreatRow
from manager.engine.context import Context
from manager.engine.messages.reports import report_key
from manager.engine.ports import Store
from manager.errors import StoreRejected, StoreUnavailable


def salvage(context: Context, store: Store) -> None:
    """Commit everything but the reports, then each report by itself.

    Raises:
        StoreRejected: the part that does not fit is not a report.
        StoreUnavailable: part of the batch may be written; all of it may be committed again.
    """
    changes = context.batch.changes
    rows, changes.threats = changes.threats, []
    try:
        store.commit(changes)
        changes.threats = _commit_reports(context, store, rows)
    except StoreUnavailable:
        changes.threats = rows
        raise


def _commit_reports(context: Context, store: Store, rows: list[ThreatRow]) -> list[ThreatRow]:
    kept = []
    for row in rows:
        try:
            store.commit(Changes(threats=[row]))
            kept.append(row)
        except StoreRejected as error:
            agent_id, _ = context.fleet.registry.names_by_number[row.agent_number]
            _refuse(context, agent_id, row)
            letter = DeadLetter(row.received_at, f"agents/{agent_id}/threats", str(error), len(row.document), b"")
            store.commit(Changes(dead_letters=[letter]))
    return kept


def _refuse(context: Context, agent_id: str, row: ThreatRow) -> None:
    """Turn the word "stored" on a report into a refusal."""
    if (agent_id, row.threat_id) in context.stored:
        context.stored.remove((agent_id, row.threat_id))
        context.refused.append((agent_id, row.threat_id, "the store cannot hold this report"))
    for submission in context.decided_submissions:
        for index, report in enumerate(submission.reports):
            if report_key(report) == (row.agent_number, row.threat_id):
                submission.refused = index
