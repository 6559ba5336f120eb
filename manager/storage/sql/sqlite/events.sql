-- Events worth telling. The sequence has no gaps; the oldest rows beyond a limit are deleted.

-- name: insert
INSERT INTO event (sequence, at, name, severity, organization_id, site, alerting, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: bound
-- Parameter: the highest sequence that is deleted.
DELETE FROM event WHERE sequence <= ?;

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
