-- Partitions of the threats by time of receipt.

-- name: list
-- The names of the partitions, the default one too.
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'threat'::regclass;

-- name: lock
-- Whether no other writer makes a partition, until the end of the transaction.
SELECT pg_try_advisory_xact_lock(%s::integer, %s::integer);

-- name: first_later
-- The lowest sequence of a threat that was received at a time or later, or that is above the low-water mark.
SELECT least((SELECT min(sequence) FROM threat WHERE received_at >= %s), low_water_mark() + 1);
