//! The conformance list on a real Redis, which `REDIS_URL` names.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_redis::RedisConfig;
use common::{config, open};
use testkit::Backend;

async fn redis() -> Backend {
    backend(config())
}

/// With the keys spread as for a cluster: batches are split.
async fn redis_with_many_hash_tags() -> Backend {
    backend(RedisConfig { hash_tags: 64, ..config() })
}

fn backend(config: RedisConfig) -> Backend {
    let redis = open(&config);
    Backend::new()
        .with_idempotency(redis.idempotency())
        .with_jobs(redis.jobs())
        .with_schemas(redis.schemas())
        .with_reopen(move || Box::pin(async move { backend(config) }))
}

testkit::idempotency_store_conformance!(redis_idempotency_store, redis);
testkit::job_store_conformance!(redis_job_store, redis);
testkit::idempotency_store_conformance!(redis_hash_tags_idempotency_store, redis_with_many_hash_tags);
testkit::schema_store_conformance!(redis_schema_store, redis);
