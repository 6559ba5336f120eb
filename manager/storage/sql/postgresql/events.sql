-- Events worth telling. The sequence has no gaps; the oldest rows beyond a limit are deleted.

-- name: insert
INSERT INTO event (sequence, at, name, severity, organization_id, site, alerting, document)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s);

-- name: bound
-- Parameter: the highest sequence that is deleted.
DELETE FROM event WHERE sequence <= %s;

-- name: keep_untold
-- Copies the events on an intrusion among those that are deleted, where a channel that was chosen has not taken them.
INSERT INTO untold_event (sequence, at, name, severity, organization_id, site, alerting, document)
SELECT sequence, at, name, severity, organization_id, site, alerting, document FROM event
WHERE sequence <= %(last)s AND alerting IS NOT NULL
AND CASE
    WHEN name = ANY (ARRAY(SELECT json_array_elements_text(%(names)s::json))) THEN true
    WHEN name = 'incident_opened' THEN document::json #>> '{data,kind}' = 'file_hash'
    ELSE false
END
AND EXISTS (
    SELECT 1
    FROM notification_cursor AS channel, json_array_elements_text(event.alerting::json -> 'channels') AS chosen
    WHERE chosen = channel.channel AND channel.sequence < event.sequence
);

-- name: delete_told
DELETE FROM untold_event WHERE sequence <= (SELECT min(sequence) FROM notification_cursor);

-- name: bound_untold
-- Parameter: the number of events that stay.
DELETE FROM untold_event
WHERE sequence <= (SELECT sequence FROM untold_event ORDER BY sequence DESC LIMIT 1 OFFSET %s);

-- name: highest
SELECT coalesce(max(sequence), 0) FROM event;

-- name: lowest
SELECT min(sequence) FROM event;

-- name: after
-- Events after a sequence, in order; of some organizations, or of all.
SELECT sequence, name, organization_id, document FROM event
WHERE sequence > %(after)s
  AND (%(organizations)s::text IS NULL
       OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
ORDER BY sequence LIMIT %(limit)s;

-- name: count_after
SELECT count(*) FROM event
WHERE sequence > %(after)s
  AND (%(organizations)s::text IS NULL
       OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))));

-- name: harm
-- Events on blocks that cut connections, did not hold, or were withdrawn because a person logged in, since a time.
SELECT document FROM event
WHERE name IN ('block_cut_connections', 'block_ineffective', 'block_withdrawn') AND at >= %(since)s
  AND (%(organizations)s::text IS NULL
       OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
ORDER BY at DESC, sequence DESC LIMIT %(limit)s;
