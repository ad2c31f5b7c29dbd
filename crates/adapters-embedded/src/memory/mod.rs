//! The reference model: every port in memory, slow and obvious.
//!
//! It passes the same conformance lists as the durable backends and is what the domain's tests run on. It
//! needs no thread and no file, only the clock that it is given, so it works under tokio's paused time. It
//! never removes a record by itself: `retention.ms` and `retention.bytes` are taken and described, a trim
//! removes.

mod groups;
mod idempotency;
mod jobs;
mod log;
mod offsets;
mod reader;
mod schemas;
mod settings;
mod topics;

pub use idempotency::MemoryIdempotency;
pub use jobs::MemoryJobs;
pub use log::MemoryLog;
pub use offsets::MemoryOffsets;
pub use schemas::MemorySchemas;

use crate::group::{GroupConfig, Groups};
use ports::{
    Clock, EventLog, GroupAdmin, GroupMembership, IdempotencyStore, JobStore, OffsetStore, SchemaStore,
    TopicAdmin,
};
use std::sync::Arc;

/// All ports of one process, in memory. Clones share what they hold.
#[derive(Clone, Debug)]
pub struct Memory {
    log: Arc<MemoryLog>,
    admin: Arc<dyn TopicAdmin>,
    groups: Groups,
    offsets: Arc<MemoryOffsets>,
    jobs: Arc<MemoryJobs>,
    idempotency: Arc<MemoryIdempotency>,
    schemas: Arc<MemorySchemas>,
}

impl Memory {
    /// An empty backend.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_groups(clock, GroupConfig::default())
    }

    /// An empty backend with these times of group membership.
    pub fn with_groups(clock: Arc<dyn Clock>, config: GroupConfig) -> Self {
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let groups = Groups::new(log.clone(), clock.clone(), config);
        Self {
            log,
            admin: groups.admin(),
            offsets: Arc::new(MemoryOffsets::new(groups.clone())),
            groups,
            jobs: Arc::default(),
            idempotency: Arc::new(MemoryIdempotency::new(clock)),
            schemas: Arc::default(),
        }
    }

    /// The log.
    pub fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    /// The topics.
    pub fn admin(&self) -> Arc<dyn TopicAdmin> {
        self.admin.clone()
    }

    /// The membership.
    pub fn membership(&self) -> Arc<dyn GroupMembership> {
        Arc::new(self.groups.clone())
    }

    /// The positions.
    pub fn offsets(&self) -> Arc<dyn OffsetStore> {
        self.offsets.clone()
    }

    /// The groups.
    pub fn groups(&self) -> Arc<dyn GroupAdmin> {
        self.offsets.clone()
    }

    /// The documents.
    pub fn jobs(&self) -> Arc<dyn JobStore> {
        self.jobs.clone()
    }

    /// The claims.
    pub fn idempotency(&self) -> Arc<dyn IdempotencyStore> {
        self.idempotency.clone()
    }

    /// The schemas.
    pub fn schemas(&self) -> Arc<dyn SchemaStore> {
        self.schemas.clone()
    }
}
