-- The newest entries of a timeline lie beside the head until they are worth a row of their own, and replicas sort their batches: see
-- docs/format.md.

-- Frames, one after the other. Most jobs never have more.
ALTER TABLE heads ADD COLUMN recent bytea NOT NULL DEFAULT '';

-- A replica that does not know of it would write entries after newer ones, and is to fail. By its oid: other schemas of the search path
-- may have one.
DO $$
BEGIN
    EXECUTE (SELECT 'DROP FUNCTION ' || oid::regprocedure FROM pg_proc
        WHERE proname = 'commit_batch' AND pronamespace = current_schema()::regnamespace);
END;
$$;

-- Commits a batch: each write whose job stands as expected, or none when the batch was committed before (unique_violation
-- on batches). Returns the numbers of the jobs whose writes were refused. Locks keys, ids and then heads, each in their order,
-- so that no two batches wait for each other: what is changed is given in the order of the jobs. The lock of the feed comes
-- last, so that its entries are in the order of the commits.
CREATE FUNCTION commit_batch(
    p_batch uuid, p_origin uuid, p_now int8,
    once_job int8[], once_tenant int4[], once_key text[], once_expires_at int8[], once_replaces int8[], once_body bytea[],
    made_job int8[], made_tenant int4[], made_id text[], made_kind int8[], made_status int2[], made_revision int8[],
    made_head bytea[], made_recent bytea[], made_detail bytea[], made_input bytea[], made_result bytea[],
    changed_job int8[], changed_before int8[], changed_revision int8[], changed_head bytea[],
    changed_last int8[], changed_entries bytea[],
    deleted_job int8[], deleted_before int8[], deleted_tenant int4[], deleted_id text[], deleted_until int8[],
    detail_job int8[], detail_body bytea[],
    result_job int8[], result_body bytea[],
    list_job int8[], list_status int2[],
    label_job int8[], label_tenant int4[], label_value text[], label_key text[], label_is_on bool[],
    leaving_job int8[],
    queued_job int8[], queued_kind int8[], queued_rank int8[], queued_at int8[],
    armed_job int8[], armed_at int8[],
    line_job int8[], line_last int8[], line_body bytea[],
    trimmed_job int8[], trimmed_last int8[],
    entry_job int8[], entry_last int8[], entry_body bytea[],
    outdated_job int8[], outdated_last int8[],
    attempt_job int8[], attempt_number int8[], attempt_body bytea[],
    delta_job int8[], delta_body bytea[],
    fed_job int8[], fed_tenant int4[], fed_change bytea[], fed_move bytea[]
) RETURNS int8[] LANGUAGE plpgsql
-- Every row is found by its key. Plans are kept for as long as a connection lasts, perhaps from when the tables were empty.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    every int8[] := made_job || changed_job || deleted_job;
    done int8[] := '{}';
    these int8[];
    keyed int8[] := '{}';
    refused int8[] := '{}';
    place int8;
    fresh record;
