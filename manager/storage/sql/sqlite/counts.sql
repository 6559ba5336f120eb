-- Counts of threats in buckets of several lengths (column "seconds"), which outlive the threats.
-- Queries add the threats that no bucket has yet: those behind the progress of the projection.

-- name: add_kinds
-- Counts the threats of a span of sequences by severity and type.
INSERT INTO threat_kind_count (seconds, bucket, organization_id, severity, type, count, last_seen)
SELECT length.seconds, bucket / length.seconds * length.seconds, organization_id, severity, type, number, seen
FROM (SELECT 300 AS seconds UNION ALL SELECT 3600 UNION ALL SELECT 86400) AS length
CROSS JOIN (
    SELECT
        organization_id, severity, type, CAST(event_time / 300 AS INTEGER) * 300 AS bucket,
        count(*) AS number, max(event_time) AS seen
    FROM threat JOIN agent ON agent.number = agent_number
    WHERE sequence BETWEEN ? AND ?
    GROUP BY 1, 2, 3, 4
) AS grouped
WHERE true
ON CONFLICT (seconds, bucket, organization_id, severity, type) DO UPDATE SET
    count = threat_kind_count.count + excluded.count,
    last_seen = max(threat_kind_count.last_seen, excluded.last_seen);

-- name: add_agents
-- Counts the threats of a span of sequences by agent.
INSERT INTO threat_agent_count (seconds, bucket, agent_number, organization_id, count, last_seen)
SELECT length.seconds, bucket / length.seconds * length.seconds, agent_number, organization_id, number, seen
FROM (SELECT 3600 AS seconds UNION ALL SELECT 21600 UNION ALL SELECT 86400) AS length
CROSS JOIN (
    SELECT agent_number, organization_id, bucket, counted.number AS number, seen
    FROM (
        SELECT
            agent_number, CAST(event_time / 3600 AS INTEGER) * 3600 AS bucket,
            count(*) AS number, max(event_time) AS seen
        FROM threat
        WHERE sequence BETWEEN ? AND ?
        GROUP BY 1, 2
    ) AS counted
    JOIN agent ON agent.number = agent_number
) AS grouped
WHERE true
ON CONFLICT (seconds, bucket, agent_number) DO UPDATE SET
    count = threat_agent_count.count + excluded.count,
    last_seen = max(threat_agent_count.last_seen, excluded.last_seen);

-- name: add_sources
-- Counts the threats of a span of sequences by source address and hour; `number_sources` comes first. The counts wait, as
-- buckets of 0 seconds, for `roll_up_sources`: three rows for each address and piece would be half of all that is written.
-- They are not grouped: most addresses come once in a piece, and sorting them all costs more than adding some twice.
INSERT INTO threat_source_count (seconds, bucket, source_number, organization_id, count, last_seen)
SELECT 0, CAST(event_time / 3600 AS INTEGER) * 3600, threat_source.number, organization_id, 1, event_time
FROM threat CROSS JOIN threat_source ON address = source_ip CROSS JOIN agent ON agent.number = agent_number
WHERE sequence BETWEEN ? AND ?
ON CONFLICT (seconds, bucket, source_number, organization_id) DO UPDATE SET
    count = threat_source_count.count + 1,
    last_seen = max(threat_source_count.last_seen, excluded.last_seen);

-- name: roll_up_sources
-- Adds the first of the waiting counts of hours before a time to the buckets; `prune_sources` deletes them then.
INSERT INTO threat_source_count (seconds, bucket, source_number, organization_id, count, last_seen)
SELECT length.seconds, bucket / length.seconds * length.seconds, source_number, organization_id, count, last_seen
FROM (SELECT 3600 AS seconds UNION ALL SELECT 21600 UNION ALL SELECT 86400) AS length
CROSS JOIN (
    SELECT bucket, source_number, organization_id, count, last_seen
    FROM threat_source_count WHERE seconds = 0 AND bucket < ?
    ORDER BY bucket, source_number, organization_id LIMIT ?
) AS waiting
WHERE true
ON CONFLICT (seconds, bucket, source_number, organization_id) DO UPDATE SET
    count = threat_source_count.count + excluded.count,
    last_seen = max(threat_source_count.last_seen, excluded.last_seen);

