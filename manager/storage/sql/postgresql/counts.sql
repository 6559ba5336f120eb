-- Counts of threats in buckets of several lengths (column "seconds"), which outlive the threats.
-- Queries add the threats that no bucket has yet: those behind the progress of the projection. ORDER BY and OFFSET 0
-- make PostgreSQL find these by their sequence; it cannot know how few they are.

-- name: add_kinds
-- Counts the threats of a span of sequences by severity and type.
INSERT INTO threat_kind_count (seconds, bucket, organization_id, severity, type, count, last_seen)
SELECT
    length.seconds, bucket / length.seconds * length.seconds, organization_id, severity, type, sum(number)::bigint,
    max(seen)
FROM (VALUES (300), (3600), (86400)) AS length (seconds)
CROSS JOIN (
    SELECT
        organization_id, severity, type, trunc(event_time / 300)::bigint * 300 AS bucket,
        count(*) AS number, max(event_time) AS seen
    FROM threat JOIN agent ON agent.number = agent_number
    WHERE sequence BETWEEN %s AND %s
    GROUP BY 1, 2, 3, 4
) AS grouped
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (seconds, bucket, organization_id, severity, type) DO UPDATE SET
    count = threat_kind_count.count + excluded.count,
    last_seen = greatest(threat_kind_count.last_seen, excluded.last_seen);

-- name: add_agents
-- Counts the threats of a span of sequences by agent.
INSERT INTO threat_agent_count (seconds, bucket, agent_number, organization_id, count, last_seen)
SELECT
    length.seconds, bucket / length.seconds * length.seconds, agent_number, organization_id, sum(grouped.number)::bigint,
    max(seen)
FROM (VALUES (3600), (21600), (86400)) AS length (seconds)
CROSS JOIN (
    SELECT agent_number, organization_id, bucket, counted.number AS number, seen
    FROM (
        SELECT
            agent_number, trunc(event_time / 3600)::bigint * 3600 AS bucket,
            count(*) AS number, max(event_time) AS seen
        FROM threat
        WHERE sequence BETWEEN %s AND %s
        GROUP BY 1, 2
    ) AS counted
    JOIN agent ON agent.number = agent_number
) AS grouped
GROUP BY 1, 2, 3, 4
ON CONFLICT (seconds, bucket, agent_number) DO UPDATE SET
    count = threat_agent_count.count + excluded.count,
    last_seen = greatest(threat_agent_count.last_seen, excluded.last_seen);

-- name: add_sources
-- Counts the threats of a span of sequences by source address and hour; `number_sources` comes first. The counts wait, as
-- buckets of 0 seconds, for `roll_up_sources`: three rows for each address and piece would be half of all that is written.
INSERT INTO threat_source_count (seconds, bucket, source_number, organization_id, count, last_seen)
SELECT
    0, trunc(event_time / 3600)::bigint * 3600, threat_source.number, organization_id, count(*), max(event_time)
FROM threat JOIN threat_source ON address = source_ip JOIN agent ON agent.number = agent_number
WHERE sequence BETWEEN %s AND %s
GROUP BY 2, 3, 4
ON CONFLICT (seconds, bucket, source_number, organization_id) DO UPDATE SET
    count = threat_source_count.count + excluded.count,
    last_seen = greatest(threat_source_count.last_seen, excluded.last_seen);

-- name: roll_up_sources
-- Adds the first of the waiting counts of hours before a time to the buckets; `prune_sources` deletes them then.
INSERT INTO threat_source_count (seconds, bucket, source_number, organization_id, count, last_seen)
SELECT
    length.seconds, bucket / length.seconds * length.seconds, source_number, organization_id, sum(count)::bigint,
    max(last_seen)
FROM (VALUES (3600), (21600), (86400)) AS length (seconds)
CROSS JOIN (
    SELECT bucket, source_number, organization_id, count, last_seen
    FROM threat_source_count WHERE seconds = 0 AND bucket < ceil(%s::float8)::bigint
    ORDER BY bucket, source_number, organization_id LIMIT %s
) AS waiting
GROUP BY 1, 2, 3, 4
ON CONFLICT (seconds, bucket, source_number, organization_id) DO UPDATE SET
    count = threat_source_count.count + excluded.count,
    last_seen = greatest(threat_source_count.last_seen, excluded.last_seen);

