"""Stores a batch of reports: COPY to a temporary table, ids where they are new, and threats for the new ids."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

import psycopg
from peewee import IntegrityError

from manager.engine.batch import ThreatRow

_COLUMNS = ", ".join(ThreatRow._fields)
_WITH_TABLE: WeakSet[psycopg.Connection[Any]] = WeakSet()
"""Connections that have their table for certain, because they made it outside a transaction."""

_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_threat (
    place bigint NOT NULL, agent_number bigint NOT NULL, threat_id text NOT NULL, digest bytea NOT NULL,
    event_time double precision NOT NULL, received_at double precision NOT NULL, time_known boolean NOT NULL,
    type text NOT NULL, severity text NOT NULL, confidence double precision NOT NULL, technique text, source_ip text,
    file_hash text, document text NOT NULL, ignored bigint NOT NULL, vouched bigint NOT NULL
) ON COMMIT DELETE ROWS;
"""
_COPY = f"COPY incoming_threat (place, {_COLUMNS}) FROM STDIN"
_STORE = f"""
WITH incoming AS MATERIALIZED (
    SELECT DISTINCT ON (agent_number, threat_id) * FROM incoming_threat
    WHERE EXISTS (SELECT FROM agent WHERE number = agent_number)
    ORDER BY agent_number, threat_id, place
), fresh AS (
    INSERT INTO stored_id (agent_number, threat_id, digest, stored_at)
    SELECT agent_number, threat_id, digest, received_at FROM incoming
    ON CONFLICT DO NOTHING
    RETURNING agent_number, threat_id
)
INSERT INTO threat (sequence, {_COLUMNS})
SELECT %s + place, {_COLUMNS} FROM incoming JOIN fresh USING (agent_number, threat_id)
ORDER BY place
RETURNING sequence
"""  # noqa: S608 -- the same
# In the order of the key, so that two writers with the same ids do not wait for each other in a circle.

_KNOWN = """
SELECT agent_number, threat_id, stored_id.digest
FROM incoming_threat JOIN stored_id USING (agent_number, threat_id)
WHERE place = ANY (%s)
"""
_STORED_ELSEWHERE = """
SELECT place, stored.sequence, stored.received_at
FROM incoming_threat AS incoming CROSS JOIN LATERAL (
    SELECT sequence, received_at FROM threat
    WHERE threat.threat_id = incoming.threat_id AND threat.agent_number = incoming.agent_number
    OFFSET 0
) AS stored
WHERE place = ANY (%s)
"""
# `OFFSET 0`: one look into the index for each; the planner cannot know how few they are and would read all threats.
_DECIDED_AS = """
UPDATE threat SET event_time = %s, received_at = %s, time_known = %s, ignored = %s
WHERE sequence = %s AND received_at = %s
"""
_UNKNOWN_AGENT = """
SELECT agent_number FROM incoming_threat WHERE NOT EXISTS (SELECT FROM agent WHERE number = agent_number) LIMIT 1
"""


class StoredReports(NamedTuple):
    """The result of the storing of a batch of reports.

    Attributes:
        first: The sequence of the batch's first place; a report's sequence is this and its place in the batch.
        known: The places of reports that were not inserted, because their ids were stored before, and the digests that
            these are stored with.
    """

    first: int
    known: dict[int, bytes]


def prepare_session(connection: psycopg.Connection[Any]) -> None:
    """Create the session's temporary table, once, so that its batches need not; outside a transaction.

    Raises:
        psycopg.Error: as the database reports it.
    """
    if connection not in _WITH_TABLE:
        connection.execute(_INCOMING)
        _WITH_TABLE.add(connection)


def store_reports(connection: psycopg.Connection[Any], rows: Sequence[ThreatRow]) -> StoredReports:
    """Store reports, in the caller's transaction; those whose ids are stored are left out.

    Args:
        connection: the writer's.
        rows: at least one report.

    Raises:
        peewee.IntegrityError: an agent does not exist.
        psycopg.Error: as the database reports it.
    """
    with connection.cursor() as cursor:
        if connection not in _WITH_TABLE:
            cursor.execute(_INCOMING)
        with cursor.copy(_COPY) as copy:
            for place, row in enumerate(rows):
                copy.write_row((place, *row))
        ((first,),) = cursor.execute("SELECT allocate_sequences(%s)", (len(rows),)).fetchall()
        inserted = cursor.execute(_STORE, (first,)).fetchall()
        if len(inserted) == len(rows):
            return StoredReports(first, {})
        left_out = sorted(set(range(len(rows))) - {sequence - first for (sequence,) in inserted})
        known = {(agent, threat_id): digest for agent, threat_id, digest in cursor.execute(_KNOWN, (left_out,))}
        for agent_number, *_ in cursor.execute(_UNKNOWN_AGENT):
            raise IntegrityError(f"there is no agent with the number {agent_number}")
    return StoredReports(first, {place: known[rows[place][:2]] for place in left_out})


def set_decided_times(
    connection: psycopg.Connection[Any], rows: Sequence[ThreatRow], places: Iterable[int]
) -> list[int]:
    """Give reports of the batch that `store_reports` left out in this transaction the times by which they are decided.

    All of them together: other writers wait for the ids of the batch until the transaction ends.

    Args:
        connection: the writer's.
        rows: the batch.
        places: the places of these reports.

    Returns:
        the sequences with which they are stored.

    Raises:
        psycopg.Error: as the database reports it.
    """
    with connection.cursor() as cursor:
        found = cursor.execute(_STORED_ELSEWHERE, (list(places),)).fetchall()
        changes = []
        for place, sequence, received_at in found:
            row = rows[place]
            changes.append((row.event_time, row.received_at, row.time_known, row.ignored, sequence, received_at))
        cursor.executemany(_DECIDED_AS, changes)
    return [sequence for _place, sequence, _received_at in found]
