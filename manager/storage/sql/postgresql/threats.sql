-- Threats in the order in which they were stored. No event time is after the time of receipt: a condition on the time of
-- receipt beside one on the event time spares the partitions before it.

-- name: known
-- Content digests of stored reports, for JSON lists of agents and ids of the same length.
SELECT agent_number, threat_id, digest
FROM stored_id JOIN ROWS FROM (
    json_array_elements_text(%(agents)s::json), json_array_elements_text(%(threat_ids)s::json)
) AS wanted (agent, id) ON agent_number = wanted.agent::bigint AND threat_id = wanted.id;

-- name: of_source_ip
-- Threats from an address within a span of event time and of sequence, correlated by it, the newest first. The next rows
-- are found where the last ones ended, at `end` and `before`.
-- `OFFSET 0` and `+ 0` leave the planner no other way than the index of the indicator and its event time, row by row: it
-- cannot estimate how many rows a span has, and would read all of it for each agent and each time.
SELECT event_time, sequence, agent_id, received_at, time_known, vouched, coalesce(site, reported_site)
FROM threat CROSS JOIN LATERAL (SELECT * FROM agent WHERE number = agent_number OFFSET 0) AS agent
WHERE source_ip = %(value)s AND event_time >= %(start)s AND received_at >= %(start)s
  AND (event_time, sequence) < (%(end)s, %(before)s)
  AND sequence + 0 > %(after)s AND sequence + 0 <= %(last)s
  AND organization_id = %(organization_id)s AND ignored & %(bit)s = 0
ORDER BY event_time DESC, sequence DESC LIMIT %(limit)s;

-- name: of_file_hash
-- Threats with a file hash, in the same way.
SELECT event_time, sequence, agent_id, received_at, time_known, vouched, coalesce(site, reported_site)
FROM threat CROSS JOIN LATERAL (SELECT * FROM agent WHERE number = agent_number OFFSET 0) AS agent
WHERE file_hash = %(value)s AND event_time >= %(start)s AND received_at >= %(start)s
  AND (event_time, sequence) < (%(end)s, %(before)s)
  AND sequence + 0 > %(after)s AND sequence + 0 <= %(last)s
  AND organization_id = %(organization_id)s AND ignored & %(bit)s = 0
ORDER BY event_time DESC, sequence DESC LIMIT %(limit)s;

-- name: of_technique
-- Threats with exactly this technique, in the same way.
SELECT event_time, sequence, agent_id, received_at, time_known, vouched, coalesce(site, reported_site)
FROM threat CROSS JOIN LATERAL (SELECT * FROM agent WHERE number = agent_number OFFSET 0) AS agent
WHERE technique = %(value)s AND event_time >= %(start)s AND received_at >= %(start)s
  AND (event_time, sequence) < (%(end)s, %(before)s)
  AND sequence + 0 > %(after)s AND sequence + 0 <= %(last)s
  AND organization_id = %(organization_id)s AND ignored & %(bit)s = 0
ORDER BY event_time DESC, sequence DESC LIMIT %(limit)s;

-- name: stored_values_of_source_ip
-- Those of some addresses (JSON) that a threat has whose event is not before a time, and so not its receipt, and that is
-- in one of some spans of sequences: their first and their last ones, in order. The bucket is the span that begins last
-- before the sequence.
SELECT wanted.value
FROM json_array_elements_text(%(values)s::json) AS wanted (value)
WHERE EXISTS (
    SELECT 1 FROM threat
    WHERE source_ip = wanted.value AND event_time >= %(since)s AND received_at >= %(since)s
      AND sequence <= (%(lasts)s::bigint[])[width_bucket(sequence, %(firsts)s::bigint[])]
);

-- name: stored_values_of_file_hash
-- Those of some hashes, in the same way.
SELECT wanted.value
FROM json_array_elements_text(%(values)s::json) AS wanted (value)
WHERE EXISTS (
    SELECT 1 FROM threat
    WHERE file_hash = wanted.value AND event_time >= %(since)s AND received_at >= %(since)s
      AND sequence <= (%(lasts)s::bigint[])[width_bucket(sequence, %(firsts)s::bigint[])]
);

