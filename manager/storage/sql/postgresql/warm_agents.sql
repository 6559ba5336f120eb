-- Warm agents: the rows of agents that were written since an earlier reading, found by the transactions that wrote them.

-- name: position
-- The history and the start of the server; the bounds of the present snapshot; the transaction of the last commit.
SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), extract(epoch FROM pg_postmaster_start_time())::text,
    pg_snapshot_xmin(snapshot)::text::bigint, pg_snapshot_xmax(snapshot)::text::bigint,
    (SELECT xmin::text::bigint FROM meta WHERE key = 'commit_mark')
FROM pg_current_snapshot() AS snapshot;

-- name: agents
-- Agents, also removed ones, whose rows are of a transaction or a later one; all where it is null.
-- First the columns that `AgentRows.to_agent` reads, then whether the agent is removed, and whether it has vitals.
SELECT
    number, agent_id, organization_id, hostname, os, arch, version, site, tags, addresses, gateways, ip, door,
    token_id, keys, http_digest, registered_at, state, state_since, reason, session,
    coalesce(heartbeat_sequence, -1), last_heartbeat, clock_offset, clock_origin, coalesce(clock_session, -1),
    stamp_digest IS NOT NULL, cpu, memory, uptime, mode, coalesce(events_processed, 0),
    coalesce(events_total, 0), coalesce(threats_detected, 0), coalesce(actions_executed, 0),
    outbox_size, outbox_dropped, policy_version, policy_digest, policy_state, policy_error, policy_applied_at,
    blocklist_sequence, health, enforcement, mode_wanted, trial_seconds_left, enforced,
    reported_tags, operator_set, registered_in, reported_site,
    removed_at IS NOT NULL, agent_number IS NOT NULL
FROM agent LEFT JOIN agent_vitals ON agent_number = number
WHERE number > %(after)s
    AND (%(since)s::text IS NULL OR age(agent.xmin) <= age(%(since)s::text::xid))
ORDER BY number
LIMIT %(limit)s;

-- name: vitals
-- Vitals of a transaction or a later one, in the order that `set_vitals` reads.
SELECT
    agent_number, heartbeat_sequence, last_heartbeat, clock_offset, clock_origin, clock_session, cpu, memory, uptime,
    events_processed, events_total, threats_detected, actions_executed, outbox_size, outbox_dropped, trial_seconds_left
FROM agent_vitals
WHERE agent_number > %(after)s AND age(xmin) <= age(%(since)s::text::xid)
ORDER BY agent_number
LIMIT %(limit)s;

-- name: counts
-- The numbers of registered agents and of rows of vitals.
SELECT (SELECT count(*) FROM agent WHERE removed_at IS NULL), (SELECT count(*) FROM agent_vitals);
