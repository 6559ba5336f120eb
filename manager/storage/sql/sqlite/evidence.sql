-- Evidence of the never-block rules: as many rows as the manager has in memory, in the order of their renewal.

-- name: delete
DELETE FROM indicator_evidence WHERE organization_id = ? AND kind = ? AND value = ? AND coalesce(site, '') = ?;

-- name: insert
INSERT INTO indicator_evidence (
    kind, value, organization_id, site, renewed_at, last_login, agent_id, system_path
) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: load
SELECT kind, value, organization_id, site, renewed_at, last_login, agent_id, system_path
FROM indicator_evidence ORDER BY id;
