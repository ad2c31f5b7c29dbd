//! The headers in which a dead letter says what became of it. Key, value and the record's own headers stay
//! as they were, byte for byte.

/// The topic that the record was in, or was to be in.
pub const TOPIC: &str = "es_dlq_topic";
/// Its partition there.
pub const PARTITION: &str = "es_dlq_partition";
/// Its offset there; a record that was never appended has none.
pub const OFFSET: &str = "es_dlq_offset";
/// Its timestamp, RFC 3339.
pub const TIMESTAMP: &str = "es_dlq_timestamp";
/// The subscription that it failed in; a publisher's dead letter has none.
pub const SUBSCRIPTION: &str = "es_dlq_subscription";
/// How often it was tried.
pub const ATTEMPTS: &str = "es_dlq_attempts";
/// When it failed first, RFC 3339.
pub const FIRST_FAILED_AT: &str = "es_dlq_first_failed_at";
/// When it failed last, RFC 3339.
pub const LAST_FAILED_AT: &str = "es_dlq_last_failed_at";
/// What kind of failure the last one was: a stable code.
pub const ERROR_KIND: &str = "es_dlq_error_kind";
/// What it said.
pub const ERROR_MESSAGE: &str = "es_dlq_error_message";
/// What caused it, and what caused that, one a line; cut to 16 KiB.
pub const ERROR_CHAIN: &str = "es_dlq_error_chain";
/// What all of them add to a record at most, and so what a dead letter topic takes beyond its source.
pub const ROOM_BYTES: usize = 64 << 10;
