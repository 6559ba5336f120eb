-- Channels' positions in the event table, and their messages.

-- name: upsert_cursor
INSERT INTO notification_cursor (channel, sequence, judgement, sent, given_up, not_told, last_sent_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (channel) DO UPDATE SET
    sequence = excluded.sequence, judgement = excluded.judgement, sent = excluded.sent, given_up = excluded.given_up,
    not_told = excluded.not_told, last_sent_at = excluded.last_sent_at;

-- name: pause
UPDATE notification_cursor SET paused_until = %s WHERE channel = %s;

-- name: upsert_message
INSERT INTO notification (
    channel, message_id, group_id, state, attempts, created_at, next_at, sent_at, reason, content
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (channel, message_id) DO UPDATE SET
    state = excluded.state, attempts = excluded.attempts, next_at = excluded.next_at, sent_at = excluded.sent_at,
    reason = excluded.reason;

-- name: bound_messages
-- Parameters: a channel, again the channel, and the number of its messages that stay beside the pending ones.
DELETE FROM notification WHERE channel = %s AND state != 'pending' AND sequence <= (
    SELECT sequence FROM notification WHERE channel = %s AND state != 'pending' ORDER BY sequence DESC LIMIT 1 OFFSET %s
);

-- name: delete_mute
-- Deletes the mute of a scope, and those that have ended.
DELETE FROM notification_mute WHERE until <= %(at)s OR (
    organization_id IS NOT DISTINCT FROM %(organization)s AND site IS NOT DISTINCT FROM %(site)s
    AND agent_id IS NOT DISTINCT FROM %(agent)s AND topic IS NOT DISTINCT FROM %(topic)s
);

-- name: insert_mute
INSERT INTO notification_mute (organization_id, site, agent_id, topic, author, reason, at, until)
VALUES (%(organization)s, %(site)s, %(agent)s, %(topic)s, %(author)s, %(reason)s, %(at)s, %(until)s);

-- name: bound_mutes
-- Parameter: the number of mutes that stay.
DELETE FROM notification_mute
WHERE number <= (SELECT number FROM notification_mute ORDER BY number DESC LIMIT 1 OFFSET %s);

-- name: mutes
-- Mutes in force; for a caller limited to organizations, those of them, and those of the whole fleet.
SELECT mute.organization_id, mute.site, mute.agent_id, agent.hostname, mute.topic, mute.author,
    mute.reason, mute.at, mute.until
FROM notification_mute AS mute LEFT JOIN agent ON agent.agent_id = mute.agent_id
WHERE mute.until > %(now)s AND (
    %(organizations)s::text IS NULL
    OR mute.organization_id = ANY (ARRAY(SELECT json_array_elements_text(%(organizations)s::json)))
    OR (mute.organization_id IS NULL AND mute.site IS NULL AND mute.agent_id IS NULL)
)
ORDER BY mute.number;

-- name: cursors
SELECT channel, sequence, judgement, sent, given_up, not_told, last_sent_at, paused_until FROM notification_cursor;

-- name: pending
SELECT channel, message_id, group_id, state, attempts, created_at, next_at, sent_at, reason, content
FROM notification WHERE channel = %s AND state = 'pending' ORDER BY sequence;

-- name: group_is_stored
SELECT EXISTS (SELECT 1 FROM notification WHERE group_id = %s);

-- name: to_tell
-- Events after a sequence with what the notifier needs of them.
SELECT sequence, at, name, severity, organization_id, site, alerting, document FROM event
WHERE sequence > %s ORDER BY sequence LIMIT %s;

-- name: untold
-- Events on an intrusion after a sequence, up to another one, that the event table has deleted.
SELECT sequence, at, name, severity, organization_id, site, alerting, document FROM untold_event
WHERE sequence > %s AND sequence <= %s ORDER BY sequence;
