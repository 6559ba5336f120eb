-- Reported measures, and the logins and lifts that may follow them.

-- name: insert_measure
INSERT INTO reported_measure (
    organization_id, site, address, agent_number, at, received_at, rule_id, kind, guesses, outcome, connections
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: upsert_login
INSERT INTO host_login (agent_number, organization_id, site, address, "user", guessed, at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (agent_number, address, "user", guessed) DO UPDATE SET
    organization_id = excluded.organization_id, site = excluded.site, at = excluded.at
WHERE excluded.at > host_login.at;

-- name: limit_logins
-- Parameters: agent, number. Keeps the agent's newest logins, so that one agent cannot fill the table.
DELETE FROM host_login
WHERE (agent_number, address, "user", guessed) IN (
    SELECT agent_number, address, "user", guessed FROM host_login
    WHERE agent_number = %s ORDER BY at DESC OFFSET %s
);

-- name: insert_reporter
INSERT INTO login_reporter (agent_number, since) VALUES (%s, %s) ON CONFLICT DO NOTHING;

-- name: insert_lift
INSERT INTO block_lift (organization_id, site, address, at, kind, author) VALUES (%s, %s, %s, %s, %s, %s);

-- name: prune_logins
-- Parameters: time, limit.
DELETE FROM host_login
WHERE (agent_number, address, "user", guessed) IN (
    SELECT agent_number, address, "user", guessed FROM host_login WHERE at < %s ORDER BY at LIMIT %s
);

-- name: prune_impossible_logins
-- Parameters: time, limit. Logins after the present time, from a clock that was wrong: they would stay for good.
DELETE FROM host_login
WHERE (agent_number, address, "user", guessed) IN (
    SELECT agent_number, address, "user", guessed FROM host_login WHERE at > %s ORDER BY at LIMIT %s
);

-- name: prune_reporters
-- Parameters: time, limit. Agents that are gone: removed before the time, as long ago as the oldest measure.
DELETE FROM login_reporter
WHERE agent_number IN (
    SELECT login_reporter.agent_number
    FROM login_reporter LEFT JOIN agent ON agent.number = login_reporter.agent_number
    WHERE agent.number IS NULL OR agent.removed_at < %s LIMIT %s
);

-- name: measures
-- Parameters: since, until, JSON array of organizations or NULL, JSON array of agent numbers or NULL.
-- The first measure of each address, agent and kind, with the outcome and the connections of all of them: within 30 days
-- whatever follows any measure follows the first.
SELECT
    organization_id, site, address, agent_number, first_at, rule_id, kind, guesses,
    CASE WHEN taken THEN 'taken' ELSE 'would_be_taken' END, connections
FROM (
    SELECT DISTINCT ON (organization_id, site, address, agent_number, kind)
        organization_id, site, address, agent_number, at AS first_at, rule_id, kind, guesses,
        bool_or(outcome = 'taken') OVER same AS taken, sum(connections) OVER same AS connections
    FROM reported_measure
    WHERE at >= %(since)s AND at <= %(until)s
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
      AND (%(agents)s::text IS NULL
           OR agent_number = ANY (ARRAY(SELECT json_array_elements_text(%(agents)s::json)::bigint)))
    WINDOW same AS (PARTITION BY organization_id, site, address, agent_number, kind)
    ORDER BY organization_id, site, address, agent_number, kind, at, sequence
) AS first
ORDER BY organization_id, site, address, first_at, agent_number;

-- name: logins
-- Parameters: since, JSON array of organizations or NULL.
SELECT organization_id, site, address, agent_number, "user", at, guessed
FROM host_login
WHERE at >= %(since)s
  AND (%(organizations)s::text IS NULL
       OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))));

-- name: lifts
-- Parameters: since, JSON array of organizations or NULL.
SELECT organization_id, site, address, at, kind, author
FROM block_lift
WHERE at >= %(since)s
  AND (%(organizations)s::text IS NULL
       OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))));

-- name: hosts
-- Parameters as of `measures`. The numbers of agents with measures, and of those among them that report logins.
SELECT count(*), count(login_reporter.agent_number)
FROM (
    SELECT DISTINCT agent_number FROM reported_measure
    WHERE at >= %(since)s AND at <= %(until)s
      AND (%(organizations)s::text IS NULL
           OR organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json))))
      AND (%(agents)s::text IS NULL
           OR agent_number = ANY (ARRAY(SELECT json_array_elements_text(%(agents)s::json)::bigint)))
) AS reporting LEFT JOIN login_reporter ON login_reporter.agent_number = reporting.agent_number;

-- name: allowlists
-- Every revision with the addresses on its allowlist, in the order of revisions. A group's document holds its policy.
SELECT
    scope, at,
    coalesce(
        nullif((document::json #> '{allowlist,ips}')::text, 'null'),
        nullif((document::json #> '{policy,allowlist,ips}')::text, 'null')
    )
FROM policy_revision ORDER BY revision;
