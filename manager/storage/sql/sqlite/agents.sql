-- Agents: the registry, and one history row for each change of state.

-- name: load
-- Every registered agent, in the order that `AgentRows.to_agent` reads.
SELECT
    number, agent_id, organization_id, hostname, os, arch, version, site, tags, addresses, gateways, ip, door,
    token_id, keys, http_digest, registered_at, state, state_since, reason, session,
    coalesce(heartbeat_sequence, -1), last_heartbeat, clock_offset, clock_origin, coalesce(clock_session, -1),
    stamp_digest IS NOT NULL, cpu, memory, uptime, mode, coalesce(events_processed, 0),
    coalesce(events_total, 0), coalesce(threats_detected, 0), coalesce(actions_executed, 0),
    outbox_size, outbox_dropped, policy_version, policy_digest, policy_state, policy_error, policy_applied_at,
    blocklist_sequence, health, enforcement, mode_wanted, trial_seconds_left, enforced,
    reported_tags, operator_set, registered_in, reported_site
FROM agent LEFT JOIN agent_vitals ON agent_number = number
WHERE removed_at IS NULL
ORDER BY number;

-- name: load_some
-- The registered agents of a JSON list of ids, in the order that `AgentRows.to_agent` reads.
SELECT
    number, agent_id, organization_id, hostname, os, arch, version, site, tags, addresses, gateways, ip, door,
    token_id, keys, http_digest, registered_at, state, state_since, reason, session,
    coalesce(heartbeat_sequence, -1), last_heartbeat, clock_offset, clock_origin, coalesce(clock_session, -1),
    stamp_digest IS NOT NULL, cpu, memory, uptime, mode, coalesce(events_processed, 0),
    coalesce(events_total, 0), coalesce(threats_detected, 0), coalesce(actions_executed, 0),
    outbox_size, outbox_dropped, policy_version, policy_digest, policy_state, policy_error, policy_applied_at,
    blocklist_sequence, health, enforcement, mode_wanted, trial_seconds_left, enforced,
    reported_tags, operator_set, registered_in, reported_site
FROM agent LEFT JOIN agent_vitals ON agent_number = number
WHERE removed_at IS NULL AND agent_id IN (SELECT value FROM json_each(:agent_ids));

-- name: highest_number
SELECT coalesce(max(number), 0) FROM agent;

-- name: load_removed
-- Removed agents that registered with a stamp, oldest removal first.
SELECT coalesce(registered_in, organization_id), hostname, stamp_sent_at, stamp_digest, removed_at
FROM agent
WHERE removed_at IS NOT NULL AND stamp_digest IS NOT NULL
ORDER BY removed_at, number;

-- name: upsert
-- Keys, digests and stamp are null where the row has them already.
INSERT INTO agent (
    number, agent_id, organization_id, hostname, os, arch, version, site, tags, addresses, gateways, ip, door,
    token_id, keys, mqtt_digest, http_digest, registered_at, state, state_since, reason, session, stamp_sent_at,
    stamp_digest, stamp_reply, mode, policy_version, policy_digest, policy_state, policy_error,
    policy_applied_at, blocklist_sequence, health, enforcement, mode_wanted, enforced, reported_tags,
    operator_set, registered_in, reported_site
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?
)
ON CONFLICT (number) DO UPDATE SET
    agent_id = excluded.agent_id,
    organization_id = excluded.organization_id,
    hostname = excluded.hostname,
    os = excluded.os,
    arch = excluded.arch,
    version = excluded.version,
    site = excluded.site,
    tags = excluded.tags,
    addresses = excluded.addresses,
    gateways = excluded.gateways,
    ip = excluded.ip,
    door = excluded.door,
    token_id = excluded.token_id,
    keys = coalesce(excluded.keys, keys),
    mqtt_digest = coalesce(excluded.mqtt_digest, mqtt_digest),
    http_digest = coalesce(excluded.http_digest, http_digest),
    registered_at = excluded.registered_at,
    state = excluded.state,
    state_since = excluded.state_since,
    reason = excluded.reason,
    session = excluded.session,
    stamp_sent_at = coalesce(excluded.stamp_sent_at, stamp_sent_at),
    stamp_digest = coalesce(excluded.stamp_digest, stamp_digest),
    stamp_reply = coalesce(excluded.stamp_reply, stamp_reply),
    mode = excluded.mode,
    policy_version = excluded.policy_version,
    policy_digest = excluded.policy_digest,
    policy_state = excluded.policy_state,
    policy_error = excluded.policy_error,
    policy_applied_at = excluded.policy_applied_at,
    blocklist_sequence = excluded.blocklist_sequence,
    health = excluded.health,
    enforcement = excluded.enforcement,
    mode_wanted = excluded.mode_wanted,
    enforced = excluded.enforced,
    reported_tags = excluded.reported_tags,
    operator_set = excluded.operator_set,
    registered_in = excluded.registered_in,
    reported_site = excluded.reported_site;

