-- Policies: each agent's effective policy, and the documents that operators set for scopes.

-- name: load_effective
SELECT agent_number, version, digest, updated_at, published FROM agent_policy;

-- name: upsert_effective
-- Parameters: version, digest, updated_at, published, agent id.
INSERT INTO agent_policy (agent_number, version, digest, updated_at, published)
SELECT number, %s, %s, %s, %s FROM agent WHERE agent_id = %s
ON CONFLICT (agent_number) DO UPDATE SET
    version = excluded.version,
    digest = excluded.digest,
    updated_at = excluded.updated_at,
    published = excluded.published;

-- name: delete_effective
DELETE FROM agent_policy WHERE agent_number = %s;

-- name: count_current
-- Agents that applied their effective policy. Both tables are scanned in the order of the agent numbers.
SELECT count(*)
FROM agent_policy CROSS JOIN agent
WHERE agent.number = agent_policy.agent_number AND removed_at IS NULL
  AND agent_policy.version = policy_version AND digest = policy_digest;

-- name: count_current_of_organizations
-- The same for a JSON array of organizations.
SELECT count(*)
FROM agent_policy CROSS JOIN agent
WHERE agent.number = agent_policy.agent_number AND removed_at IS NULL
  AND agent_policy.version = policy_version AND digest = policy_digest
  AND organization_id = ANY (ARRAY(SELECT json_array_elements_text(%s::json)));

-- name: insert_revision
-- A batch that was written in part may be committed again.
INSERT INTO policy_revision (revision, scope, document, at, author, message) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING;

-- name: revisions
SELECT revision, scope, document, at, author, message FROM policy_revision ORDER BY revision;

-- name: fleet_revision
-- The fleet's revision; the first one is not written.
SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'fleet_revision'), 1);

-- name: current_documents
-- The document of each scope's last revision, where it has one.
SELECT scope, document
FROM policy_revision AS current
WHERE revision = (SELECT max(revision) FROM policy_revision WHERE scope = current.scope) AND document IS NOT NULL;
