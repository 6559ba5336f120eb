-- Progress of the projections: the sequence of the last threat that each has taken in.

-- name: progress
SELECT name, last FROM projection_progress;

-- name: set_progress
INSERT INTO projection_progress (name, last) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET last = excluded.last;

-- name: restart
UPDATE projection_progress SET last = 0;

-- name: extent
-- The lowest and the highest sequence; each is one look at an end of the table.
SELECT
    coalesce((SELECT min(sequence) FROM threat), 0),
    coalesce((SELECT max(sequence) FROM threat), 0);
