-- Whose transaction an entry belongs to. Set by the trigger and by nothing else, so that COPY, raw SQL, a data-only restore
-- and logical replication cannot lie: a foreign id here would never be looked at by the sequencer.
ALTER TABLE eventstore_entry ADD COLUMN xid xid8 NOT NULL;
CREATE INDEX eventstore_entry_xid ON eventstore_entry (xid, id);

CREATE FUNCTION eventstore_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.xid := pg_current_xact_id();
    RETURN NEW;
END
$$;
CREATE TRIGGER eventstore_entry_stamp BEFORE INSERT ON eventstore_entry
    FOR EACH ROW EXECUTE FUNCTION eventstore_stamp();
ALTER TABLE eventstore_entry ENABLE ALWAYS TRIGGER eventstore_entry_stamp;

-- jsonb, not json: it also refuses \u0000 and lone surrogates, which could be stored but read by nobody.
ALTER TABLE eventstore_entry
    ADD CONSTRAINT eventstore_entry_payload_json CHECK ((payload::jsonb) IS NOT NULL),
    ADD CONSTRAINT eventstore_entry_metadata_json CHECK (jsonb_typeof(metadata::jsonb) = 'object');

CREATE INDEX eventstore_entry_correlation ON eventstore_entry (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX eventstore_entry_causation ON eventstore_entry (causation_id) WHERE causation_id IS NOT NULL;
CREATE INDEX eventstore_entry_subject ON eventstore_entry (subject) WHERE subject IS NOT NULL;

-- Append-only, with one door: SET LOCAL eventstore.door = 'open'.
CREATE FUNCTION eventstore_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('eventstore.door', true) = 'open' THEN
        RETURN CASE WHEN TG_OP = 'UPDATE' THEN NEW ELSE OLD END;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'Record a new event that corrects the old one; retention and erasure have commands of their own.';
END
$$;
CREATE TRIGGER eventstore_entry_refuse BEFORE UPDATE OR DELETE ON eventstore_entry
    FOR EACH ROW EXECUTE FUNCTION eventstore_refuse();
CREATE TRIGGER eventstore_entry_refuse_truncate BEFORE TRUNCATE ON eventstore_entry
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore_refuse();
CREATE TRIGGER eventstore_position_refuse BEFORE UPDATE OR DELETE ON eventstore_position
    FOR EACH ROW EXECUTE FUNCTION eventstore_refuse();
CREATE TRIGGER eventstore_position_refuse_truncate BEFORE TRUNCATE ON eventstore_position
    FOR EACH STATEMENT EXECUTE FUNCTION eventstore_refuse();

-- One pass of the sequencer: gives the next positions to the entries that have committed and have none.
--
-- Why it is exact. A tick keeps the snapshot up to which the log is sequenced. New are the entries of the transactions that
-- ended between that snapshot and this one. A snapshot that shows E2 shows everything that committed before E2 was inserted;
-- new together, their ids are in that order (the sequence has CACHE 1); otherwise the earlier pass took the earlier one. No
-- clock and no time-out takes part. What could go wrong, and what stops it:
--  * Inside somebody's transaction: a snapshot never lists its own transaction as running, so what that transaction records
--    afterwards would be lost for ever. COMMIT as the first statement is an error (2D000) in any open transaction.
--  * Two passes at once: the advisory lock, let go after the commit is visible. Keyed by the table, so that two logs in two
--    schemas do not meet. Who waits longer than a second gets 55P03.
--  * The snapshot read after the entries: rows could commit in between and be counted as seen. It is read first, and what
--    is visible later is cut to it.
--  * A commit that is shown and then lost: synchronous_commit off is raised to on (never lowered from remote_apply).
--  * Another history, in which these transaction ids mean other transactions: see the rebase below.
CREATE PROCEDURE eventstore_sequence(
    max_entries bigint, forced boolean, INOUT outcome text, INOUT numbered bigint, INOUT head bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    started timestamptz := clock_timestamp();
    tick eventstore_tick;
    here text;
    line text;
    cur pg_snapshot;
    since pg_snapshot;
    target pg_snapshot;
    cuts bigint[];
    after_id bigint;
    upto_id bigint;
    most bigint := max_entries;
    moved boolean;
    lo xid8[];
    hi xid8[];
    ended xid8[];
    new_tick bigint;
BEGIN
    COMMIT;
    -- Each statement below must see what has committed when it begins.
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    numbered := 0;
    IF current_setting('transaction_read_only') = 'on' THEN  -- a standby, or a session that may not write
        outcome := 'read-only';
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '1000', true);
    PERFORM pg_advisory_xact_lock(7002, 'eventstore_tick'::regclass::oid::int);
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    SELECT * INTO tick FROM eventstore_tick t ORDER BY t.id DESC LIMIT 1;
    here := (SELECT c.system_identifier FROM pg_control_system() c) || '/' || 'eventstore_entry'::regclass::oid;
    line := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    cur := pg_current_snapshot();
    outcome := 'done';

    IF tick.id IS NULL THEN
        head := coalesce((SELECT max(p.position) FROM eventstore_position p), 0);
        INSERT INTO eventstore_epoch (number, log, began_after, reason)
            SELECT 1, gen_random_uuid(), 0, 'created' WHERE NOT EXISTS (SELECT FROM eventstore_epoch)
            ON CONFLICT DO NOTHING;
    ELSE
        head := tick.head;
        moved := tick.cluster <> here OR pg_snapshot_xmax(tick.snapshot::pg_snapshot) > pg_snapshot_xmax(cur);
        IF moved OR tick.timeline <> line THEN
            -- The same positions may name other events from here on: a new epoch begins.
            INSERT INTO eventstore_epoch (number, log, began_after, reason)
                SELECT e.number + 1, e.log, head,
                       CASE WHEN moved THEN 'the log was moved or restored' ELSE 'the server was promoted' END
                FROM eventstore_epoch e ORDER BY e.number DESC LIMIT 1;
        END IF;
    END IF;

    IF tick.id IS NULL OR moved OR forced THEN
        -- Rebase: the stored snapshot says nothing here. Every entry without a position gets one, in one statement and so
        -- from one snapshot; it may number entries that cur does not cover yet, and the next pass drops those again.
        WITH fresh AS MATERIALIZED (
            SELECT e.id, e.type, e.stream, row_number() OVER (ORDER BY e.id) AS n FROM eventstore_entry e
            WHERE NOT EXISTS (SELECT FROM eventstore_position p WHERE p.entry_id = e.id)
        ), added AS (
            INSERT INTO eventstore_type (name)
                SELECT d.type FROM (SELECT DISTINCT f.type FROM fresh f) d
                WHERE NOT EXISTS (SELECT FROM eventstore_type t WHERE t.name = d.type)
            RETURNING id, name
        )
        INSERT INTO eventstore_position (position, entry_id, type_id, slot)
            SELECT head + f.n, f.id,
                   coalesce((SELECT t.id FROM eventstore_type t WHERE t.name = f.type),
                            (SELECT a.id FROM added a WHERE a.name = f.type)),
                   (hashtextextended(f.stream, 0) & 63)::smallint
            FROM fresh f ORDER BY f.n;
        GET DIAGNOSTICS numbered = ROW_COUNT;
        head := head + numbered;
        INSERT INTO eventstore_tick (head, snapshot, cluster, timeline) VALUES (head, cur::text, here, line);
        RETURN;
    END IF;

    IF tick.target IS NULL THEN
        IF tick.snapshot = cur::text AND tick.timeline = line THEN
            RETURN;  -- nothing has ended since
        END IF;
        target := cur;
    ELSE
        -- An earlier pass could not take all of the difference: its next window. The order stays that of one big pass.
        target := tick.target::pg_snapshot;
        cuts := tick.cuts::bigint[];
        after_id := cuts[1];
        upto_id := coalesce(cuts[2], 9223372036854775807);
        most := 9223372036854775807;
    END IF;
    since := tick.snapshot::pg_snapshot;

    IF after_id IS NULL THEN
        -- Only transactions that have ended: those listed as running then and not now, and the ranges between the ones
        -- running now. Walking over rows of running ones costs 100 to 300 ms a pass beside an open bulk load.
        SELECT array_agg(q.x ORDER BY q.x), array_agg(q.y ORDER BY q.x) INTO lo, hi FROM (
            SELECT c.x, lead(c.x, 1, pg_snapshot_xmax(target)) OVER (ORDER BY c.x) AS y FROM (
                SELECT (pg_snapshot_xmax(since)::text::bigint - 1)::text::xid8 AS x
                UNION ALL
                SELECT x FROM pg_snapshot_xip(target) x WHERE x >= pg_snapshot_xmax(since)
            ) c
        ) q;
        ended := ARRAY(SELECT pg_snapshot_xip(since) EXCEPT SELECT pg_snapshot_xip(target));
    END IF;

    -- The plan must go by the indexes, however small the tables are when it is cached and whatever their statistics say: to an
    -- ANALYZE beside an open bulk load the log is empty, and then all indexes cost the same. So each branch has conditions
    -- that only one index can serve: transactions by (xid, id), a window by the primary key. The other branches do not run:
    -- arrays that are NULL have no elements, and no id is above NULL.
    PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
            set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true);
    WITH fresh AS MATERIALIZED (
        SELECT q.id, q.type, q.stream, row_number() OVER (ORDER BY q.id) AS n FROM (
            SELECT e.id, e.type, e.stream FROM unnest(lo, hi) r(lo, hi) CROSS JOIN LATERAL (
                SELECT i.id, i.type, i.stream FROM eventstore_entry i WHERE i.xid > r.lo AND i.xid < r.hi OFFSET 0
            ) e
            UNION ALL
            SELECT e.id, e.type, e.stream FROM unnest(ended) x(xid) CROSS JOIN LATERAL (
                SELECT i.id, i.type, i.stream FROM eventstore_entry i WHERE i.xid = x.xid OFFSET 0
            ) e
            UNION ALL
            SELECT i.id, i.type, i.stream FROM eventstore_entry i
            WHERE i.id > after_id AND i.id <= upto_id
              AND pg_visible_in_snapshot(i.xid, target) AND NOT pg_visible_in_snapshot(i.xid, since)
        ) q WHERE NOT EXISTS (SELECT FROM eventstore_position p WHERE p.entry_id = q.id)
    ), added AS (
        INSERT INTO eventstore_type (name)
            SELECT d.type FROM (SELECT DISTINCT f.type FROM fresh f WHERE f.n <= most) d
            WHERE NOT EXISTS (SELECT FROM eventstore_type t WHERE t.name = d.type)
        RETURNING id, name
    ), placed AS (
        INSERT INTO eventstore_position (position, entry_id, type_id, slot)
            SELECT head + f.n, f.id,
                   coalesce((SELECT t.id FROM eventstore_type t WHERE t.name = f.type),
                            (SELECT a.id FROM added a WHERE a.name = f.type)),
                   (hashtextextended(f.stream, 0) & 63)::smallint
            FROM fresh f WHERE f.n <= most ORDER BY f.n
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM placed),
           CASE WHEN tick.target IS NULL
                THEN (SELECT array_agg(f.id ORDER BY f.n) FROM fresh f
                      WHERE f.n % most = 0 AND f.n < (SELECT max(l.n) FROM fresh l))
                ELSE cuts[2:] END
        INTO numbered, cuts;
    IF cardinality(cuts) = 0 THEN
        cuts := NULL;
    END IF;
    head := head + numbered;
    IF tick.target IS NOT NULL THEN
        outcome := 'more';  -- also after the last window: what has committed since the target was fixed is still to be taken
    END IF;

    IF cuts IS NOT NULL THEN
        outcome := 'more';
        INSERT INTO eventstore_tick (head, snapshot, target, cuts, cluster, timeline)
            VALUES (head, tick.snapshot, target::text, cuts::text, here, line) RETURNING id INTO new_tick;
    ELSIF numbered > 0 OR tick.target IS NOT NULL OR tick.timeline <> line
          -- The clock is about cost only: rolled-back rows that are walked over at every pass are left behind once.
          OR clock_timestamp() - started > interval '20 ms' THEN
        INSERT INTO eventstore_tick (head, snapshot, cluster, timeline)
            VALUES (head, target::text, here, line) RETURNING id INTO new_tick;
    END IF;
    IF new_tick % 1000 = 0 THEN
        DELETE FROM eventstore_tick t WHERE t.id <= new_tick - 1000;
    END IF;
END
$$;
