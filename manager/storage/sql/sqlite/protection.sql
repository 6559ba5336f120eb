-- Reported measures, and the logins and lifts that may follow them.

-- name: insert_measure
INSERT INTO reported_measure (
    organization_id, site, address, agent_number, at, received_at, rule_id, kind, guesses, outcome, connections
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: upsert_login
INSERT INTO host_login (agent_number, organization_id, site, address, user, guessed, at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (agent_number, address, user, guessed) DO UPDATE SET
    organization_id = excluded.organization_id, site = excluded.site, at = excluded.at
WHERE excluded.at > host_login.at;

-- name: limit_logins
-- Parameters: agent, number. Keeps the agent's newest logins, so that one agent cannot fill the table.
DELETE FROM host_login
WHERE (agent_number, address, user, guessed) IN (
    SELECT agent_number, address, user, guessed FROM host_login
    WHERE agent_number = ?1 ORDER BY at DESC LIMIT -1 OFFSET ?2
);

-- name: insert_reporter
INSERT INTO login_reporter (agent_number, since) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: insert_lift
INSERT INTO block_lift (organization_id, site, address, at, kind, author) VALUES (?, ?, ?, ?, ?, ?);

-- name: prune_logins
-- Parameters: time, limit.
DELETE FROM host_login
WHERE (agent_number, address, user, guessed) IN (
    SELECT agent_number, address, user, guessed FROM host_login WHERE at < ?1 ORDER BY at LIMIT ?2
);

-- name: prune_impossible_logins
-- Parameters: time, limit. Logins after the present time, from a clock that was wrong: they would stay for good.
DELETE FROM host_login
WHERE (agent_number, address, user, guessed) IN (
    SELECT agent_number, address, user, guessed FROM host_login WHERE at > ?1 ORDER BY at LIMIT ?2
);

-- name: prune_reporters
-- Parameters: time, limit. Agents that are gone: removed before the time, as long ago as the oldest measure.
DELETE FROM login_reporter
WHERE agent_number IN (
    SELECT login_reporter.agent_number
    FROM login_reporter LEFT JOIN agent ON agent.number = login_reporter.agent_number
    WHERE agent.number IS NULL OR agent.removed_at < ?1 LIMIT ?2
);

-- name: measures
-- Parameters: since, until, JSON array of organizations or NULL, JSON array of agent numbers or NULL.
-- The first measure of each address, agent and kind, with the outcome and the connections of all of them: within 30 days
-- whatever follows any measure follows the first. Columns beside min() are those of the row with the minimum.
SELECT
    organization_id, site, address, agent_number, min(at) AS first_at, rule_id, kind, guesses,
    CASE WHEN total(outcome = 'taken') THEN 'taken' ELSE 'would_be_taken' END, sum(connections)
FROM reported_measure
WHERE at >= :since AND at <= :until
  AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
  AND (:agents IS NULL OR agent_number IN (SELECT value FROM json_each(:agents)))
GROUP BY organization_id, site, address, agent_number, kind
ORDER BY organization_id, site, address, first_at, agent_number;

-- name: logins
-- Parameters: since, JSON array of organizations or NULL.
SELECT organization_id, site, address, agent_number, user, at, guessed
FROM host_login
WHERE at >= :since AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)));

-- name: lifts
-- Parameters: since, JSON array of organizations or NULL.
SELECT organization_id, site, address, at, kind, author
FROM block_lift
WHERE at >= :since AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)));

-- name: hosts
-- Parameters as of `measures`. The numbers of agents with measures, and of those among them that report logins.
SELECT count(*), count(login_reporter.agent_number)
FROM (
    SELECT DISTINCT agent_number FROM reported_measure
    WHERE at >= :since AND at <= :until
      AND (:organizations IS NULL OR organization_id IN (SELECT value FROM json_each(:organizations)))
      AND (:agents IS NULL OR agent_number IN (SELECT value FROM json_each(:agents)))
) AS reporting LEFT JOIN login_reporter ON login_reporter.agent_number = reporting.agent_number;

-- name: allowlists
-- Every revision with the addresses on its allowlist, in the order of revisions. A group's document holds its policy.
SELECT
    scope, at, coalesce(json_extract(document, '$.allowlist.ips'), json_extract(document, '$.policy.allowlist.ips'))
FROM policy_revision ORDER BY revision;
