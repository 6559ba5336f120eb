-- Messages that changed nothing, with the reason.

-- name: insert
INSERT INTO dead_letter (received_at, topic, reason, size, payload) VALUES (%s, %s, %s, %s, %s);

-- name: prune
-- Parameter: the number of rows that stay.
DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - %s;
