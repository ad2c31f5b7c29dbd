//! Every bound that a request meets, in one place.

use crate::filter::FilterLimits;
use std::time::Duration;

/// Bounds on requests and events. Each is a setting of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a request's body.
    pub request_bytes_max: usize,
    /// The most events of a batch.
    pub batch_events_max: usize,
    /// The most bytes of a key.
    pub key_bytes_max: usize,
    /// The most bytes of one attribute of an event.
    pub attribute_bytes_max: usize,
    /// The most headers and extensions of an event.
    pub headers_max: usize,
    /// The most bytes of one header's value.
    pub header_bytes_max: usize,
    /// How long a publisher waits for the log.
    pub publish_timeout: Duration,
    /// The most events of a page of browsing.
    pub browse_events_max: usize,
    /// The most bytes of events in one response of browsing or pulling.
    pub response_bytes_max: usize,
    /// The most partitions that a topic is created with.
    pub partitions_max: u32,
    /// The most events that one pull gives.
    pub pull_events_max: usize,
    /// The longest that a pull waits.
    pub pull_wait_max: Duration,
    /// The most pulls that wait at one subscription.
    pub pull_waiters_max: usize,
    /// The most subscriptions.
    pub subscriptions_max: usize,
    /// Bounds on filters and other expressions.
    pub expressions: FilterLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 8 << 20,
            batch_events_max: 10_000,
            key_bytes_max: 64 << 10,
            attribute_bytes_max: 4 << 10,
            headers_max: 100,
            header_bytes_max: 64 << 10,
            publish_timeout: Duration::from_secs(30),
            browse_events_max: 10_000,
            response_bytes_max: 16 << 20,
            partitions_max: 1_000,
            pull_events_max: 10_000,
            pull_wait_max: Duration::from_secs(60),
            pull_waiters_max: 10_000,
            subscriptions_max: 1_000,
            expressions: FilterLimits::default(),
        }
    }
}
