-- What is claimed and what was done. The times are this server's.
CREATE TABLE {schema}.claims (
    -- The last lease.
    token bigint NOT NULL,
    ends_at timestamptz NOT NULL,
    -- How long it is remembered that it ended without an outcome, in ms.
    keep_ms bigint NOT NULL,
    -- From then on it is as if it had never been.
    expires_at timestamptz NOT NULL,
    -- The attempts before the last lease that counted.
    attempts integer NOT NULL,
    -- 0 leased (the lease may have lapsed), 1 released, 2 released and counts, 3 done.
    state smallint NOT NULL,
    -- Whether the last settlement held, for who said it.
    applied boolean NOT NULL DEFAULT false,
    key uuid PRIMARY KEY,
    -- On what ground the lease was asked for: null none, 1 own, 2 own and counts, 3 taken over, 4 taken over
    -- and counts; and the own lease. A claim brings them in columns, as it meets a row that way only.
    ground smallint,
    own bigint,
    -- Of the lease, and of the one before it.
    note bytea,
    note_before bytea,
    outcome bytea
);

CREATE INDEX claims_by_expiry ON {schema}.claims (expires_at);