-- name: received_at
-- The time of receipt of the last threat up to a sequence.
SELECT received_at FROM threat WHERE sequence <= %s ORDER BY sequence DESC LIMIT 1;

-- name: number_sources
-- Gives new source addresses a number, in the order of their first threat; an upsert would take a number for each known
-- address, too. `last_seen` is exact to six hours, so that most rows stay as they are, and that `count_fleet_sources`
-- need not look up what is seen all the time.
WITH seen AS MATERIALIZED (
    SELECT source_ip, max(event_time) AS last_seen, min(sequence) AS first
    FROM threat
    WHERE source_ip IS NOT NULL AND sequence BETWEEN %s AND %s
    GROUP BY source_ip
), renewed AS (
    UPDATE threat_source SET last_seen = seen.last_seen
    FROM seen
    WHERE address = source_ip AND seen.last_seen > threat_source.last_seen + 21600
)
INSERT INTO threat_source (address, last_seen)
SELECT source_ip, last_seen FROM seen
WHERE NOT EXISTS (SELECT 1 FROM threat_source WHERE address = source_ip)
ORDER BY first;

-- name: prune_kinds
-- Parameters: bucket length, time before which buckets go, row limit.
DELETE FROM threat_kind_count
WHERE (seconds, bucket, organization_id, severity, type) IN (
    SELECT seconds, bucket, organization_id, severity, type
    FROM threat_kind_count WHERE seconds = %s AND bucket < ceil(%s::float8)::bigint LIMIT %s
);

-- name: prune_agents
DELETE FROM threat_agent_count
WHERE (seconds, bucket, agent_number) IN (
    SELECT seconds, bucket, agent_number
    FROM threat_agent_count WHERE seconds = %s AND bucket < ceil(%s::float8)::bigint LIMIT %s
);

-- name: prune_sources
DELETE FROM threat_source_count
WHERE (seconds, bucket, source_number, organization_id) IN (
    SELECT seconds, bucket, source_number, organization_id
    FROM threat_source_count WHERE seconds = %s AND bucket < ceil(%s::float8)::bigint
    ORDER BY bucket, source_number, organization_id LIMIT %s
);

-- name: source_numbers_after
SELECT number FROM threat_source WHERE number > %s ORDER BY number LIMIT %s;

-- name: delete_sources
-- Parameters: first and last number, time of last sight.
DELETE FROM threat_source WHERE number BETWEEN %s AND %s AND last_seen < %s;

-- name: source_address
SELECT address FROM threat_source WHERE number = %s;

-- name: kinds
-- Threats by severity and type: from the buckets of the length `seconds` between two times, which are added or, with the
-- `sign` -1, left out of the longer ones; and from those of `longer` that begin at `whole` or later.
SELECT severity, type, sum(number)::bigint
FROM (
    SELECT severity, type, %(sign)s * sum(count) AS number
    FROM threat_kind_count
    WHERE seconds = %(seconds)s AND bucket >= %(bucket)s::bigint AND bucket < %(end)s::bigint
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    GROUP BY severity, type
    UNION ALL
    SELECT severity, type, sum(count) AS number
    FROM threat_kind_count
    WHERE seconds = %(longer)s AND bucket >= %(whole)s::bigint
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    GROUP BY severity, type
    UNION ALL
    SELECT severity, type, count(*)
    FROM (
        SELECT severity, type, event_time, agent_number FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'kinds')
        ORDER BY sequence OFFSET 0
    ) AS uncounted
    WHERE event_time >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR (SELECT organization_id FROM agent WHERE number = agent_number)
              = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    GROUP BY severity, type
) AS found
GROUP BY severity, type
HAVING sum(number) > 0;

