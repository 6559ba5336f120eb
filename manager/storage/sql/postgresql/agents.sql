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
WHERE removed_at IS NULL AND agent_id IN (SELECT json_array_elements_text(%(agent_ids)s::json));

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
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
    %s, %s, %s, %s
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
    keys = coalesce(excluded.keys, agent.keys),
    mqtt_digest = coalesce(excluded.mqtt_digest, agent.mqtt_digest),
    http_digest = coalesce(excluded.http_digest, agent.http_digest),
    registered_at = excluded.registered_at,
    state = excluded.state,
    state_since = excluded.state_since,
    reason = excluded.reason,
    session = excluded.session,
    stamp_sent_at = coalesce(excluded.stamp_sent_at, agent.stamp_sent_at),
    stamp_digest = coalesce(excluded.stamp_digest, agent.stamp_digest),
    stamp_reply = coalesce(excluded.stamp_reply, agent.stamp_reply),
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
SET mode = %s, policy_version = %s, policy_digest = %s, policy_state = %s, policy_error = %s, policy_applied_at = %s,
    blocklist_sequence = %s, health = %s, enforcement = %s, mode_wanted = %s, enforced = %s
WHERE number = %s;

-- name: upsert_vitals
-- The values that every heartbeat changes, in a narrow row; sources are null where the row has them already.
INSERT INTO agent_vitals (
    agent_number, heartbeat_sequence, last_heartbeat, clock_offset, clock_origin, clock_session, cpu, memory,
    uptime, events_processed, events_total, threats_detected, actions_executed, outbox_size, outbox_dropped,
    sources, trial_seconds_left
) VALUES (
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s::text, ''), %s
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
    sources = coalesce(nullif(excluded.sources, ''), agent_vitals.sources),
    trial_seconds_left = excluded.trial_seconds_left;

-- name: add_to_vitals_history
-- Adds a heartbeat to its period.
INSERT INTO agent_vitals_history (period, agent_number, heartbeats, cpu, cpu_highest, memory, events_total)
VALUES (%s, %s, 1, %s, %s, %s, %s)
ON CONFLICT (period, agent_number) DO UPDATE SET
    heartbeats = agent_vitals_history.heartbeats + 1,
    cpu = agent_vitals_history.cpu + excluded.cpu,
    cpu_highest = greatest(agent_vitals_history.cpu_highest, excluded.cpu_highest),
    memory = agent_vitals_history.memory + excluded.memory,
    events_total = excluded.events_total;

-- name: vitals_history
-- An agent's periods from the first to the last one, found one by one, because the table is in the order of time.
SELECT period, heartbeats, cpu, cpu_highest, memory, events_total
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS wanted (number)
CROSS JOIN LATERAL (
    SELECT * FROM agent_vitals_history WHERE period = wanted.number AND agent_number = %(agent_number)s OFFSET 0
) AS found
ORDER BY period;

-- name: delete_vitals
DELETE FROM agent_vitals WHERE agent_number = %s;

-- name: remove
-- Parameters: time of removal, agent number. The row stays as the name of the agent's threats, without credentials.
UPDATE agent
SET removed_at = %s, keys = NULL, mqtt_digest = NULL, http_digest = NULL, stamp_reply = NULL, state = 'removed',
    last_sequence = coalesce((SELECT max(sequence) FROM threat), 0)
WHERE number = %s;

-- name: stamp
-- An agent's newest registration; no row for an agent without one.
SELECT stamp_sent_at, stamp_digest, stamp_reply FROM agent WHERE number = %s AND stamp_digest IS NOT NULL;

-- name: sources
SELECT sources FROM agent_vitals WHERE agent_number = %s;

-- name: insert_history
INSERT INTO agent_history (agent_id, at, event, detail) VALUES (%s, %s, %s, %s);

-- name: history
-- The newest changes of an agent's state.
SELECT at, event, detail FROM agent_history WHERE agent_id = %s ORDER BY id DESC LIMIT %s;

-- name: login
-- SHA-256 of a registered agent's MQTT password, and its organization.
SELECT mqtt_digest, organization_id FROM agent WHERE removed_at IS NULL AND agent_id = %s;

-- name: organizations
-- The organizations of agents in a JSON list of numbers.
SELECT number, organization_id FROM agent
WHERE number = ANY (ARRAY(SELECT json_array_elements_text(%s::json)::bigint));

-- name: number_and_organization
SELECT number, organization_id FROM agent WHERE agent_id = %s;

-- name: count_by_state
-- JSON object, in the order of the index agent_at_a_glance.
SELECT coalesce(json_object_agg(state, number), '{}')::text
FROM (SELECT state, count(*) AS number FROM agent WHERE removed_at IS NULL GROUP BY state) AS counted;

-- name: count_by_os
-- JSON object, in the order of agent_by_os, which is taken because of its second condition: every text meets it.
SELECT coalesce(json_object_agg(os, number), '{}')::text
FROM (SELECT os, count(*) AS number FROM agent WHERE removed_at IS NULL AND os >= '' GROUP BY os) AS counted;

-- name: count_some
-- The registered agents of a JSON list of numbers, and of one of ids, by state, operating system, and whether they applied their effective policy.
SELECT state, os, coalesce(agent_policy.version = policy_version AND digest = policy_digest, false), count(*)
FROM (
    SELECT value::integer AS chosen FROM json_array_elements_text(%s::json)
    UNION SELECT number FROM json_array_elements_text(%s::json) AS named (value) JOIN agent ON agent_id = named.value
) AS wanted
JOIN agent ON number = chosen
LEFT JOIN agent_policy ON agent_policy.agent_number = agent.number
WHERE removed_at IS NULL
GROUP BY 1, 2, 3;

-- name: most_urgent
-- The numbers of the agents that are shown first, a JSON list: stale, offline, online, in each the last changed first.
-- Each state is read in the order of the index agent_at_a_glance up to the limit.
SELECT coalesce(json_agg(number ORDER BY urgency, state_since DESC, number), '[]')::text FROM (
    SELECT number, urgency, state_since FROM (
        SELECT 0 AS urgency, number, state_since FROM (
            SELECT number, state_since FROM agent
            WHERE removed_at IS NULL AND state = 'stale' ORDER BY state_since DESC, number LIMIT %(limit)s
        ) AS stale
        UNION ALL
        SELECT 1, number, state_since FROM (
            SELECT number, state_since FROM agent
            WHERE removed_at IS NULL AND state = 'offline' ORDER BY state_since DESC, number LIMIT %(limit)s
        ) AS offline
        UNION ALL
        SELECT 2, number, state_since FROM (
            SELECT number, state_since FROM agent
            WHERE removed_at IS NULL AND state = 'online' ORDER BY state_since DESC, number LIMIT %(limit)s
        ) AS online
    ) AS found
    ORDER BY urgency, state_since DESC, number
    LIMIT %(limit)s
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
FROM json_array_elements_text(%s::json) WITH ORDINALITY AS wanted (value, place)
JOIN agent ON number = wanted.value::integer
JOIN agent_vitals ON agent_vitals.agent_number = number
LEFT JOIN agent_policy ON agent_policy.agent_number = number
ORDER BY wanted.place;

-- name: count_organizations_by_state_and_os
-- Parameter: JSON array of organizations.
SELECT state, os, count(*) FROM agent
WHERE removed_at IS NULL AND organization_id = ANY (ARRAY(SELECT json_array_elements_text(%s::json)))
GROUP BY state, os;
