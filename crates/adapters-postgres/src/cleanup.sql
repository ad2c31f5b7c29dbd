WITH over AS (
    SELECT key FROM {schema}.claims WHERE expires_at < now() ORDER BY expires_at LIMIT $1
    FOR UPDATE SKIP LOCKED
)
DELETE FROM {schema}.claims AS claims USING over WHERE claims.key = over.key RETURNING claims.key
