-- Sessions of the console.

-- name: load
-- In the column order of `upsert`.
SELECT id, token_digest, opened_at, used_at
FROM console_session;

-- name: upsert
INSERT INTO console_session (id, token_digest, opened_at, used_at)
VALUES (%s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at;

-- name: delete
DELETE FROM console_session
WHERE id = %s;
