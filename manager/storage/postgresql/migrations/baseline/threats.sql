-- Stored reports in partitions by day of receipt, and one row for each id that was ever stored.

-- The order of storing; `allocate_sequences` moves it on.
CREATE SEQUENCE threat_sequence;

-- No unique key: `stored_id` has it. No reference to agent: a reference would lock the agent's row for each report, so
-- the statement that stores reports checks that their agents exist. Partitions for days are made ahead of them.
CREATE TABLE threat (
    sequence bigint NOT NULL,
    agent_number bigint NOT NULL,
    threat_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    event_time double precision NOT NULL,
    received_at double precision NOT NULL,
    time_known boolean NOT NULL,
    type text COLLATE "C" NOT NULL,
    severity text COLLATE "C" NOT NULL,
    confidence double precision NOT NULL,
    technique text COLLATE "C",
    source_ip text COLLATE "C",
    file_hash text COLLATE "C",
    document text COLLATE "C" NOT NULL,
    ignored bigint NOT NULL DEFAULT 0,
    vouched bigint NOT NULL DEFAULT 0
) PARTITION BY RANGE (received_at);
CREATE INDEX threat_by_sequence ON threat (sequence);
CREATE INDEX threat_by_id ON threat (threat_id, agent_number);
CREATE INDEX threat_technique_event_time ON threat (technique, event_time);
CREATE INDEX threat_source_ip ON threat (source_ip, event_time) WHERE source_ip IS NOT NULL;
CREATE INDEX threat_file_hash ON threat (file_hash, event_time) WHERE file_hash IS NOT NULL;

-- Rows with a time for which no partition was made, as after a wrong clock.
CREATE TABLE threat_of_other_days PARTITION OF threat DEFAULT;

-- Every stored report has its row from the beginning; a conflict on the key says that it was stored before.
CREATE TABLE stored_id (
    agent_number bigint NOT NULL,
    threat_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    stored_at double precision NOT NULL,
    PRIMARY KEY (agent_number, threat_id)
) PARTITION BY HASH (agent_number, threat_id);
CREATE INDEX stored_id_stored_at ON stored_id (stored_at);
CREATE TABLE stored_id_0 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE stored_id_1 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE stored_id_2 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE stored_id_3 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE stored_id_4 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE stored_id_5 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE stored_id_6 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE stored_id_7 PARTITION OF stored_id FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- Moves the order of storing on by a number of reports; returns the first sequence of their block.
--
-- Transactions commit in another order than that of their blocks. So until its end each has a shared advisory lock whose
-- number is not above the first of its block: it is taken before the block, so `low_water_mark` misses no block.
-- The inner lock makes two calls one; it ends with the inner block, whose rollback leaves the sequence as it is. A lock
-- of the session would outlive a cancelled statement, and one of the transaction would make writers wait for commits.
CREATE FUNCTION allocate_sequences(wanted bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
BEGIN
    IF wanted < 1 THEN
        RAISE EXCEPTION 'a block has at least one sequence' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(CASE WHEN is_called THEN last_value + 1 ELSE last_value END)
    FROM threat_sequence;
    BEGIN
        PERFORM pg_advisory_xact_lock(1348562535, 2);
        first := nextval('threat_sequence');
        PERFORM setval('threat_sequence', first + wanted - 1);
        RAISE EXCEPTION USING ERRCODE = 'PGSEQ';
    EXCEPTION WHEN SQLSTATE 'PGSEQ' THEN
        NULL;
    END;
    RETURN first;
END
$$;

-- The sequence up to which every threat is visible to the next statement, or will never be.
--
-- The sequence is read before the locks: a block up to its value had its lock by then, and a lock that is gone belongs
-- to a transaction that has ended. A transaction that reads by the mark needs a snapshot that is taken after this call.
-- Every advisory lock of this database with a number in one piece is such a lock; all others have two numbers.
CREATE FUNCTION low_water_mark() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    highest bigint;
    lowest_held bigint;
BEGIN
    SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO highest FROM threat_sequence;
    SELECT min((classid::bigint << 32) | objid::bigint) INTO lowest_held
    FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RETURN least(highest, lowest_held - 1);
END
$$;

CREATE TABLE recognized_threat (
    threat_id text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    at double precision NOT NULL,
    author text COLLATE "C" NOT NULL,
    note text COLLATE "C",
    PRIMARY KEY (threat_id, agent_id)
);
CREATE INDEX recognized_threat_at ON recognized_threat (at);