-- name: received_at
-- The time of receipt of the last threat up to a sequence.
SELECT received_at FROM threat WHERE sequence <= ? ORDER BY sequence DESC LIMIT 1;

-- name: number_sources
-- Gives new source addresses a number. `last_seen` is exact to six hours, so that most rows stay as they are, and that
-- `count_fleet_sources` need not look up what is seen all the time. Those that stay are left out before the upsert, which
-- costs more than looking them up.
INSERT INTO threat_source (address, last_seen)
SELECT source_ip, event_time FROM threat LEFT JOIN threat_source ON address = source_ip
WHERE source_ip IS NOT NULL AND sequence BETWEEN ? AND ? AND (number IS NULL OR event_time > last_seen + 21600)
ON CONFLICT (address) DO UPDATE SET last_seen = excluded.last_seen
WHERE excluded.last_seen > threat_source.last_seen + 21600;

-- name: prune_kinds
-- Parameters: bucket length, time before which buckets go, row limit.
DELETE FROM threat_kind_count
WHERE (seconds, bucket, organization_id, severity, type) IN (
    SELECT seconds, bucket, organization_id, severity, type
    FROM threat_kind_count WHERE seconds = ? AND bucket < ? LIMIT ?
);

-- name: prune_agents
DELETE FROM threat_agent_count
WHERE (seconds, bucket, agent_number) IN (
    SELECT seconds, bucket, agent_number FROM threat_agent_count WHERE seconds = ? AND bucket < ? LIMIT ?
);

-- name: prune_sources
DELETE FROM threat_source_count
WHERE (seconds, bucket, source_number, organization_id) IN (
    SELECT seconds, bucket, source_number, organization_id
    FROM threat_source_count WHERE seconds = ? AND bucket < ?
    ORDER BY bucket, source_number, organization_id LIMIT ?
);

-- name: source_numbers_after
SELECT number FROM threat_source WHERE number > ? ORDER BY number LIMIT ?;

-- name: delete_sources
-- Parameters: first and last number, time of last sight.
DELETE FROM threat_source WHERE number BETWEEN ? AND ? AND last_seen < ?;

-- name: source_address
SELECT address FROM threat_source WHERE number = ?;

-- name: kinds
-- Threats by severity and type: from the buckets of the length :seconds between two times, which are added or, with the
-- :sign -1, left out of the longer ones; and from those of :longer that begin at :whole or later.
SELECT severity, type, sum(number)
FROM (
    SELECT severity, type, :sign * sum(count) AS number
    FROM threat_kind_count
    WHERE seconds = :seconds AND bucket >= :bucket AND bucket < :end
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
    GROUP BY severity, type
    UNION ALL
    SELECT severity, type, sum(count) AS number
    FROM threat_kind_count
    WHERE seconds = :longer AND bucket >= :whole
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
    GROUP BY severity, type
    UNION ALL
    SELECT severity, type, count(*)
    FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'kinds')
      AND event_time >= :since
      AND (:organizations IS NULL
           OR (SELECT organization_id FROM agent WHERE number = agent_number)
              IN (SELECT value FROM json_each(:organizations)))
    GROUP BY severity, type
) AS found
GROUP BY severity, type
HAVING sum(number) > 0;

