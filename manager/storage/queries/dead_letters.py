"""Messages that changed nothing, with the reason and their first bytes as text."""

from manager.storage.queries.reader import Page, Reader, Record, moment
from manager.storage.tables import DeadLetterTable


def page(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return dead letters, newest first."""
    return reader.page(DeadLetterTable.select(), DeadLetterTable.id, record_of, limit, cursor)


def record_of(row: Record) -> Record:
    """Return one dead letter; bytes that are no UTF-8 are shown as escapes."""
    return {
        "id": row["id"],
        "receivedAt": moment(row["received_at"]),
        "topic": row["topic"],
        "reason": row["reason"],
        "size": row["size"],
        "payload": bytes(row["payload"]).decode("utf-8", "backslashreplace"),
    }
