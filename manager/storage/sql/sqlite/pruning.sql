-- Retention: deletes expired rows in pieces.

-- name: sizes
-- The numbers of threats and of stored ids. Rows are deleted from the low end of each table, so that the ends tell them.
SELECT
    coalesce((SELECT max(sequence) FROM threat) - (SELECT min(sequence) FROM threat) + 1, 0),
    coalesce((SELECT max(rowid) FROM stored_id) - (SELECT min(rowid) FROM stored_id) + 1, 0);

-- name: oldest_threat
SELECT sequence, received_at FROM threat ORDER BY sequence LIMIT ?;

-- name: highest_threat
SELECT max(sequence) FROM threat;

-- name: oldest_stored_id
-- Ids are in the order in which their threats were stored.
SELECT rowid, received_at FROM stored_id ORDER BY rowid LIMIT ?;

-- name: highest_stored_id
SELECT max(rowid) FROM stored_id;

-- name: oldest_reported_measure
SELECT sequence, received_at FROM reported_measure ORDER BY sequence LIMIT ?;

-- name: highest_reported_measure
SELECT max(sequence) FROM reported_measure;

-- name: delete_reported_measure
DELETE FROM reported_measure WHERE sequence <= ?;

-- name: oldest_block_lift
SELECT id, at FROM block_lift ORDER BY id LIMIT ?;

-- name: highest_block_lift
SELECT max(id) FROM block_lift;

-- name: delete_block_lift
DELETE FROM block_lift WHERE id <= ?;

-- name: oldest_agent_history
SELECT id, at FROM agent_history ORDER BY id LIMIT ?;

-- name: highest_agent_history
SELECT max(id) FROM agent_history;

-- name: delete_agent_history
DELETE FROM agent_history WHERE id <= ?;

-- name: vitals_history
-- Parameters: period, limit. Rows of periods before this one, the oldest first.
DELETE FROM agent_vitals_history
WHERE (period, agent_number) IN (SELECT period, agent_number FROM agent_vitals_history WHERE period < ? LIMIT ?);

-- name: audit
-- A trigger refuses to delete the last 90 days before the newest entry.
DELETE FROM audit_entry
WHERE id IN (SELECT id FROM (SELECT id, at FROM audit_entry ORDER BY id LIMIT :limit) AS oldest WHERE at < :before)
  AND at < (SELECT max(at) FROM audit_entry) - 7776000;

-- name: incident_members
DELETE FROM incident_member
WHERE incident_id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < :before
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT :limit
);

-- name: incident_work
DELETE FROM incident_work
WHERE incident_id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < :before
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT :limit
);

-- name: incident_responses
DELETE FROM incident_response
WHERE incident_id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < :before
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT :limit
);

-- name: incidents
DELETE FROM incident
WHERE id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < :before
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT :limit
);

-- name: has_removed_agents
SELECT 1 FROM agent WHERE removed_at < ? LIMIT 1;

-- name: removed_agents
-- Parameters: time, limit. `last_sequence` is the last threat at the removal: once it is deleted, all of the agent's are.
-- The agent with the highest number stays, so that no number is assigned twice.
DELETE FROM agent
WHERE number IN (
    SELECT number FROM agent
    WHERE removed_at < ? AND number < (SELECT max(number) FROM agent)
      AND last_sequence < coalesce((SELECT min(sequence) FROM threat), last_sequence + 1)
    LIMIT ?
);

-- name: recognized_threats
-- A threat is older than its recognition, so it is deleted no later.
DELETE FROM recognized_threat
WHERE rowid IN (SELECT rowid FROM recognized_threat WHERE at < :before ORDER BY at LIMIT :limit);
