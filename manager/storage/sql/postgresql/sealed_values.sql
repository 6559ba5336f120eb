-- Secrets of the manager itself, sealed with the key file, by name.

-- name: get
SELECT value FROM sealed_value WHERE name = %s;

-- name: upsert
INSERT INTO sealed_value (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: insert
INSERT INTO sealed_value (name, value) VALUES (%s, %s);

-- name: all
SELECT name, value FROM sealed_value;

-- name: count
SELECT (SELECT count(*) FROM agent WHERE keys IS NOT NULL) + (SELECT count(*) FROM enrollment_token)
    + (SELECT count(*) FROM sealed_value);

-- name: other_secrets
-- Whether agents or tokens have secrets that a key has sealed.
SELECT EXISTS (SELECT 1 FROM agent WHERE keys IS NOT NULL) OR EXISTS (SELECT 1 FROM enrollment_token);

-- name: agent_keys
SELECT number, agent_id, keys FROM agent WHERE keys IS NOT NULL AND number > %s ORDER BY number LIMIT %s;

-- name: set_agent_keys
UPDATE agent SET keys = %s WHERE number = %s;

-- name: token_keys
SELECT token_id, proof_key FROM enrollment_token;

-- name: set_token_key
UPDATE enrollment_token SET proof_key = %s WHERE token_id = %s;
