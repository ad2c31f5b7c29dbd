//! What crosses the boundary between the domain and its backends: the vocabulary (records, topics,
//! offsets, errors) and one trait a port.
//!
//! A trait's documentation is its contract: what it guarantees, which errors it gives, and what
//! dropping one of its futures does. Every backend passes the same conformance list (`testkit`).
//! Calls on the data plane take batches, calls on the control plane take one.
//!
//! This crate must never do I/O, need a runtime, or know a wire format.

mod clock;
mod error;
mod event_handler;
mod event_log;
mod group_admin;
mod group_membership;
mod idempotency_store;
mod job_store;
mod offset_store;
mod record;
mod schema_registry;
mod schema_store;
mod topic;
mod topic_admin;
mod webhooks;

pub use clock::{Clock, Monotonic};
pub use error::{BoxError, Effect, ErrorKind, PortError, Result, Retry};
pub use event_handler::{EventHandler, Failure, HandlerDelivery, Outcome};
pub use event_log::{
    AppendRequest, AppendResult, Appended, Capabilities, EventLog, Fetched, LateReports, LogReader, Position,
    ReadLimits,
};
pub use group_admin::{
    GroupAdmin, GroupInfo, GroupMember, GroupName, GroupNameError, GroupOffsets, GroupState, GroupSummary,
    GroupType,
};
pub use group_membership::{GroupMembership, Handover, Membership, MembershipEvent};
pub use idempotency_store::{
    Claim, ClaimKey, ClaimRequest, Ground, IdempotencyStore, Settled, Settlement, Token,
};
pub use job_store::{Expected, JobKind, JobStore, Stored};
pub use offset_store::{Committed, OffsetCommit, OffsetStore};
pub use record::{Header, Headers, Record, StoredRecord, Timestamp};
pub use schema_registry::{
    Asked, RegistryAgainst, RegistryCheck, RegistryError, RegistryReference, RegistryRefusal, RegistrySchema,
    RegistryVersion, SchemaRegistry,
};
pub use schema_store::{
    Fingerprint, RegisteredSchema, Revision, SchemaChange, SchemaChanged, SchemaId, SchemaKey, SchemaSetting,
    SchemaStore, StoredSchema, StoredSubject, SubjectVersion, VersionKey,
};
pub use topic::{Generation, GroupId, NameError, Offset, PartitionId, TopicName, TopicPartition};
pub use topic_admin::{ClusterInfo, PartitionInfo, TopicAdmin, TopicInfo, TopicSpec, TopicSummary};
pub use webhooks::{WebhookRequest, WebhookResponse, Webhooks};

#[cfg(feature = "mock")]
pub use {
    clock::MockClock,
    event_handler::MockEventHandler,
    event_log::{MockEventLog, MockLogReader},
    group_admin::MockGroupAdmin,
    group_membership::{MockGroupMembership, MockMembership},
    idempotency_store::MockIdempotencyStore,
    job_store::MockJobStore,
    offset_store::MockOffsetStore,
    schema_registry::MockSchemaRegistry,
    schema_store::MockSchemaStore,
    topic_admin::MockTopicAdmin,
    webhooks::MockWebhooks,
};
