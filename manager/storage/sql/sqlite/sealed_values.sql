-- Secrets of the manager itself, sealed with the key file, by name.

-- name: get
SELECT value FROM sealed_value WHERE name = ?;

-- name: upsert
INSERT INTO sealed_value (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: insert
INSERT INTO sealed_value (name, value) VALUES (?, ?);

-- name: all
SELECT name, value FROM sealed_value;

-- name: count
SELECT (SELECT count(*) FROM agent WHERE keys IS NOT NULL) + (SELECT count(*) FROM enrollment_token)
    + (SELECT count(*) FROM sealed_value);

-- name: other_secrets
-- Whether agents or tokens have secrets that a key has sealed.
SELECT EXISTS (SELECT 1 FROM agent WHERE keys IS NOT NULL) OR EXISTS (SELECT 1 FROM enrollment_token);

-- name: agent_keys
SELECT number, agent_id, keys FROM agent WHERE keys IS NOT NULL AND number > ? ORDER BY number LIMIT ?;

-- name: set_agent_keys
UPDATE agent SET keys = ? WHERE number = ?;

-- name: token_keys
SELECT token_id, proof_key FROM enrollment_token;

-- name: set_token_key
UPDATE enrollment_token SET proof_key = ? WHERE token_id = ?;