-- name: kinds_of_day_and_week
-- Threats by severity and type, of the last day and the last week: a JSON list of lists. The day is computed as by `kinds`,
-- and the whole days are read once for both.
SELECT json_group_array(json_array(severity, type, of_day, of_week))
FROM (
    SELECT severity, type, sum(of_day) AS of_day, sum(of_week) AS of_week
    FROM (
        SELECT severity, type, CASE WHEN bucket >= :whole THEN count ELSE 0 END AS of_day, count AS of_week
        FROM threat_kind_count
        WHERE seconds = 86400 AND bucket >= :week
          AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
        UNION ALL
        SELECT severity, type, :sign * count, 0
        FROM threat_kind_count
        WHERE seconds = 3600 AND bucket >= :first_hour AND bucket < :end_hour
          AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
        UNION ALL
        SELECT severity, type, CASE WHEN event_time >= :since THEN 1 ELSE 0 END, 1
        FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'kinds')
          AND event_time >= :week_ago
          AND (:organizations IS NULL
               OR (SELECT organization_id FROM agent WHERE number = agent_number)
                  IN (SELECT value FROM json_each(:organizations)))
    ) AS found
    GROUP BY severity, type
) AS kinds;

-- name: count_agents
-- The number of agents that reported.
SELECT count(DISTINCT value) FROM (
    SELECT agent_number AS value, count AS number
    FROM threat_agent_count
    WHERE seconds = :seconds AND bucket >= :bucket AND last_seen >= :since
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
    UNION ALL
    SELECT agent_number, count(*)
    FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
      AND event_time >= :since
      AND (:organizations IS NULL
           OR (SELECT organization_id FROM agent WHERE number = agent_number)
              IN (SELECT value FROM json_each(:organizations)))
    GROUP BY agent_number
) AS counted;

-- name: newest_report
-- The time of receipt of the last threat; without threats the last day that has a count; null without any.
SELECT coalesce(
    (SELECT received_at FROM threat ORDER BY sequence DESC LIMIT 1),
    (SELECT max(bucket) FROM threat_agent_count WHERE seconds = 86400)
);

-- name: last_reports
-- The last counted report of each agent, of the days from a bucket on.
SELECT agent_number, max(last_seen) FROM threat_agent_count WHERE seconds = 86400 AND bucket >= ? GROUP BY agent_number;

-- name: last_reports_of_span
-- The same of a span of sequences, which may not be counted.
SELECT agent_number, max(event_time) FROM threat WHERE sequence BETWEEN ? AND ? GROUP BY agent_number;

-- name: uncounted_agents
-- The agents that reported since a time by threats that no bucket has yet: a JSON list of numbers.
SELECT json_group_array(agent_number)
FROM (
    SELECT DISTINCT agent_number FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
      AND event_time >= :since
) AS uncounted;

-- name: count_fleet_agents
-- The number of agents of all organizations that reported within a day. The counts of each day are in the order of the
-- agents, so they are merged without being sorted; a later day than the second one is there after a step of the clock.
SELECT count(*)
FROM (
    SELECT agent_number FROM threat_agent_count
    WHERE seconds = :seconds AND bucket = :bucket AND last_seen >= :since
    UNION
    SELECT agent_number FROM threat_agent_count
    WHERE seconds = :seconds AND bucket = :bucket + :seconds
    UNION
    SELECT agent_number FROM threat_agent_count
    WHERE seconds = :seconds AND bucket > :bucket + :seconds
    UNION
    SELECT agent_number FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
      AND event_time >= :since
    ORDER BY agent_number
) AS reporting;

-- name: top_agents
-- The agents with the most threats, by number; the last row counts all of them.
WITH found AS (
    SELECT agent_number AS value, count AS number
    FROM threat_agent_count
    WHERE seconds = :seconds AND bucket >= :bucket AND last_seen >= :since
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
    UNION ALL
    SELECT agent_number, count(*)
    FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
      AND event_time >= :since
      AND (:organizations IS NULL
           OR (SELECT organization_id FROM agent WHERE number = agent_number)
              IN (SELECT value FROM json_each(:organizations)))
    GROUP BY agent_number
), total AS MATERIALIZED (
    SELECT value, sum(number) AS number FROM found GROUP BY value
)
SELECT * FROM (SELECT value, number FROM total ORDER BY number DESC, value LIMIT :limit) AS top
UNION ALL
SELECT 0, count(*) FROM total;

