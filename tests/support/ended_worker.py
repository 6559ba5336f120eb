"""Ends a worker's process with SIGKILL at a point of a batch's way, once a file names the point.

A `sitecustomize` of the test has the worker's own process call `install` before anything else runs.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from manager.engine.batch import Publication
from manager.engine.commands.http_agent_requests import StoreReports
from manager.engine.inbox import Inbox
from manager.ingest import report_store
from manager.ingest.engine import IngestEngine
from manager.ingest.http_requests import HttpRequests
from manager.ingest.report_store import ReportStore
from manager.mqtt.broker_link import BrokerLink
from manager.mqtt.paho_client import BufferedClient
from manager.storage.postgresql.connection import PostgresqlStore

POINT_FILE = "PANGUARD_TEST_POINT"
"""The variable with the file; the process removes it as it ends."""

POINTS = (
    "message received",
    "request received",
    "message decoded",
    "request decoded",
    "copied",
    "inserted",
    "not committed",
    "commit sent",
    "committed",
    "acknowledgement queued",
    "request answered",
    "receipt queued",
    "acknowledgement and receipt sent",
    "leader not woken",
    "leader woken",
    "signs of life handed over",
)
"""In the order in which a batch comes by, except for the last one."""


def install() -> None:
    """Have the process end where the file says."""
    after(BrokerLink, "_deliver", "message received", lambda given, _: given[1].endswith(b"/threats"))
    after(Inbox, "submit", "request received", lambda given, _: isinstance(given[1].request, StoreReports))
    after(IngestEngine, "_verified", "message decoded", lambda _, batch: batch.reports)
    after(HttpRequests, "take", "request decoded", lambda _, submitted: submitted)
    before(psycopg.Cursor, "execute", "copied", lambda given: "allocate_sequences" in str(given[1]))
    after(report_store, "store_reports", "inserted")
    before(PostgresqlStore, "commit", "not committed")
    before(PostgresqlStore, "commit", "commit sent", _commit_unheard)
    after(PostgresqlStore, "commit", "committed")
    after(BrokerLink, "acknowledge", "acknowledgement queued", lambda given, _: given[1])
    after(IngestEngine, "_commit", "request answered", lambda given, _: given[1].submitted)
    queued: list[bool] = []
    after(BrokerLink, "publish", "receipt queued", lambda given, _: _is_receipt(given[1]))
    sent = "acknowledgement and receipt sent"
    after(BrokerLink, "publish", sent, lambda given, _: queued.extend([True] * _is_receipt(given[1])))
    after(BufferedClient, "flush", sent, lambda *_: queued)
    before(ReportStore, "notify", "leader not woken")
    after(ReportStore, "notify", "leader woken")
    after(BrokerLink, "publish", "signs of life handed over", lambda given, _: _is_life_sent(*given))


def before(holder: Any, name: str, point: str, holds: Callable[[tuple[Any, ...]], Any] = lambda _given: True) -> None:
    """End the process before a call for which a condition holds."""
    call = getattr(holder, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        if _is_named(point) and holds(given):
            _end()
        return call(*given, **named)

    setattr(holder, name, wrapped)


def after(
    holder: Any, name: str, point: str, holds: Callable[[tuple[Any, ...], Any], Any] = lambda _given, _result: True
) -> None:
    """End the process after a call for which a condition holds."""
    call = getattr(holder, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        if _is_named(point) and holds(given, result):
            _end()
        return result

    setattr(holder, name, wrapped)


def _is_named(point: str) -> bool:
    try:
        return Path(os.environ[POINT_FILE]).read_text() == point
    except FileNotFoundError:
        return False


def _end() -> None:
    Path(os.environ[POINT_FILE]).unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def _commit_unheard(given: tuple[Any, ...]) -> bool:
    """Send COMMIT, and read no answer."""
    connection = given[0].connection().pgconn
    connection.send_query(b"COMMIT")
    while connection.flush():
        continue
    return True


def _is_receipt(publication: Publication) -> bool:
    return publication.topic.endswith("/receipts")


def _is_life_sent(link: BrokerLink, publication: Publication) -> bool:
    if not publication.topic.endswith("/life"):
        return False
    link.flush()
    return True