-- name: update_stated
-- The values that a heartbeat states and seldom changes; no index has any of them.
UPDATE agent
SET mode = ?, policy_version = ?, policy_digest = ?, policy_state = ?, policy_error = ?, policy_applied_at = ?,
    blocklist_sequence = ?, health = ?, enforcement = ?, mode_wanted = ?, enforced = ?
WHERE number = ?;

-- name: upsert_vitals
-- The values that every heartbeat changes, in a narrow row; sources are null where the row has them already.
INSERT INTO agent_vitals (
    agent_number, heartbeat_sequence, last_heartbeat, clock_offset, clock_origin, clock_session, cpu, memory,
    uptime, events_processed, events_total, threats_detected, actions_executed, outbox_size, outbox_dropped,
    sources, trial_seconds_left
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, ''), ?
)
ON CONFLICT (agent_number) DO UPDATE SET
    heartbeat_sequence = excluded.heartbeat_sequence,
    last_heartbeat = excluded.last_heartbeat,
    clock_offset = excluded.clock_offset,
    clock_origin = excluded.clock_origin,
    clock_session = excluded.clock_session,
    cpu = excluded.cpu,
    memory = excluded.memory,
    uptime = excluded.uptime,
    events_processed = excluded.events_processed,
    events_total = excluded.events_total,
    threats_detected = excluded.threats_detected,
    actions_executed = excluded.actions_executed,
    outbox_size = excluded.outbox_size,
    outbox_dropped = excluded.outbox_dropped,
    sources = coalesce(nullif(excluded.sources, ''), sources),
    trial_seconds_left = excluded.trial_seconds_left;

-- name: add_to_vitals_history
-- Adds a heartbeat to its period.
INSERT INTO agent_vitals_history (period, agent_number, heartbeats, cpu, cpu_highest, memory, events_total)
VALUES (?, ?, 1, ?, ?, ?, ?)
ON CONFLICT (period, agent_number) DO UPDATE SET
    heartbeats = heartbeats + 1,
    cpu = cpu + excluded.cpu,
    cpu_highest = max(cpu_highest, excluded.cpu_highest),
    memory = memory + excluded.memory,
    events_total = excluded.events_total;

-- name: vitals_history
-- An agent's periods from the first to the last one, found one by one, because the table is in the order of time.
WITH RECURSIVE wanted (period) AS (
    SELECT :first UNION ALL SELECT period + 1 FROM wanted WHERE period < :last
)
SELECT period, heartbeats, cpu, cpu_highest, memory, events_total
FROM wanted CROSS JOIN agent_vitals_history USING (period)
WHERE agent_number = :agent_number
ORDER BY period;

-- name: delete_vitals
DELETE FROM agent_vitals WHERE agent_number = ?;

-- name: remove
-- Parameters: time of removal, agent number. The row stays as the name of the agent's threats, without credentials.
UPDATE agent
SET removed_at = ?, keys = NULL, mqtt_digest = NULL, http_digest = NULL, stamp_reply = NULL, state = 'removed',
    last_sequence = coalesce((SELECT max(sequence) FROM threat), 0)
WHERE number = ?;

-- name: stamp
-- An agent's newest registration; no row for an agent without one.
SELECT stamp_sent_at, stamp_digest, stamp_reply FROM agent WHERE number = ? AND stamp_digest IS NOT NULL;

-- name: sources
SELECT sources FROM agent_vitals WHERE agent_number = ?;

-- name: insert_history
INSERT INTO agent_history (agent_id, at, event, detail) VALUES (?, ?, ?, ?);

