-- Ids of stored reports, kept as long as a guard may send a report again.

-- name: correct_times
-- Ids stored while the clock was wrong are kept from now on.
UPDATE stored_id SET stored_at = %(now)s
WHERE (agent_number, threat_id) IN (
    SELECT agent_number, threat_id FROM stored_id
    WHERE stored_at < %(earliest)s OR stored_at > %(latest)s
    LIMIT %(limit)s
);

-- name: delete
DELETE FROM stored_id
WHERE (agent_number, threat_id) IN (
    SELECT agent_number, threat_id FROM stored_id WHERE stored_at < %(before)s ORDER BY stored_at LIMIT %(limit)s
);
