-- Single values that survive a restart.

-- name: load
SELECT key, value FROM meta;

-- name: get
SELECT value FROM meta WHERE key = %s;

-- name: upsert
INSERT INTO meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: delete
DELETE FROM meta WHERE key = %s;