-- name: history
-- The newest changes of an agent's state.
SELECT at, event, detail FROM agent_history WHERE agent_id = ? ORDER BY id DESC LIMIT ?;

-- name: login
-- SHA-256 of a registered agent's MQTT password, and its organization.
SELECT mqtt_digest, organization_id FROM agent WHERE removed_at IS NULL AND agent_id = ?;

-- name: organizations
-- The organizations of agents in a JSON list of numbers.
SELECT number, organization_id FROM json_each(?) AS wanted CROSS JOIN agent WHERE number = wanted.value;

-- name: number_and_organization
SELECT number, organization_id FROM agent WHERE agent_id = ?;

-- name: count_by_state
-- JSON object, in the order of the index agent_at_a_glance.
SELECT json_group_object(state, number)
FROM (SELECT state, count(*) AS number FROM agent WHERE removed_at IS NULL GROUP BY state) AS counted;

-- name: count_by_os
-- JSON object, in the order of agent_by_os, which is taken because of its second condition: every text meets it.
SELECT json_group_object(os, number)
FROM (SELECT os, count(*) AS number FROM agent WHERE removed_at IS NULL AND os >= '' GROUP BY os) AS counted;

-- name: count_some
-- The registered agents of a JSON list of numbers, and of one of ids, by state, operating system, and whether they applied their effective policy.
SELECT state, os, coalesce(agent_policy.version = policy_version AND digest = policy_digest, false), count(*)
FROM (
    SELECT value AS chosen FROM json_each(?)
    UNION SELECT number FROM json_each(?) AS named CROSS JOIN agent ON agent_id = named.value
)
CROSS JOIN agent ON number = chosen
LEFT JOIN agent_policy ON agent_policy.agent_number = agent.number
WHERE removed_at IS NULL
GROUP BY 1, 2, 3;

-- name: most_urgent
-- The numbers of the agents that are shown first, a JSON list: stale, offline, online, in each the last changed first.
-- Each state is read in the order of the index agent_at_a_glance up to the limit.
SELECT json_group_array(number) FROM (
    SELECT number, urgency, state_since FROM (
        SELECT 0 AS urgency, number, state_since FROM (
            SELECT number, state_since FROM agent
            WHERE removed_at IS NULL AND state = 'stale' ORDER BY state_since DESC, number LIMIT :limit
        ) AS stale
        UNION ALL
        SELECT 1, number, state_since FROM (
            SELECT number, state_since FROM agent
            WHERE removed_at IS NULL AND state = 'offline' ORDER BY state_since DESC, number LIMIT :limit
        ) AS offline
        UNION ALL
        SELECT 2, number, state_since FROM (
            SELECT number, state_since FROM agent
            WHERE removed_at IS NULL AND state = 'online' ORDER BY state_since DESC, number LIMIT :limit
        ) AS online
    ) AS found
    ORDER BY urgency, state_since DESC, number
    LIMIT :limit
) AS urgent;

-- name: of_numbers
-- The rows of the agents of a JSON list of numbers, in its order, without credentials; those of `agents.selection`.
SELECT
    number, agent_id, organization_id, hostname, os, arch, agent.version, site, tags, reported_tags, reported_site,
    addresses, ip, door, token_id, registered_at, state, state_since, reason, session, mode, clock_offset,
    last_heartbeat, cpu, memory, uptime, events_processed, events_total, threats_detected, actions_executed,
    outbox_size, outbox_dropped, sources, trial_seconds_left, policy_version, policy_digest, policy_state,
    policy_error, policy_applied_at, blocklist_sequence, health, enforcement, mode_wanted, enforced,
    agent_policy.version AS active_version, digest AS active_digest, published AS active_published
FROM json_each(?) AS wanted
CROSS JOIN agent ON number = wanted.value
JOIN agent_vitals ON agent_vitals.agent_number = number
LEFT JOIN agent_policy ON agent_policy.agent_number = number
ORDER BY wanted.key;

-- name: count_organizations_by_state_and_os
-- Parameter: JSON array of organizations.
SELECT state, os, count(*) FROM agent
WHERE removed_at IS NULL AND organization_id IN (SELECT value FROM json_each(?)) GROUP BY state, os;
