-- Responses to incidents, and the emergency entries that they put in force.

-- name: load
-- In the column order of `upsert`.
SELECT
    incident_id, state, reason, at, organization_wide, granted_at, made_by, approval_expires_at, approved_by,
    members_missing
FROM incident_response;

-- name: find
SELECT
    incident_id, state, reason, at, organization_wide, granted_at, made_by, approval_expires_at, approved_by,
    members_missing
FROM incident_response
WHERE incident_id = %s;

-- name: upsert
INSERT INTO incident_response (
    incident_id, state, reason, at, organization_wide, granted_at, made_by, approval_expires_at, approved_by,
    members_missing
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (incident_id) DO UPDATE SET
    state = excluded.state,
    reason = excluded.reason,
    at = excluded.at,
    organization_wide = excluded.organization_wide,
    granted_at = excluded.granted_at,
    made_by = excluded.made_by,
    approval_expires_at = excluded.approval_expires_at,
    approved_by = excluded.approved_by,
    members_missing = excluded.members_missing;

-- name: set_acceptance
-- Parameters: JSON of the times to acceptance, incident id.
UPDATE incident_response SET acceptance = %s WHERE incident_id = %s;

-- name: set_immunity
-- Parameters: JSON of the times to immunity, incident id.
UPDATE incident_response SET immunity = %s WHERE incident_id = %s;

-- name: load_entries
-- In the column order of `insert_entry`.
SELECT
    id, scope, target, kind, value, organization_id, site, reason, incident_id, created_at, expires_at, number
FROM emergency_entry
WHERE added_by IS NULL;

-- name: insert_entry
INSERT INTO emergency_entry (
    id, scope, target, kind, value, organization_id, site, reason, incident_id, created_at, expires_at, number
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING;

-- name: load_manual_blocks
-- In the column order of `insert_manual_block`.
SELECT id, scope, target, organization_id, value, reason, added_by, created_at, expires_at, overrides, number
FROM emergency_entry
WHERE added_by IS NOT NULL;

-- name: insert_manual_block
INSERT INTO emergency_entry (
    id, scope, target, organization_id, value, reason, added_by, created_at, expires_at, overrides, number,
    kind, incident_id
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'ip', '')
ON CONFLICT DO NOTHING;

-- name: move_entry
-- Parameters: id of the incident that absorbed the entry's incident, entry id.
UPDATE emergency_entry SET incident_id = %s WHERE id = %s;

-- name: move_manual_block
-- Parameters: id of the organization that its holder is in now, block id.
UPDATE emergency_entry SET organization_id = %s WHERE id = %s;

-- name: delete_entry
DELETE FROM emergency_entry WHERE id = %s;
