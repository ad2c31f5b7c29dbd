//! What goes into a core and comes out of it.

use super::Ordering;
use ports::{Monotonic, Offset, StoredRecord};
use std::time::Duration;

/// How a core works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// What order deliveries keep.
    pub ordering: Ordering,
    /// How long a client has for a delivery.
    pub ack_timeout: Duration,
    /// The most events that are to be buffered.
    pub buffer_events_max: usize,
    /// The most bytes that are to be buffered.
    pub buffer_bytes_max: usize,
}

/// Names one lease of one session of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId {
    /// The session; random, so that no two are taken for each other.
    pub session: u32,
    /// Its number in the session, from 1.
    pub number: u64,
}

/// What a client holds while an event is out at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Which lease.
    pub id: LeaseId,
    /// Of which event.
    pub offset: Offset,
}

/// An event on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What decides it.
    pub lease: Lease,
    /// Which delivery it is that counts, from 1.
    pub attempt: u32,
    /// When it lapses. In a run the clock of an event starts when the one before it is decided, so this is
    /// the latest that it can be without being extended.
    pub deadline: Monotonic,
    /// The same for all events of one run.
    pub run: u64,
    /// The event.
    pub record: StoredRecord,
}

/// What a client says about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is done.
    Ack,
    /// It goes back untouched, counting no attempt.
    Release,
    /// It needs so much time, from now.
    Extend(Duration),
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Ok,
    /// The lease is over, and the event came, or comes, again.
    Expired,
    /// An earlier event of the run is to be done again, and this one after it.
    Superseded,
    /// There is no such delivery.
    Unknown,
    /// It could not be made to hold; say it again.
    Unavailable,
}

impl Status {
    /// The status as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Unknown => "unknown",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a core has done in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Deliveries.
    pub delivered: u64,
    /// Those of them that were not the event's first.
    pub redelivered: u64,
    /// Events that are done.
    pub acked: u64,
    /// Leases that lapsed.
    pub lapsed: u64,
}