-- name: kinds_of_day_and_week
-- Threats by severity and type, of the last day and the last week: a JSON list of lists. The day is computed as by `kinds`,
-- and the whole days are read once for both.
SELECT coalesce(json_agg(json_build_array(severity, type, of_day, of_week)), '[]')::text
FROM (
    SELECT severity, type, sum(of_day)::bigint AS of_day, sum(of_week)::bigint AS of_week
    FROM (
        SELECT severity, type, CASE WHEN bucket >= %(whole)s::bigint THEN count ELSE 0 END AS of_day, count AS of_week
        FROM threat_kind_count
        WHERE seconds = 86400 AND bucket >= %(week)s::bigint
          AND (%(organizations)s::text IS NULL
               OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
        UNION ALL
        SELECT severity, type, %(sign)s * count, 0
        FROM threat_kind_count
        WHERE seconds = 3600 AND bucket >= %(first_hour)s::bigint AND bucket < %(end_hour)s::bigint
          AND (%(organizations)s::text IS NULL
               OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
        UNION ALL
        SELECT severity, type, CASE WHEN event_time >= %(since)s THEN 1 ELSE 0 END, 1
        FROM (
            SELECT severity, type, event_time, agent_number FROM threat
            WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'kinds')
            ORDER BY sequence OFFSET 0
        ) AS uncounted
        WHERE event_time >= %(week_ago)s
          AND (%(organizations)s::text IS NULL
               OR (SELECT organization_id FROM agent WHERE number = agent_number)
                  = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    ) AS found
    GROUP BY severity, type
) AS kinds;

-- name: count_agents
-- The number of agents that reported. Grouping hashes the values; count(DISTINCT) would sort them.
SELECT count(*) FROM (SELECT value FROM (
    SELECT agent_number AS value
    FROM threat_agent_count
    WHERE seconds = %(seconds)s AND bucket >= %(bucket)s::bigint AND last_seen >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    UNION ALL
    SELECT agent_number
    FROM (
        SELECT event_time, agent_number FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
        ORDER BY sequence OFFSET 0
    ) AS uncounted
    WHERE event_time >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR (SELECT organization_id FROM agent WHERE number = agent_number)
              = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
) AS counted GROUP BY value) AS each;

-- name: newest_report
-- The time of receipt of the last threat; without threats the last day that has a count; null without any.
SELECT coalesce(
    (SELECT received_at FROM threat ORDER BY sequence DESC LIMIT 1),
    (SELECT max(bucket) FROM threat_agent_count WHERE seconds = 86400)
);

-- name: last_reports
-- The last counted report of each agent, of the days from a bucket on.
SELECT agent_number, max(last_seen) FROM threat_agent_count WHERE seconds = 86400 AND bucket >= %s::bigint GROUP BY agent_number;

-- name: last_reports_of_span
-- The same of a span of sequences, which may not be counted.
SELECT agent_number, max(event_time) FROM threat WHERE sequence BETWEEN %s AND %s GROUP BY agent_number;

-- name: uncounted_agents
-- The agents that reported since a time by threats that no bucket has yet: a JSON list of numbers.
SELECT coalesce(json_agg(DISTINCT agent_number), '[]')::text
FROM (
    SELECT event_time, agent_number FROM threat
    WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
    ORDER BY sequence OFFSET 0
) AS uncounted
WHERE event_time >= %(since)s;

-- name: count_fleet_agents
-- The number of agents of all organizations that reported within a day.
SELECT count(*)
FROM (
    SELECT agent_number FROM threat_agent_count
    WHERE seconds = %(seconds)s AND bucket >= %(bucket)s::bigint AND last_seen >= %(since)s
    UNION
    SELECT agent_number
    FROM (
        SELECT event_time, agent_number FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
        ORDER BY sequence OFFSET 0
    ) AS uncounted
    WHERE event_time >= %(since)s
) AS reporting;

-- name: top_agents
-- The agents with the most threats, by number; the last row counts all of them.
WITH found AS (
    SELECT agent_number AS value, count AS number
    FROM threat_agent_count
    WHERE seconds = %(seconds)s AND bucket >= %(bucket)s::bigint AND last_seen >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    UNION ALL
    SELECT agent_number, count(*)
    FROM (
        SELECT event_time, agent_number FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'agents')
        ORDER BY sequence OFFSET 0
    ) AS uncounted
    WHERE event_time >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR (SELECT organization_id FROM agent WHERE number = agent_number)
              = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    GROUP BY agent_number
), total AS MATERIALIZED (
    SELECT value, sum(number)::bigint AS number FROM found GROUP BY value
), top AS (
    SELECT value, number FROM total ORDER BY number DESC, value LIMIT %(limit)s
), lines AS (
    SELECT value, number, false AS is_last FROM top
    UNION ALL
    SELECT 0, count(*), true FROM total
)
SELECT value, number FROM lines ORDER BY is_last, number DESC, value;

-- name: count_sources
-- The number of source addresses.
SELECT count(*) FROM (SELECT value FROM (
    SELECT source_number::bigint AS value
    FROM threat_source_count
    WHERE seconds IN (0, %(seconds)s) AND bucket >= %(bucket)s::bigint AND last_seen >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    UNION ALL
    SELECT coalesce(threat_source.number, -uncounted.first)
    FROM (
        SELECT source_ip, min(sequence) AS first
        FROM (
            SELECT sequence, event_time, agent_number, source_ip FROM threat
            WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'sources')
            ORDER BY sequence OFFSET 0
        ) AS threat
        WHERE event_time >= %(since)s
          AND (%(organizations)s::text IS NULL
               OR (SELECT organization_id FROM agent WHERE number = agent_number)
                  = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
          AND source_ip IS NOT NULL
        GROUP BY source_ip
    ) AS uncounted
    LEFT JOIN threat_source ON threat_source.address = uncounted.source_ip
) AS counted GROUP BY value) AS each;

-- name: count_fleet_sources
-- The number of source addresses of all organizations within a day, without grouping the counts of the day.
-- `threat_source.last_seen` is the time of a threat, and no later threat of the address is a day younger (six hours, but
-- for those that an earlier release counted): an address that was seen there within the period counts, and only one that
-- was seen there in the day before has to be looked up.
WITH waiting AS MATERIALIZED (
    SELECT source_number FROM threat_source_count
    WHERE seconds = 0 AND bucket >= %(bucket)s::bigint AND last_seen >= %(since)s
)
SELECT (
    SELECT count(*)
    FROM threat_source
    WHERE last_seen >= %(since)s
       OR (last_seen >= %(since)s - 86400 AND EXISTS (
            SELECT 1 FROM threat_source_count AS counted
            WHERE seconds = %(seconds)s
              AND bucket = ANY (ARRAY[
                  %(bucket)s::bigint, %(bucket)s::bigint + %(seconds)s, %(bucket)s::bigint + 2 * %(seconds)s])
              AND source_number = number AND counted.last_seen >= %(since)s))
       OR (last_seen >= %(since)s - 86400 AND number IN (SELECT source_number FROM waiting))
) + (
    SELECT count(DISTINCT source_ip)
    FROM (
        SELECT event_time, source_ip FROM threat
        WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'sources')
        ORDER BY sequence OFFSET 0
    ) AS uncounted
    WHERE event_time >= %(since)s AND source_ip IS NOT NULL
      AND NOT EXISTS (
        SELECT 1 FROM threat_source
        WHERE address = source_ip
          AND (last_seen >= %(since)s OR EXISTS (
            SELECT 1 FROM threat_source_count AS counted
            WHERE seconds = %(seconds)s
              AND bucket = ANY (ARRAY[
                  %(bucket)s::bigint, %(bucket)s::bigint + %(seconds)s, %(bucket)s::bigint + 2 * %(seconds)s])
              AND source_number = number AND counted.last_seen >= %(since)s)
           OR number IN (SELECT source_number FROM waiting)))
);

