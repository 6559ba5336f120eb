-- Retention: deletes expired rows in pieces. Whole partitions of threats are dropped by `partitions.sql`.

-- name: sizes
-- The numbers of threats and of stored ids, as PostgreSQL estimates them; a partition is counted that has no estimate yet.
SELECT
    coalesce((
        SELECT sum(CASE WHEN reltuples >= 0 THEN reltuples::bigint ELSE (
            SELECT count(*) FROM threat WHERE threat.tableoid = pg_class.oid) END)
        FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid WHERE inhparent = 'threat'::regclass
    ), 0)::bigint,
    coalesce((
        SELECT sum(CASE WHEN reltuples >= 0 THEN reltuples::bigint ELSE (
            SELECT count(*) FROM stored_id WHERE stored_id.tableoid = pg_class.oid) END)
        FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid WHERE inhparent = 'stored_id'::regclass
    ), 0)::bigint;

-- name: oldest_threat
SELECT sequence, received_at FROM threat ORDER BY sequence LIMIT %s;

-- name: highest_threat
SELECT max(sequence) FROM threat;

-- name: oldest_reported_measure
SELECT sequence, received_at FROM reported_measure ORDER BY sequence LIMIT %s;

-- name: highest_reported_measure
SELECT max(sequence) FROM reported_measure;

-- name: delete_reported_measure
DELETE FROM reported_measure WHERE sequence <= %s;

-- name: oldest_block_lift
SELECT id, at FROM block_lift ORDER BY id LIMIT %s;

-- name: highest_block_lift
SELECT max(id) FROM block_lift;

-- name: delete_block_lift
DELETE FROM block_lift WHERE id <= %s;

-- name: oldest_agent_history
SELECT id, at FROM agent_history ORDER BY id LIMIT %s;

-- name: highest_agent_history
SELECT max(id) FROM agent_history;

-- name: delete_agent_history
DELETE FROM agent_history WHERE id <= %s;

-- name: vitals_history
-- Parameters: period, limit. Rows of periods before this one, the oldest first.
DELETE FROM agent_vitals_history
WHERE (period, agent_number) IN (
    SELECT period, agent_number FROM agent_vitals_history WHERE period < %s ORDER BY period, agent_number LIMIT %s
);

-- name: audit
-- A trigger refuses to delete the last 90 days before the newest entry.
DELETE FROM audit_entry
WHERE id IN (
    SELECT id FROM (SELECT id, at FROM audit_entry ORDER BY id LIMIT %(limit)s) AS oldest WHERE at < %(before)s
)
  AND at < (SELECT max(at) FROM audit_entry) - 7776000;

-- name: incident_members
DELETE FROM incident_member
WHERE incident_id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < %(before)s
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT %(limit)s
);

-- name: incident_work
DELETE FROM incident_work
WHERE incident_id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < %(before)s
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT %(limit)s
);

-- name: incident_responses
DELETE FROM incident_response
WHERE incident_id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < %(before)s
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT %(limit)s
);

-- name: incidents
DELETE FROM incident
WHERE id IN (
    SELECT id FROM incident
    WHERE closed_at IS NOT NULL AND last_seen_at < %(before)s
      AND NOT EXISTS (SELECT 1 FROM emergency_entry WHERE incident_id = incident.id)
    ORDER BY last_seen_at, id LIMIT %(limit)s
);

-- name: has_removed_agents
SELECT 1 FROM agent WHERE removed_at < %s LIMIT 1;

-- name: removed_agents
-- Parameters: time, limit. `last_sequence` is the last threat at the removal: once it is deleted, all of the agent's are,
-- except those that another writer stored before it knew of the removal: within an hour at the most.
-- The agent with the highest number stays, so that no number is assigned twice.
DELETE FROM agent
WHERE number IN (
    SELECT number FROM agent
    WHERE removed_at < %s AND number < (SELECT max(number) FROM agent)
      AND last_sequence < coalesce((SELECT min(sequence) FROM threat), last_sequence + 1)
      AND removed_at < coalesce((SELECT received_at FROM threat ORDER BY sequence LIMIT 1) - 3600, removed_at + 1)
    LIMIT %s
);

-- name: recognized_threats
-- A threat is older than its recognition, so it is deleted no later.
DELETE FROM recognized_threat
WHERE (threat_id, agent_id) IN (
    SELECT threat_id, agent_id FROM recognized_threat WHERE at < %(before)s ORDER BY at LIMIT %(limit)s
);
