-- Access tokens.

-- name: load
-- In the column order of `upsert`.
SELECT name, digest, role, organizations, created_at, rotated_at, expires_at, last_used_at, revoked_at
FROM access_token;

-- name: upsert
INSERT INTO access_token (
    name, digest, role, organizations, created_at, rotated_at, expires_at, last_used_at, revoked_at
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET
    digest = excluded.digest,
    role = excluded.role,
    organizations = excluded.organizations,
    created_at = excluded.created_at,
    rotated_at = excluded.rotated_at,
    expires_at = excluded.expires_at,
    last_used_at = excluded.last_used_at,
    revoked_at = excluded.revoked_at;
