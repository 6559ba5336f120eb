"""Reads what the group has stored from the database itself, without a manager: cheap, and complete."""

import json
from collections.abc import Container, Iterator
from datetime import UTC, datetime

import psycopg

from simulate.ledger import Ledger, Stored, digest_of
from simulate.manager_reader import Opened, Watermark
from tests.support.postgresql import Postgresql

_ALL = "COPY (SELECT threat_id, document FROM threat) TO STDOUT"
_INCIDENTS = """
SELECT value, first_seen_at, last_seen_at FROM incident WHERE kind = 'source_ip' AND merged_into IS NULL
"""
_SINCE = "SELECT threat_id FROM threat WHERE sequence > %s"
_FIND = "SELECT threat_id FROM threat WHERE threat_id = ANY (%s)"


class StoredReports:
    """All reports and incidents of one database; a `StoredReader` of a simulation that is alone on it.

    Args:
        cluster: the server; it is asked without a proxy.
        name: the database.
    """

    def __init__(self, cluster: Postgresql, name: str) -> None:
        self._cluster = cluster
        self._name = name

    def mark(self) -> Watermark:
        """Return the beginning: the simulation is alone."""
        return Watermark(None, None, None)

    def threats(self, _mark: Watermark, _ids: Container[str], _agents: Container[str]) -> Iterator[Stored]:
        """Yield all stored reports, each with the digest of its content."""
        with psycopg.connect(self._cluster.url(self._name)) as connection, connection.cursor().copy(_ALL) as copy:
            copy.set_types(["text", "text"])
            for threat_id, document in copy.rows():
                report = json.loads(document)
                yield Stored(threat_id, digest_of(report["threat"], report["timestamp"]))

    def incidents(self, _mark: Watermark, addresses: frozenset[str]) -> list[Opened]:
        """Return the incidents about these addresses."""
        return [
            Opened(value, datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC))
            for value, first, last in self._cluster.execute(_INCIDENTS, self._name)
            if value in addresses
        ]


class ReceiptCheck:
    """Looks again and again whether each report that got a receipt since the last look is stored.

    Args:
        cluster: the server; it is asked without a proxy.
        name: the database.
        ledger: has the receipts.
    """

    def __init__(self, cluster: Postgresql, name: str, ledger: Ledger) -> None:
        self._cluster = cluster
        self._name = name
        self._ledger = ledger
        self._looked_at = self._mark = 0

    def without_row(self) -> list[str]:
        """Return the reports with a receipt and without a row."""
        receipts = self._ledger.receipts[self._looked_at :]
        self._looked_at += len(receipts)
        ((mark,),) = self._cluster.execute("SELECT low_water_mark()", self._name)
        rows = self._cluster.execute(_SINCE, self._name, (self._mark,))
        self._mark = mark or 0
        missing = set(receipts) - {threat_id for (threat_id,) in rows}
        if missing:  # stored long before their receipt
            missing -= {threat_id for (threat_id,) in self._cluster.execute(_FIND, self._name, (list(missing),))}
        return sorted(missing)
