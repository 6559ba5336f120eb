-- Threat index: slices of consecutive threats, with a bitmap for each value that occurs in a slice.

-- name: threats_of_slice
SELECT sequence, agent_number, type, severity, received_at, event_time FROM threat
WHERE sequence BETWEEN %s AND %s ORDER BY sequence;

-- name: insert_slice
INSERT INTO threat_slice (first, last, earliest, latest, agents, places) VALUES (%s, %s, %s, %s, %s, %s);

-- name: insert_bitmap
INSERT INTO threat_bitmap (first, dimension, value, bits) VALUES (%s, %s, %s, %s);

-- name: prune_bitmaps
DELETE FROM threat_bitmap
WHERE first IN (SELECT first FROM threat_slice WHERE first <= %(sequence)s AND last <= %(sequence)s);

-- name: prune_slices
DELETE FROM threat_slice WHERE first <= %(sequence)s AND last <= %(sequence)s;

-- name: last_indexed
SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'slices';

-- name: first_since
-- The first threat of the oldest slice that holds one received since a time.
SELECT min(first) FROM threat_slice WHERE latest >= %s;

-- name: search
-- Slices below a sequence that have all wanted values, newest first, with the bitmaps of these values. A value that is
-- NULL is not wanted. EXISTS skips a slice before anything of it is read.
SELECT
    first,
    last,
    earliest,
    CASE WHEN %(agent_number)s::bigint IS NOT NULL THEN agents END,
    CASE WHEN %(agent_number)s::bigint IS NOT NULL THEN places END,
    (SELECT bits FROM threat_bitmap AS bitmap
     WHERE bitmap.first = slice.first AND dimension = 'severity' AND value = %(severity)s),
    (SELECT bits FROM threat_bitmap AS bitmap
     WHERE bitmap.first = slice.first AND dimension = 'type' AND value = %(type)s),
    (SELECT bits FROM threat_bitmap AS bitmap
     WHERE bitmap.first = slice.first AND dimension = 'organization' AND value = %(organization_id)s)
FROM threat_slice AS slice
WHERE first < %(below)s AND (%(since)s::float8 IS NULL OR latest >= %(since)s::float8)
  AND (%(type)s::text IS NULL OR EXISTS (
      SELECT 1 FROM threat_bitmap AS bitmap
      WHERE bitmap.first = slice.first AND dimension = 'type' AND value = %(type)s))
  AND (%(organization_id)s::text IS NULL OR EXISTS (
      SELECT 1 FROM threat_bitmap AS bitmap
      WHERE bitmap.first = slice.first AND dimension = 'organization' AND value = %(organization_id)s))
  AND (%(severity)s::text IS NULL OR EXISTS (
      SELECT 1 FROM threat_bitmap AS bitmap
      WHERE bitmap.first = slice.first AND dimension = 'severity' AND value = %(severity)s))
ORDER BY first DESC
LIMIT %(limit)s;
