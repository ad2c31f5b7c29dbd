INSERT INTO {schema}.claims AS held
    (key, token, state, attempts, ends_at, keep_ms, expires_at, ground, own, note)
SELECT
    ask.key, ask.token, 0, 0,
    now() + ask.lease_ms * interval '1 ms',
    ask.keep_ms,
    now() + (ask.lease_ms + ask.keep_ms) * interval '1 ms',
    nullif(ask.ground, 0), CASE WHEN ask.ground IN (1, 2) THEN ask.own END, nullif(ask.note, '')
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::bytea[])
    AS ask (key, token, lease_ms, keep_ms, ground, own, note)
ORDER BY ask.key
ON CONFLICT (key) DO UPDATE SET
    (token, state, attempts, ends_at, keep_ms, expires_at, ground, own, note, note_before, outcome) = (
        SELECT
            CASE WHEN the.verdict = 'holder' THEN held.token ELSE excluded.token END,
            CASE WHEN the.verdict = 'holder' THEN held.state ELSE 0 END,
            CASE the.verdict WHEN 'nobody' THEN 0 WHEN 'next, counted' THEN held.attempts + 1 ELSE held.attempts END,
            CASE WHEN the.verdict = 'holder' THEN held.ends_at
                ELSE clock_timestamp() + (excluded.ends_at - now()) END,
            CASE WHEN the.verdict = 'holder' THEN held.keep_ms ELSE excluded.keep_ms END,
            CASE WHEN the.verdict = 'holder' THEN held.expires_at
                ELSE clock_timestamp() + (excluded.expires_at - now()) END,
            CASE WHEN the.verdict = 'holder' THEN held.ground ELSE excluded.ground END,
            CASE WHEN the.verdict = 'holder' THEN held.own ELSE excluded.own END,
            CASE WHEN the.verdict = 'holder' THEN held.note ELSE excluded.note END,
            CASE the.verdict WHEN 'nobody' THEN NULL WHEN 'holder' THEN held.note_before
                WHEN 'again' THEN held.note_before ELSE held.note END,
            CASE WHEN the.verdict = 'holder' THEN held.outcome END
        FROM (
            SELECT CASE
                WHEN held.expires_at < now() THEN 'nobody'
                WHEN held.state = 3 THEN 'holder'
                WHEN held.token = excluded.token THEN 'again'
                WHEN held.state = 1 THEN 'next'
                WHEN held.state = 2 THEN 'next, counted'
                WHEN excluded.ground IN (1, 2) AND held.token = excluded.own OR excluded.ground IN (3, 4)
                    THEN CASE WHEN excluded.ground IN (2, 4) THEN 'next, counted' ELSE 'next' END
                WHEN held.ends_at <= now() THEN 'next, counted'
                ELSE 'holder'
            END AS verdict
        ) AS the
    )
RETURNING
    key, token, state, attempts,
    ceil(extract(epoch FROM ends_at - now()) * 1000)::bigint AS ends_in_ms,
    note_before, outcome
