//! The conformance list on a real PostgreSQL, which `DATABASE_URL` names.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use common::{config, open};
use testkit::Backend;

async fn postgres() -> Backend {
    connect().with_reopen(|| Box::pin(async { connect() }))
}

fn connect() -> Backend {
    let postgres = open(&config());
    Backend::new()
        .with_idempotency(postgres.idempotency())
        .with_jobs(postgres.jobs())
        .with_schemas(postgres.schemas())
        .keeping(postgres)
}

testkit::idempotency_store_conformance!(postgres_idempotency_store, postgres);
testkit::job_store_conformance!(postgres_job_store, postgres);
testkit::schema_store_conformance!(postgres_schema_store, postgres);
