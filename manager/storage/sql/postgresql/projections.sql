-- Progress of the projections: the sequence of the last threat that each has taken in.

-- name: progress
SELECT name, last FROM projection_progress;

-- name: set_progress
INSERT INTO projection_progress (name, last) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET last = excluded.last;

-- name: restart
UPDATE projection_progress SET last = 0;

-- name: extent
-- The lowest sequence, and the one up to which every threat is visible to the next statement or will never be.
SELECT coalesce((SELECT min(sequence) FROM threat), 0), low_water_mark();
