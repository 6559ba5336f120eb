-- Threat index: slices of consecutive threats, with a bitmap for each value that occurs in a slice.

-- name: threats_of_slice
SELECT sequence, agent_number, type, severity, received_at, event_time FROM threat WHERE sequence BETWEEN ? AND ?;

-- name: insert_slice
INSERT INTO threat_slice (first, last, earliest, latest, agents, places) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_bitmap
INSERT INTO threat_bitmap (first, dimension, value, bits) VALUES (?, ?, ?, ?);

-- name: prune_bitmaps
DELETE FROM threat_bitmap WHERE first IN (SELECT first FROM threat_slice WHERE first <= :sequence AND last <= :sequence);

-- name: prune_slices
DELETE FROM threat_slice WHERE first <= :sequence AND last <= :sequence;

-- name: last_indexed
SELECT coalesce(max(last), 0) FROM projection_progress WHERE name = 'slices';

-- name: first_since
-- The first threat of the oldest slice that holds one received since a time.
SELECT min(first) FROM threat_slice WHERE latest >= ?;

-- name: search
-- Slices below a sequence that have all wanted values, newest first, with the bitmaps of these values. A value that is
-- NULL is not wanted. EXISTS skips a slice before anything of it is read.
SELECT
    first,
    last,
    earliest,
    CASE WHEN :agent_number IS NOT NULL THEN agents END,
    CASE WHEN :agent_number IS NOT NULL THEN places END,
    (SELECT bits FROM threat_bitmap AS bitmap
     WHERE bitmap.first = slice.first AND dimension = 'severity' AND value = :severity),
    (SELECT bits FROM threat_bitmap AS bitmap
     WHERE bitmap.first = slice.first AND dimension = 'type' AND value = :type),
    (SELECT bits FROM threat_bitmap AS bitmap
     WHERE bitmap.first = slice.first AND dimension = 'organization' AND value = :organization_id)
FROM threat_slice AS slice
WHERE first < :below AND (:since IS NULL OR latest >= :since)
  AND (:type IS NULL OR EXISTS (
      SELECT 1 FROM threat_bitmap AS bitmap
      WHERE bitmap.first = slice.first AND dimension = 'type' AND value = :type))
  AND (:organization_id IS NULL OR EXISTS (
      SELECT 1 FROM threat_bitmap AS bitmap
      WHERE bitmap.first = slice.first AND dimension = 'organization' AND value = :organization_id))
  AND (:severity IS NULL OR EXISTS (
      SELECT 1 FROM threat_bitmap AS bitmap
      WHERE bitmap.first = slice.first AND dimension = 'severity' AND value = :severity))
ORDER BY first DESC
LIMIT :limit;