-- name: techniques_of
-- A technique and its sub-techniques, as far as threats have them: one look into the index for each. '/' follows '.'.
WITH RECURSIVE found (name) AS (
    SELECT min(technique) FROM threat WHERE technique >= %(value)s AND technique < %(value)s || '/'
    UNION ALL
    SELECT (SELECT min(technique) FROM threat WHERE technique > name AND technique < %(value)s || '/')
    FROM found WHERE name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL;

-- name: correlated_by_source_ip
-- Threats of other agents around an event time; of a value that very many share, the first 200 are looked at.
SELECT threat_id
FROM (
    SELECT threat_id, agent_number, event_time, sequence FROM threat
    WHERE source_ip = %(value)s AND event_time BETWEEN %(start)s AND %(end)s AND received_at >= %(start)s
    ORDER BY event_time, sequence LIMIT 200
) AS near JOIN agent ON agent.number = near.agent_number
WHERE agent_number <> %(agent)s AND organization_id = %(organization_id)s
  AND (%(site)s::text IS NULL OR coalesce(site, reported_site, '') = %(site)s)
ORDER BY event_time, sequence LIMIT %(most)s;

-- name: correlated_by_file_hash
-- Threats of other agents around an event time; of a value that very many share, the first 200 are looked at.
SELECT threat_id
FROM (
    SELECT threat_id, agent_number, event_time, sequence FROM threat
    WHERE file_hash = %(value)s AND event_time BETWEEN %(start)s AND %(end)s AND received_at >= %(start)s
    ORDER BY event_time, sequence LIMIT 200
) AS near JOIN agent ON agent.number = near.agent_number
WHERE agent_number <> %(agent)s AND organization_id = %(organization_id)s
  AND (%(site)s::text IS NULL OR coalesce(site, reported_site, '') = %(site)s)
ORDER BY event_time, sequence LIMIT %(most)s;

-- name: sequences
-- The lowest and the highest sequence; each is one look at an end of the table.
SELECT
    coalesce((SELECT min(sequence) FROM threat), 0),
    coalesce((SELECT max(sequence) FROM threat), 0);

-- name: last_received_at
SELECT received_at FROM threat ORDER BY sequence DESC LIMIT 1;

-- name: delete_up_to
DELETE FROM threat WHERE sequence <= %s;

-- name: source_ip
SELECT source_ip FROM threat WHERE sequence = %s;

-- name: sequences_received_since
SELECT sequence FROM threat WHERE sequence BETWEEN %(first)s AND %(last)s AND received_at >= %(since)s;

-- name: techniques
-- The techniques between two texts that are stored: one look into the index for each.
WITH RECURSIVE stored(technique) AS (
    SELECT min(technique) FROM threat WHERE technique >= %(first)s AND technique < %(end)s
    UNION ALL
    SELECT (SELECT min(technique) FROM threat WHERE technique > stored.technique AND technique < %(end)s)
    FROM stored WHERE stored.technique IS NOT NULL
)
SELECT technique FROM stored WHERE technique IS NOT NULL;

-- name: recognition
SELECT at, author, note FROM recognized_threat WHERE threat_id = %s AND agent_id = %s;

-- name: upsert_recognition
INSERT INTO recognized_threat (threat_id, agent_id, at, author, note) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (threat_id, agent_id) DO UPDATE SET at = excluded.at, author = excluded.author, note = excluded.note;

-- name: delete_recognition
DELETE FROM recognized_threat WHERE threat_id = %s AND agent_id = %s;

-- name: low_water_mark
-- The sequence up to which every threat is visible to the next statement, or will never be.
SELECT low_water_mark();

-- name: between
-- Threats of a range of sequences, in the order of `ThreatRow`.
SELECT sequence, agent_number, threat_id, digest, event_time, received_at, time_known, type, severity, confidence,
    technique, source_ip, file_hash, document, ignored, vouched
FROM threat WHERE sequence BETWEEN %(first)s AND %(last)s ORDER BY sequence LIMIT %(limit)s;

-- name: correct
-- What the leader alone knows of a threat that an ingest worker stored; the time of receipt finds its partition.
UPDATE threat SET event_time = %s, time_known = %s, ignored = %s WHERE sequence = %s AND received_at = %s;
