//! The conformance lists on both embedded backends: the reference model, and the durable log with the tables
//! beside it.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_embedded::{
    disk::{DiskConfig, DiskLog},
    group::{GroupConfig, Groups},
    memory::Memory,
    tables::Tables,
};
use std::{path::PathBuf, sync::Arc};
use testkit::{Backend, SystemLikeClock};

async fn memory() -> Backend {
    let memory = Memory::new(Arc::new(SystemLikeClock::new()));
    Backend::new()
        .with_log(memory.log())
        .with_admin(memory.admin())
        .with_membership(memory.membership())
        .with_offsets(memory.offsets())
        .with_groups(memory.groups())
        .with_jobs(memory.jobs())
        .with_idempotency(memory.idempotency())
        .with_schemas(memory.schemas())
}

testkit::event_log_conformance!(memory_event_log, memory);
testkit::topic_admin_conformance!(memory_topic_admin, memory);
testkit::group_membership_conformance!(memory_group_membership, memory);
testkit::offset_store_conformance!(memory_offset_store, memory);
testkit::group_admin_conformance!(memory_group_admin, memory);
testkit::job_store_conformance!(memory_job_store, memory);
testkit::idempotency_store_conformance!(memory_idempotency_store, memory);
testkit::schema_store_conformance!(memory_schema_store, memory);

async fn disk() -> Backend {
    let dir = tempfile::tempdir().expect("a temporary directory");
    open_disk(dir.path().join("data")).keeping(dir)
}

/// Opens what lies in `data_dir`, as the service does when it starts.
fn open_disk(data_dir: PathBuf) -> Backend {
    let clock = Arc::new(SystemLikeClock::new());
    let log = Arc::new(DiskLog::open(DiskConfig::new(&data_dir), clock.clone()).expect("the log opens"));
    let tables = Tables::open(&data_dir).expect("the tables open");
    let groups = Groups::new(log.clone(), clock.clone(), GroupConfig::default());
    let offsets = Arc::new(tables.offsets(groups.clone()));
    Backend::new()
        .with_log(log)
        .with_admin(groups.admin())
        .with_offsets(offsets.clone())
        .with_groups(offsets)
        .with_membership(Arc::new(groups))
        .with_idempotency(Arc::new(tables.claims(clock).expect("the claims open")))
        .with_jobs(Arc::new(tables.clone()))
        .with_schemas(Arc::new(tables))
        .with_reopen(move || Box::pin(async move { open_disk(data_dir) }))
}

testkit::event_log_conformance!(disk_event_log, disk);
testkit::topic_admin_conformance!(disk_topic_admin, disk);
testkit::group_membership_conformance!(disk_group_membership, disk);
testkit::offset_store_conformance!(disk_offset_store, disk);
testkit::group_admin_conformance!(disk_group_admin, disk);
testkit::job_store_conformance!(disk_job_store, disk);
testkit::idempotency_store_conformance!(disk_idempotency_store, disk);
testkit::schema_store_conformance!(disk_schema_store, disk);
