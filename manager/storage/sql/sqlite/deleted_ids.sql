-- Ids of deleted threats, kept as long as a guard may send a report again.

-- name: keep
-- Copies the ids of the threats up to a sequence, before these are deleted.
INSERT INTO stored_id (agent_number, threat_id, digest, received_at)
SELECT agent_number, threat_id, digest, received_at FROM threat WHERE sequence <= ?
ON CONFLICT DO NOTHING;

-- name: delete
DELETE FROM stored_id WHERE rowid <= ?;
