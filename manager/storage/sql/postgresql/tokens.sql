-- Enrollment tokens.

-- name: load
-- In the column order of `upsert`.
SELECT
    token_id, proof_key, created_at, organization_id, site, tags, expires_at, max_uses, uses, revoked_at, name, rate,
    ephemeral, rotated_at
FROM enrollment_token;

-- name: upsert
INSERT INTO enrollment_token (
    token_id, proof_key, created_at, organization_id, site, tags, expires_at, max_uses, uses, revoked_at, name, rate,
    ephemeral, rotated_at
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (token_id) DO UPDATE SET
    proof_key = excluded.proof_key,
    created_at = excluded.created_at,
    organization_id = excluded.organization_id,
    site = excluded.site,
    tags = excluded.tags,
    expires_at = excluded.expires_at,
    max_uses = excluded.max_uses,
    uses = excluded.uses,
    revoked_at = excluded.revoked_at,
    name = excluded.name,
    rate = excluded.rate,
    ephemeral = excluded.ephemeral,
    rotated_at = excluded.rotated_at;
