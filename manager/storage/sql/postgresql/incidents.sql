-- Incidents and their members. Each SELECT of an incident has the column order of `upsert`.

-- name: upsert
INSERT INTO incident (
    id, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
    merged_into, report_count, return_count, announced_members
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET
    organization_id = excluded.organization_id,
    site = excluded.site,
    kind = excluded.kind,
    value = excluded.value,
    opened_at = excluded.opened_at,
    first_seen_at = excluded.first_seen_at,
    last_seen_at = excluded.last_seen_at,
    closed_at = excluded.closed_at,
    late = excluded.late,
    chronic = excluded.chronic,
    merged_into = excluded.merged_into,
    report_count = excluded.report_count,
    return_count = excluded.return_count,
    announced_members = excluded.announced_members;

-- name: shift
-- A step of the manager's clock; a time that is null stays null.
UPDATE incident SET
    opened_at = opened_at + %(seconds)s,
    first_seen_at = first_seen_at + %(seconds)s,
    last_seen_at = last_seen_at + %(seconds)s,
    closed_at = closed_at + %(seconds)s;

-- name: upsert_member
-- A member that was once actionable, or vouched, stays so.
INSERT INTO incident_member (incident_id, agent_id, actionable, vouched) VALUES (%s, %s, %s, %s)
ON CONFLICT (incident_id, agent_id) DO UPDATE SET
    actionable = incident_member.actionable OR excluded.actionable,
    vouched = incident_member.vouched OR excluded.vouched;

-- name: live
-- Unmerged incidents that are open or were seen since a time.
SELECT
    id, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
    merged_into, report_count, return_count, announced_members
FROM incident
WHERE merged_into IS NULL AND (closed_at IS NULL OR last_seen_at >= %s);

-- name: responding
-- Incidents that are open or closed since a time.
SELECT
    id, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
    merged_into, report_count, return_count, announced_members
FROM incident
WHERE closed_at IS NULL OR closed_at >= %s;

-- name: find
SELECT
    id, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
    merged_into, report_count, return_count, announced_members
FROM incident
WHERE id = %s;

-- name: members
-- The members of several incidents (JSON of ids).
SELECT incident_id, agent_id, actionable, vouched
FROM incident_member
WHERE incident_id = ANY (ARRAY(SELECT json_array_elements_text(%(incident_ids)s::json)))
ORDER BY incident_id, agent_id;

-- name: stored_values
-- Those of some values (JSON) that have an incident of a kind, in whichever organization.
SELECT wanted.value
FROM json_array_elements_text(%(values)s::json) AS wanted (value)
WHERE EXISTS (SELECT 1 FROM incident WHERE incident.value = wanted.value AND kind = %(kind)s);

-- name: of_indicator
-- Unmerged incidents of an indicator that touch a span of event time.
SELECT
    id, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
    merged_into, report_count, return_count, announced_members
FROM incident
WHERE merged_into IS NULL AND organization_id = %(organization_id)s AND kind = %(kind)s AND value = %(value)s
  AND last_seen_at >= %(start)s AND first_seen_at < %(end)s AND coalesce(site, '') = %(site)s;

-- name: count_open
SELECT count(*) FROM incident WHERE closed_at IS NULL;

-- name: count_before
-- The number of unmerged incidents of an indicator that were last seen before a time, except known ones (JSON of ids).
SELECT count(*)
FROM incident
WHERE merged_into IS NULL AND organization_id = %(organization_id)s AND kind = %(kind)s AND value = %(value)s
  AND last_seen_at < %(before)s AND coalesce(site, '') = %(site)s
  AND id <> ALL (ARRAY(SELECT json_array_elements_text(%(known)s::json)));

-- name: sizes
-- The number of members of each incident (JSON of ids), of those that vouched, and its first members as JSON, by agent id.
SELECT
    wanted.value,
    (SELECT count(*) FROM incident_member WHERE incident_id = wanted.value),
    (SELECT count(*) FROM incident_member WHERE incident_id = wanted.value AND vouched),
    (SELECT coalesce(json_agg(agent_id), '[]')::text FROM (
        SELECT agent_id FROM incident_member WHERE incident_id = wanted.value ORDER BY agent_id LIMIT %(limit)s
    ) AS first)
FROM json_array_elements_text(%(incident_ids)s::json) AS wanted;

-- name: reach_of_settings
-- Incidents (JSON of ids) whose entries raise the sensitivity of single agents: for each incident the number of the
-- registered agents, of those that have accepted their entry, and the first entries that wait, as JSON of ids.
WITH target AS (
    SELECT
        entry.incident_id, entry.id, entry.created_at,
        coalesce(policy_state = 'applied' AND policy_version >= entry.number, false) AS accepted
    FROM emergency_entry AS entry JOIN agent ON agent_id = target
    WHERE entry.incident_id = ANY (ARRAY(SELECT json_array_elements_text(%(incident_ids)s::json)))
      AND scope = 'agent' AND kind = 'sensitivity' AND entry.number IS NOT NULL
      AND agent.organization_id = entry.organization_id AND removed_at IS NULL
), placed AS (
    SELECT
        incident_id, id, accepted,
        row_number() OVER (PARTITION BY incident_id, accepted ORDER BY created_at, id) AS place
    FROM target
)
SELECT
    incident_id, count(*), count(*) FILTER (WHERE accepted),
    coalesce(json_agg(id) FILTER (WHERE NOT accepted AND place <= %(limit)s), '[]')::text
FROM placed GROUP BY incident_id;

-- name: insert_work
INSERT INTO incident_work (incident_id, at, author, action, note) VALUES (%s, %s, %s, %s, %s);

-- name: work_counts
-- The number of entries of people's work on an incident, and of those with a note.
SELECT count(*), count(note) FROM incident_work WHERE incident_id = %s;

-- name: newest_work
-- The newest acknowledgement or closing of each of some incidents; `incident_ids` is a JSON list.
SELECT incident_id, action, author, at FROM incident_work
WHERE id IN (
    SELECT max(id) FROM incident_work
    WHERE incident_id = ANY (ARRAY(SELECT json_array_elements_text(%(incident_ids)s::json))) AND action <> 'note'
    GROUP BY incident_id
);