-- name: top_sources
-- The source addresses with the most threats; the last row counts all of them. An address that has no number yet is
-- identified by the negated sequence of its first threat.
WITH found AS (
    SELECT source_number::bigint AS value, count AS number
    FROM threat_source_count
    WHERE seconds IN (0, %(seconds)s) AND bucket >= %(bucket)s::bigint AND last_seen >= %(since)s
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
    UNION ALL
    SELECT coalesce(threat_source.number, -uncounted.first), uncounted.number
    FROM (
        SELECT source_ip, min(sequence) AS first, count(*) AS number
        FROM (
            SELECT sequence, event_time, agent_number, source_ip FROM threat
            WHERE sequence > (SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'sources')
            ORDER BY sequence OFFSET 0
        ) AS threat
        WHERE event_time >= %(since)s
          AND (%(organizations)s::text IS NULL
               OR (SELECT organization_id FROM agent WHERE number = agent_number)
                  = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
          AND source_ip IS NOT NULL
        GROUP BY source_ip
    ) AS uncounted
    LEFT JOIN threat_source ON threat_source.address = uncounted.source_ip
), total AS MATERIALIZED (
    SELECT value, sum(number)::bigint AS number FROM found GROUP BY value
), top AS (
    SELECT value, number FROM total ORDER BY number DESC, value LIMIT %(limit)s
), lines AS (
    SELECT value, number, false AS is_last FROM top
    UNION ALL
    SELECT 0, count(*), true FROM total
)
SELECT value, number FROM lines ORDER BY is_last, number DESC, value;
