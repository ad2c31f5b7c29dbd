INSERT INTO {schema}.claims AS held
    (key, token, state, attempts, ends_at, keep_ms, expires_at, applied, outcome)
SELECT
    said.key, said.token, said.state, 0,
    now() + said.span_ms * interval '1 ms',
    0,
    -- What is unknown can be completed; else the row stands for nothing, until the cleanup.
    CASE WHEN said.state = 3 THEN now() + said.span_ms * interval '1 ms' ELSE '-infinity' END,
    said.state = 3,
    nullif(said.outcome, '')
FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bytea[])
    AS said (key, token, state, span_ms, outcome)
ORDER BY said.key
ON CONFLICT (key) DO UPDATE SET
    (token, state, attempts, ends_at, expires_at, applied, note, note_before, outcome) = (
        SELECT
            CASE WHEN the.verdict = 'done' THEN excluded.token ELSE held.token END,
            CASE WHEN the.verdict IN ('stays', 'fenced') THEN held.state ELSE excluded.state END,
            CASE WHEN the.verdict = 'done' THEN 0 ELSE held.attempts END,
            CASE WHEN the.verdict = 'extended' THEN clock_timestamp() + (excluded.ends_at - now())
                ELSE held.ends_at END,
            CASE the.verdict
                WHEN 'done' THEN clock_timestamp() + (excluded.expires_at - now())
                WHEN 'extended' THEN clock_timestamp() + (excluded.ends_at - now())
                    + held.keep_ms * interval '1 ms'
                WHEN 'released' THEN clock_timestamp() + held.keep_ms * interval '1 ms'
                WHEN 'never claimed' THEN '-infinity'
                ELSE held.expires_at END,
            the.verdict <> 'fenced',
            CASE WHEN the.verdict NOT IN ('done', 'never claimed') THEN held.note END,
            CASE WHEN the.verdict NOT IN ('done', 'never claimed') THEN held.note_before END,
            CASE WHEN the.verdict = 'done' THEN excluded.outcome ELSE held.outcome END
        FROM (
            SELECT CASE
                WHEN held.expires_at < now() THEN CASE WHEN excluded.state = 3 THEN 'done' ELSE 'fenced' END
                WHEN held.token <> excluded.token THEN 'fenced'
                WHEN held.state = 3 THEN CASE WHEN excluded.state = 3 THEN 'stays' ELSE 'fenced' END
                WHEN excluded.state = 3 THEN 'done'
                WHEN excluded.state = 0 THEN 'extended'
                -- A first attempt that does not count was none.
                WHEN excluded.state = 1 AND held.attempts = 0 THEN 'never claimed'
                ELSE 'released'
            END AS verdict
        ) AS the
    )
RETURNING key, applied