BEGIN
    IF cardinality(once_job) > 0 THEN
        WITH put AS (
            INSERT INTO once AS o (tenant, key, job, expires_at, body)
            SELECT w.tenant, w.key, w.job, w.expires_at, w.body
            FROM unnest(once_job, once_tenant, once_key, once_expires_at, once_body) AS w(job, tenant, key, expires_at, body)
            ORDER BY w.tenant, w.key
            ON CONFLICT (tenant, key) DO UPDATE SET job = excluded.job, expires_at = excluded.expires_at, body = excluded.body
            WHERE o.expires_at <= p_now OR EXISTS (
                SELECT FROM unnest(once_tenant, once_key, once_replaces) AS r(tenant, key, replaces)
                WHERE r.tenant = o.tenant AND r.key = o.key AND r.replaces = o.expires_at)
            RETURNING o.job
        )
        SELECT coalesce(array_agg(job), '{}') INTO keyed FROM put;
        IF cardinality(keyed) < cardinality(once_job) THEN
            SELECT array_agg(j) INTO refused FROM unnest(once_job) AS j WHERE j <> ALL (keyed);
        END IF;
    END IF;

    IF cardinality(deleted_job) > 0 THEN
        -- What is deleted here may be asked for by name elsewhere.
        PERFORM 1 FROM ids
        WHERE (tenant, id) IN (SELECT * FROM unnest(made_tenant || deleted_tenant, made_id || deleted_id))
        ORDER BY tenant, id FOR UPDATE;
    END IF;
    IF cardinality(made_job) > 0 THEN
        WITH put AS (
            INSERT INTO ids AS i (tenant, id, job)
            SELECT w.tenant, w.id, w.job FROM unnest(made_tenant, made_id, made_job) AS w(tenant, id, job)
            WHERE w.job <> ALL (refused)
            ORDER BY w.tenant, w.id
            ON CONFLICT (tenant, id) DO UPDATE SET job = excluded.job, reserved_until = NULL WHERE i.reserved_until <= p_now
            RETURNING i.job
        )
        SELECT coalesce(array_agg(job), '{}') INTO done FROM put;
    END IF;

    IF cardinality(deleted_job) > 0 THEN
        PERFORM 1 FROM heads WHERE job = ANY (changed_job || deleted_job) ORDER BY job FOR UPDATE;
    END IF;
    IF cardinality(changed_job) > 0 THEN
        WITH put AS (
            -- Entries become a row once they are 256 bytes, and lie here as well until the next ones come. That they have one is told by
            -- their length alone: it is part of the format.
            UPDATE heads AS h SET revision = w.revision, body = w.head, recent = CASE
                WHEN w.entries IS NULL THEN h.recent
                WHEN octet_length(h.recent) < 256 THEN h.recent || w.entries
                ELSE w.entries END
            -- In the order of the jobs, one by one: no join but a nested loop is allowed, and whichever side is the outer one has it.
            FROM unnest(changed_job, changed_before, changed_revision, changed_head, changed_last, changed_entries)
                AS w(job, before, revision, head, last, entries)
            WHERE h.job = w.job AND h.revision = w.before AND w.job <> ALL (refused)
            RETURNING h.job, w.last,
                CASE WHEN w.entries IS NOT NULL AND octet_length(h.recent) >= 256 THEN h.recent END AS body
        ), kept AS (
            INSERT INTO timeline_rows SELECT job, last, body FROM put WHERE body IS NOT NULL
        )
        SELECT done || coalesce(array_agg(job), '{}') INTO done FROM put;
    END IF;
    IF cardinality(deleted_job) > 0 THEN
        WITH put AS (
            DELETE FROM heads AS h USING unnest(deleted_job, deleted_before) AS w(job, before)
            WHERE h.job = w.job AND h.revision = w.before AND w.job <> ALL (refused)
            RETURNING h.job
        )
        SELECT coalesce(array_agg(job), '{}') INTO these FROM put;
        done := done || these;
        UPDATE ids AS i SET reserved_until = w.until
        FROM unnest(deleted_job, deleted_tenant, deleted_id, deleted_until) AS w(job, tenant, id, until)
        WHERE i.tenant = w.tenant AND i.id = w.id AND i.job = w.job AND w.job = ANY (these);
        DELETE FROM details WHERE job = ANY (these);
        DELETE FROM lists WHERE job = ANY (these);
        DELETE FROM queue WHERE job = ANY (these);
        DELETE FROM deadlines WHERE job = ANY (these);
        INSERT INTO freed SELECT unnest(these);
    END IF;

    IF cardinality(done) < cardinality(every) THEN
        SELECT coalesce(array_agg(j), '{}') INTO refused FROM unnest(every) AS j WHERE j <> ALL (done);
        DELETE FROM once USING unnest(once_tenant, once_key) AS w(tenant, key)
        WHERE once.tenant = w.tenant AND once.key = w.key AND once.job = ANY (refused) AND once.job = ANY (keyed);
    END IF;
    INSERT INTO batches VALUES (p_batch, p_now, refused);
    IF cardinality(done) = 0 THEN
        RETURN refused;
    END IF;

    IF cardinality(made_job) > 0 THEN
        INSERT INTO heads
        SELECT w.* FROM unnest(made_job, made_revision, made_head, made_recent) AS w(job, revision, head, recent)
        WHERE w.job <> ALL (refused);
        INSERT INTO details
        SELECT w.* FROM unnest(made_job, made_detail, made_input, made_result) AS w(job, detail, input, result)
        WHERE w.job <> ALL (refused);
        INSERT INTO lists
        SELECT w.* FROM unnest(made_job, made_kind, made_status) AS w(job, kind, status) WHERE w.job <> ALL (refused);
    END IF;
    IF cardinality(detail_job) > 0 THEN
        UPDATE details AS d SET body = w.body FROM unnest(detail_job, detail_body) AS w(job, body)
        WHERE d.job = w.job AND w.job <> ALL (refused);
    END IF;
    IF cardinality(result_job) > 0 THEN
        UPDATE details AS d SET result = w.body FROM unnest(result_job, result_body) AS w(job, body)
        WHERE d.job = w.job AND w.job <> ALL (refused);
    END IF;
    IF cardinality(list_job) > 0 THEN
        UPDATE lists AS l SET status = w.status FROM unnest(list_job, list_status) AS w(job, status)
        WHERE l.job = w.job AND w.job <> ALL (refused);
    END IF;
    IF cardinality(label_job) > 0 THEN
        DELETE FROM labels AS l
        USING unnest(label_job, label_tenant, label_value, label_key, label_is_on) AS w(job, tenant, value, key, is_on)
        WHERE NOT w.is_on AND l.tenant = w.tenant AND l.value = w.value AND l.key = w.key AND l.job = w.job
            AND w.job <> ALL (refused);
        INSERT INTO labels
        SELECT w.tenant, w.value, w.key, w.job
        FROM unnest(label_job, label_tenant, label_value, label_key, label_is_on) AS w(job, tenant, value, key, is_on)
        WHERE w.is_on AND w.job <> ALL (refused);
    END IF;
    IF cardinality(leaving_job) > 0 THEN
        DELETE FROM queue WHERE job = ANY (leaving_job) AND job <> ALL (refused);
    END IF;
    IF cardinality(queued_job) > 0 THEN
        INSERT INTO queue
        SELECT w.* FROM unnest(queued_job, queued_kind, queued_rank, queued_at) AS w(job, kind, rank, queued_at)
        WHERE w.job <> ALL (refused);
    END IF;
    IF cardinality(armed_job) > 0 THEN
        DELETE FROM deadlines USING unnest(armed_job, armed_at) AS w(job, at)
        WHERE deadlines.job = w.job AND w.at IS NULL AND w.job <> ALL (refused);
        INSERT INTO deadlines SELECT w.* FROM unnest(armed_job, armed_at) AS w(job, at)
        WHERE w.at IS NOT NULL AND w.job <> ALL (refused)
        ON CONFLICT (job) DO UPDATE SET at = excluded.at;
    END IF;
    IF cardinality(line_job) > 0 THEN
        INSERT INTO log_rows
        SELECT w.* FROM unnest(line_job, line_last, line_body) AS w(job, last, body) WHERE w.job <> ALL (refused);
    END IF;
    IF cardinality(trimmed_job) > 0 THEN
        FOR fresh IN SELECT w.* FROM unnest(trimmed_job, trimmed_last) AS w(job, last) WHERE w.job <> ALL (refused) LOOP
            -- What is over is more than a few rows only when the limit was lowered; the rest goes with the next trimming.
            DELETE FROM log_rows WHERE job = fresh.job AND last IN (
                SELECT last FROM log_rows WHERE job = fresh.job AND last <= fresh.last ORDER BY last LIMIT 2000);
        END LOOP;
    END IF;
    IF cardinality(entry_job) > 0 THEN
        INSERT INTO timeline_rows
        SELECT w.* FROM unnest(entry_job, entry_last, entry_body) AS w(job, last, body) WHERE w.job <> ALL (refused);
    END IF;
    IF cardinality(outdated_job) > 0 THEN
        DELETE FROM timeline_rows AS t USING unnest(outdated_job, outdated_last) AS w(job, last)
        WHERE t.job = w.job AND t.last <= w.last AND w.job <> ALL (refused);
    END IF;
    IF cardinality(attempt_job) > 0 THEN
        INSERT INTO attempts
        SELECT w.* FROM unnest(attempt_job, attempt_number, attempt_body) AS w(job, attempt, body) WHERE w.job <> ALL (refused)
        ON CONFLICT (job, attempt) DO UPDATE SET body = excluded.body;
        DELETE FROM attempts AS a USING unnest(attempt_job, attempt_number) AS w(job, attempt)
        WHERE a.job = w.job AND a.attempt <= w.attempt - 100 AND w.job <> ALL (refused);
    END IF;
    IF cardinality(delta_job) > 0 THEN
        INSERT INTO deltas(bodies)
        SELECT array_agg(w.body ORDER BY w.nth) FROM unnest(delta_job, delta_body) WITH ORDINALITY AS w(job, body, nth)
        WHERE w.job <> ALL (refused) HAVING count(*) > 0;
    END IF;

    IF EXISTS (SELECT FROM unnest(fed_job) AS j WHERE j <> ALL (refused)) THEN
        PERFORM pg_advisory_xact_lock(1297107027, 'feed'::regclass::oid::int4);
        -- Eight for each millisecond, so that a place of a feed which was lost with a failover is none of what came after.
        SELECT greatest(last_value, p_now * 8 - 1) INTO place FROM feed_entries;
        IF cardinality(refused) = 0 AND cardinality(deleted_job) = 0 AND fed_tenant[1] = ALL (fed_tenant) THEN
            -- The same as below, for nearly all batches.
            place := place + 1;
            INSERT INTO feed VALUES (place, fed_tenant[1], p_origin, array_remove(fed_change, NULL), fed_move);
        ELSE
            FOR fresh IN
                SELECT w.tenant, coalesce(array_agg(w.change ORDER BY w.nth) FILTER (WHERE w.change IS NOT NULL), '{}') AS changes,
                    array_agg(w.move ORDER BY w.nth) AS moves
                FROM unnest(fed_job, fed_tenant, fed_change, fed_move) WITH ORDINALITY AS w(job, tenant, change, move, nth)
                WHERE w.job <> ALL (refused) GROUP BY w.tenant ORDER BY w.tenant
            LOOP
                place := place + 1;
                INSERT INTO feed VALUES (place, fresh.tenant, p_origin, fresh.changes, fresh.moves);
                INSERT INTO gone SELECT w.job, place FROM unnest(fed_job, fed_tenant) AS w(job, tenant)
                WHERE w.tenant = fresh.tenant AND w.job = ANY (deleted_job) AND w.job <> ALL (refused);
            END LOOP;
        END IF;
        PERFORM setval('feed_entries', place);
    END IF;
    RETURN refused;
END;
$$;
