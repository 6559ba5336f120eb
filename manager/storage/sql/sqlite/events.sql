-- Events worth telling. The sequence has no gaps; the oldest rows beyond a limit are deleted.

-- name: insert
INSERT INTO event (sequence, at, name, severity, organization_id, site, alerting, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: bound
-- Parameter: the highest sequence that is deleted.
DELETE FROM event WHERE sequence <= ?;

-- name: keep_untold
-- Copies the events on an intrusion among those that are deleted, where a channel that was chosen has not taken them.
INSERT INTO untold_event (sequence, at, name, severity, organization_id, site, alerting, document)
SELECT sequence, at, name, severity, organization_id, site, alerting, document FROM event
WHERE sequence <= :last AND alerting IS NOT NULL
AND (
    name IN (SELECT value FROM json_each(:names))
    OR (name = 'incident_opened' AND json_extract(document, '$.data.kind') = 'file_hash')
)
AND EXISTS (
    SELECT 1 FROM notification_cursor AS channel, json_each(event.alerting, '$.channels') AS chosen
    WHERE chosen.value = channel.channel AND channel.sequence < event.sequence
);

-- name: delete_told
DELETE FROM untold_event WHERE sequence <= (SELECT min(sequence) FROM notification_cursor);

-- name: bound_untold
-- Parameter: the number of events that stay.
DELETE FROM untold_event
WHERE sequence <= (SELECT sequence FROM untold_event ORDER BY sequence DESC LIMIT 1 OFFSET ?);

-- name: highest
SELECT coalesce(max(sequence), 0) FROM event;

-- name: lowest
SELECT min(sequence) FROM event;

-- name: after
-- Events after a sequence, in order; of some organizations, or of all.
SELECT sequence, name, organization_id, document FROM event
WHERE sequence > :after AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
ORDER BY sequence LIMIT :limit;

-- name: count_after
SELECT count(*) FROM event
WHERE sequence > :after AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)));

-- name: harm
-- Events on blocks that cut connections, did not hold, or were withdrawn because a person logged in, since a time.
SELECT document FROM event
WHERE name IN ('block_cut_connections', 'block_ineffective', 'block_withdrawn') AND at >= :since
AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
ORDER BY at DESC, sequence DESC LIMIT :limit;
