-- Evidence of the never-block rules: as many rows as the manager has in memory, in the order of their renewal.

-- name: delete
DELETE FROM indicator_evidence WHERE organization_id = %s AND kind = %s AND value = %s AND coalesce(site, '') = %s;

-- name: insert
INSERT INTO indicator_evidence (
    kind, value, organization_id, site, renewed_at, last_login, agent_id, system_path
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s);

-- name: load
SELECT kind, value, organization_id, site, renewed_at, last_login, agent_id, system_path
FROM indicator_evidence ORDER BY id;
