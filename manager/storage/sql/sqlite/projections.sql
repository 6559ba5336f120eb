-- Progress of the projections: the sequence of the last threat that each has taken in.

-- name: progress
SELECT name, last FROM threat_follower;

-- name: set_progress
INSERT INTO threat_follower (name, last) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET last = excluded.last;

-- name: restart
UPDATE threat_follower SET last = 0;
