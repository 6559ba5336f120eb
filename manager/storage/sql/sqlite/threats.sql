-- Threats in the order in which they were stored, and the ids of those that were pruned.

-- name: insert
-- A batch that was written in part may be committed again.
INSERT INTO threat (
    agent_number, threat_id, digest, event_time, received_at, time_known, type, severity, confidence, technique,
    source_ip, file_hash, document, ignored, vouched
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: known
-- Content digests of reports that were ever stored. One JSON parameter keeps the statement compiled; CROSS JOIN makes
-- SQLite look each id up in the index.
SELECT agent_number, threat_id, digest
FROM json_each(:threat_ids) AS wanted CROSS JOIN threat WHERE threat_id = wanted.value
UNION ALL
SELECT agent_number, threat_id, digest
FROM json_each(:threat_ids) AS wanted CROSS JOIN stored_id WHERE threat_id = wanted.value;

-- name: since
-- The correlator's view of the threats with event times since a time.
SELECT
    agent_id, organization_id, site, threat_id, event_time, received_at, source_ip, file_hash, technique, time_known,
    ignored, vouched
FROM threat JOIN agent ON agent.number = threat.agent_number
WHERE event_time >= ?;

-- name: of_source_ip
-- Threats from an address within a span of event time, correlated by it.
SELECT event_time, agent_id, received_at, time_known, site
FROM threat JOIN agent ON agent.number = threat.agent_number
WHERE event_time >= :start AND event_time < :end AND organization_id = :organization_id
  AND source_ip = :value AND NOT ignored & 1;

-- name: of_file_hash
-- Threats with a file hash within a span of event time, correlated by it.
SELECT event_time, agent_id, received_at, time_known, site
FROM threat JOIN agent ON agent.number = threat.agent_number
WHERE event_time >= :start AND event_time < :end AND organization_id = :organization_id
  AND file_hash = :value AND NOT ignored & 2;

-- name: of_technique
-- Threats with a technique or one of its sub-techniques within a span of event time, correlated by it.
SELECT event_time, agent_id, received_at, time_known, site
FROM threat JOIN agent ON agent.number = threat.agent_number
WHERE event_time >= :start AND event_time < :end AND organization_id = :organization_id
  AND (technique = :value AND NOT ignored & 4 OR technique LIKE :value || '.%' AND NOT ignored & 8);

-- name: correlated_by_source_ip
-- Threats of other agents around an event time; of a value that very many share, the first 200 are looked at.
SELECT threat_id
FROM (
    SELECT threat_id, agent_number FROM threat
    WHERE source_ip = :value AND event_time BETWEEN :start AND :end
    LIMIT 200
) AS near JOIN agent ON agent.number = near.agent_number
WHERE agent_number <> :agent AND organization_id = :organization_id
  AND (:site IS NULL OR coalesce(site, '') = :site)
LIMIT :most;

-- name: correlated_by_file_hash
-- Threats of other agents around an event time; of a value that very many share, the first 200 are looked at.
SELECT threat_id
FROM (
    SELECT threat_id, agent_number FROM threat
    WHERE file_hash = :value AND event_time BETWEEN :start AND :end
    LIMIT 200
) AS near JOIN agent ON agent.number = near.agent_number
WHERE agent_number <> :agent AND organization_id = :organization_id
  AND (:site IS NULL OR coalesce(site, '') = :site)
LIMIT :most;

-- name: sequences
-- The lowest and the highest sequence; each is one look at an end of the table.
SELECT
    coalesce((SELECT min(sequence) FROM threat), 0),
    coalesce((SELECT max(sequence) FROM threat), 0);

-- name: last_received_at
SELECT received_at FROM threat ORDER BY sequence DESC LIMIT 1;

-- name: keep_ids
-- Copies the ids of the threats up to a sequence, before these are deleted.
INSERT INTO stored_id (agent_number, threat_id, digest, received_at)
SELECT agent_number, threat_id, digest, received_at FROM threat WHERE sequence <= ?
ON CONFLICT DO NOTHING;

-- name: delete_up_to
DELETE FROM threat WHERE sequence <= ?;

-- name: source_ip
SELECT source_ip FROM threat WHERE sequence = ?;

-- name: sequences_received_since
SELECT sequence FROM threat WHERE sequence BETWEEN :first AND :last AND received_at >= :since;