-- name: count_sources
-- The number of source addresses.
SELECT count(DISTINCT value) FROM (
    SELECT source_number AS value, count AS number
    FROM threat_source_count
    WHERE seconds IN (0, :seconds) AND bucket >= :bucket AND last_seen >= :since
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
    UNION ALL
    SELECT coalesce(threat_source.number, -uncounted.first), uncounted.number
    FROM (
        SELECT source_ip, min(sequence) AS first, count(*) AS number
        FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'sources')
          AND event_time >= :since
          AND (:organizations IS NULL
               OR (SELECT organization_id FROM agent WHERE number = agent_number)
                  IN (SELECT value FROM json_each(:organizations)))
          AND source_ip IS NOT NULL
        GROUP BY source_ip || ''
    ) AS uncounted
    LEFT JOIN threat_source ON threat_source.address = uncounted.source_ip
) AS counted;

-- name: count_fleet_sources
-- The number of source addresses of all organizations within a day, without grouping the counts of the day.
-- `threat_source.last_seen` is the time of a threat, and no later threat of the address is a day younger (six hours, but
-- for those that an earlier release counted): an address that was seen there within the period counts, and only one that
-- was seen there in the day before has to be looked up.
WITH waiting AS MATERIALIZED (
    SELECT source_number FROM threat_source_count WHERE seconds = 0 AND bucket >= :bucket AND last_seen >= :since
)
SELECT (
    SELECT count(*)
    FROM threat_source
    WHERE last_seen >= :since
       OR (last_seen >= :since - 86400 AND EXISTS (
            SELECT 1 FROM threat_source_count AS counted
            WHERE seconds = :seconds AND bucket IN (:bucket, :bucket + :seconds, :bucket + 2 * :seconds)
              AND source_number = number AND counted.last_seen >= :since))
       OR (last_seen >= :since - 86400 AND number IN (SELECT source_number FROM waiting))
) + (
    SELECT count(DISTINCT source_ip)
    FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'sources')
      AND event_time >= :since AND source_ip IS NOT NULL
      AND NOT EXISTS (
        SELECT 1 FROM threat_source
        WHERE address = source_ip
          AND (last_seen >= :since OR EXISTS (
            SELECT 1 FROM threat_source_count AS counted
            WHERE seconds = :seconds AND bucket IN (:bucket, :bucket + :seconds, :bucket + 2 * :seconds)
              AND source_number = number AND counted.last_seen >= :since)
           OR number IN (SELECT source_number FROM waiting)))
);

-- name: top_sources
-- The source addresses with the most threats; the last row counts all of them. An address that has no number yet is
-- identified by the negated sequence of its first threat.
WITH found AS (
    SELECT source_number AS value, count AS number
    FROM threat_source_count
    WHERE seconds IN (0, :seconds) AND bucket >= :bucket AND last_seen >= :since
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
    UNION ALL
    SELECT coalesce(threat_source.number, -uncounted.first), uncounted.number
    FROM (
        SELECT source_ip, min(sequence) AS first, count(*) AS number
        FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'sources')
          AND event_time >= :since
          AND (:organizations IS NULL
               OR (SELECT organization_id FROM agent WHERE number = agent_number)
                  IN (SELECT value FROM json_each(:organizations)))
          AND source_ip IS NOT NULL
        GROUP BY source_ip || ''
    ) AS uncounted
    LEFT JOIN threat_source ON threat_source.address = uncounted.source_ip
), total AS MATERIALIZED (
    SELECT value, sum(number) AS number FROM found GROUP BY value
)
SELECT * FROM (SELECT value, number FROM total ORDER BY number DESC, value LIMIT :limit) AS top
UNION ALL
SELECT 0, count(*) FROM total;
