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

-- name: of_source_ip
-- Threats from an address within a span of event time and of sequence, correlated by it, the newest first. CROSS JOIN
-- keeps the order of the index, so that the next rows are found where the last ones ended, at :end and :before.
SELECT event_time, sequence, agent_id, received_at, time_known, vouched, coalesce(site, reported_site)
FROM threat CROSS JOIN agent ON agent.number = threat.agent_number
WHERE source_ip = :value AND event_time >= :start AND (event_time, sequence) < (:end, :before)
  AND sequence > :after AND sequence <= :last AND organization_id = :organization_id AND NOT ignored & :bit
ORDER BY event_time DESC, sequence DESC LIMIT :limit;

-- name: of_file_hash
-- Threats with a file hash, in the same way.
SELECT event_time, sequence, agent_id, received_at, time_known, vouched, coalesce(site, reported_site)
FROM threat CROSS JOIN agent ON agent.number = threat.agent_number
WHERE file_hash = :value AND event_time >= :start AND (event_time, sequence) < (:end, :before)
  AND sequence > :after AND sequence <= :last AND organization_id = :organization_id AND NOT ignored & :bit
ORDER BY event_time DESC, sequence DESC LIMIT :limit;

-- name: of_technique
-- Threats with exactly this technique, in the same way.
SELECT event_time, sequence, agent_id, received_at, time_known, vouched, coalesce(site, reported_site)
FROM threat CROSS JOIN agent ON agent.number = threat.agent_number
WHERE technique = :value AND event_time >= :start AND (event_time, sequence) < (:end, :before)
  AND sequence > :after AND sequence <= :last AND organization_id = :organization_id AND NOT ignored & :bit
ORDER BY event_time DESC, sequence DESC LIMIT :limit;

-- name: stored_values_of_source_ip
-- Those of some addresses (JSON) that a threat has whose event is not before a time.
SELECT wanted.value
FROM json_each(:values) AS wanted
WHERE EXISTS (SELECT 1 FROM threat WHERE source_ip = wanted.value AND event_time >= :since);

-- name: stored_values_of_file_hash
-- Those of some hashes, in the same way.
SELECT wanted.value
FROM json_each(:values) AS wanted
WHERE EXISTS (SELECT 1 FROM threat WHERE file_hash = wanted.value AND event_time >= :since);

-- name: techniques_of
-- A technique and its sub-techniques, as far as threats have them: one look into the index for each. '/' follows '.'.
WITH RECURSIVE found (name) AS (
    SELECT min(technique) FROM threat WHERE technique >= :value AND technique < :value || '/'
    UNION ALL
    SELECT (SELECT min(technique) FROM threat WHERE technique > name AND technique < :value || '/')
    FROM found WHERE name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL;

-- name: correlated_by_source_ip
-- Threats of other agents around an event time; of a value that very many share, the first 200 are looked at.
SELECT threat_id
FROM (
    SELECT threat_id, agent_number FROM threat
    WHERE source_ip = :value AND event_time BETWEEN :start AND :end
    ORDER BY event_time, sequence LIMIT 200
) AS near JOIN agent ON agent.number = near.agent_number
WHERE agent_number <> :agent AND organization_id = :organization_id
  AND (:site IS NULL OR coalesce(site, reported_site, '') = :site)
LIMIT :most;

-- name: correlated_by_file_hash
-- Threats of other agents around an event time; of a value that very many share, the first 200 are looked at.
SELECT threat_id
FROM (
    SELECT threat_id, agent_number FROM threat
    WHERE file_hash = :value AND event_time BETWEEN :start AND :end
    ORDER BY event_time, sequence LIMIT 200
) AS near JOIN agent ON agent.number = near.agent_number
WHERE agent_number <> :agent AND organization_id = :organization_id
  AND (:site IS NULL OR coalesce(site, reported_site, '') = :site)
LIMIT :most;

-- name: sequences
-- The lowest and the highest sequence; each is one look at an end of the table.
SELECT
    coalesce((SELECT min(sequence) FROM threat), 0),
    coalesce((SELECT max(sequence) FROM threat), 0);

-- name: last_received_at
SELECT received_at FROM threat ORDER BY sequence DESC LIMIT 1;

-- name: delete_up_to
DELETE FROM threat WHERE sequence <= ?;

-- name: source_ip
SELECT source_ip FROM threat WHERE sequence = ?;

-- name: sequences_received_since
SELECT sequence FROM threat WHERE sequence BETWEEN :first AND :last AND received_at >= :since;

-- name: techniques
-- The techniques between two texts that are stored: one look into the index for each.
WITH RECURSIVE stored(technique) AS (
    SELECT min(technique) FROM threat WHERE technique >= :first AND technique < :end
    UNION ALL
    SELECT (SELECT min(technique) FROM threat WHERE technique > stored.technique AND technique < :end)
    FROM stored WHERE stored.technique IS NOT NULL
)
SELECT technique FROM stored WHERE technique IS NOT NULL;

-- name: recognition
SELECT at, author, note FROM recognized_threat WHERE threat_id = ? AND agent_id = ?;

-- name: upsert_recognition
INSERT INTO recognized_threat (threat_id, agent_id, at, author, note) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (threat_id, agent_id) DO UPDATE SET at = excluded.at, author = excluded.author, note = excluded.note;

-- name: delete_recognition
DELETE FROM recognized_threat WHERE threat_id = ? AND agent_id = ?;

-- name: low_water_mark
-- The sequence up to which every threat is visible: there is one writer.
SELECT coalesce(max(sequence), 0) FROM threat;

-- name: between
-- Threats of a range of sequences, in the order of `ThreatRow`.
SELECT sequence, agent_number, threat_id, digest, event_time, received_at, time_known, type, severity, confidence,
    technique, source_ip, file_hash, document, ignored, vouched
FROM threat WHERE sequence BETWEEN :first AND :last ORDER BY sequence LIMIT :limit;

-- name: correct
-- What the leader alone knows of a threat that an ingest worker stored; the time of receipt finds its partition.
UPDATE threat SET event_time = ?, time_known = ?, ignored = ? WHERE sequence = ? AND received_at = ?;
