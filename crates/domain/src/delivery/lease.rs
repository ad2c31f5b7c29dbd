//! What goes into a core and comes out of it.

use super::{Ordering, backoff::Backoff};
use ports::{ClaimKey, Failure, Monotonic, Offset, PartitionId, StoredRecord, Timestamp, Token, TopicName};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How a core works.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreConfig {
    /// What order deliveries keep.
    pub ordering: Ordering,
    /// How long a client has for a delivery.
    pub ack_timeout: Duration,
    /// The most events of one run, at least 1.
    pub run_max: usize,
    /// Whether what goes out is claimed first, and what is acknowledged completed.
    pub claims: bool,
    /// So many deliveries count before an event is a dead letter; `None` is no end.
    pub deliveries_max: Option<u32>,
    /// When a failed event comes again.
    pub backoff: Backoff,
    /// Whether it waits for that elsewhere, in a topic of its own, and not in its place.
    pub retry_elsewhere: bool,
    /// The most events that are to be buffered, those apart that are held.
    pub buffer_events_max: usize,
    /// The most bytes that are to be buffered, those apart that are held.
    pub buffer_bytes_max: usize,
    /// The most events that are to be buffered because an earlier one of their key, or they themselves,
    /// wait to be tried again.
    pub held_events_max: usize,
    /// The most bytes of these.
    pub held_bytes_max: usize,
}

/// An event as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The event.
    pub record: StoredRecord,
    /// Events of the same key keep an order; `None` has none with others. Looked at with
    /// [`Ordering::Key`] alone.
    pub key: Option<u64>,
    /// Deliveries that counted already.
    pub attempts: u32,
    /// Where it first lay, if it waited to be tried again in the topic that this is.
    pub retried: Option<Arc<Retried>>,
    /// Not to go out earlier.
    pub not_before: Option<Monotonic>,
    /// Passed over: done without a delivery.
    pub passed_over: bool,
}

/// Where an event first lay that came by a topic of the subscription's own, and what went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retried {
    /// The topic.
    pub topic: TopicName,
    /// The partition there.
    pub partition: PartitionId,
    /// The offset there.
    pub offset: Offset,
    /// Names the subscription and the log that it lay in.
    pub log: u64,
    /// The epoch in which it was delivered from there.
    pub epoch: Uuid,
    /// What went wrong; `None` where it is to be delivered as if it never was.
    pub failures: Option<Failures>,
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

/// The claim that a delivery goes out under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimTag {
    /// What is claimed.
    pub key: ClaimKey,
    /// By which lease of the store.
    pub token: Token,
}

/// A claim that the core has, of an event that is not out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The claim.
    pub tag: ClaimTag,
    /// Whether the delivery under it counts as an attempt.
    pub counted: bool,
    /// The lease that it was to be replaced by, where it is not known whether it was.
    pub asked: Option<Token>,
}

/// An event that is reserved for a client, before it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What names it.
    pub ticket: Ticket,
    /// The claim that it has already, from an earlier delivery.
    pub own: Option<Own>,
    /// It is to be the only one in its response.
    pub alone: bool,
    /// What the event takes, as [`ports::Record::size`] counts.
    pub bytes: usize,
}

/// Names a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) slot: u32,
    pub(super) number: u64,
    /// Of which event.
    pub offset: Offset,
}

/// An event on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What decides it.
    pub lease: Lease,
    /// The claim it goes out under, with claims.
    pub claim: Option<ClaimTag>,
    /// Which delivery it is that counts, from 1.
    pub attempt: u32,
    /// When it lapses. In a run the clock of an event starts when the one before it is decided, so this is
    /// the latest that it can be without being extended.
    pub deadline: Monotonic,
    /// The same for all events of one run.
    pub run: u64,
    /// The event.
    pub record: Arc<StoredRecord>,
    /// Where it first lay, if it came by a retry topic.
    pub retried: Option<Arc<Retried>>,
}

/// What a client says about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Ack,
    /// It failed, and is to come again.
    Retry {
        /// Not before; `None` leaves it to the core.
        after: Option<Duration>,
        /// Why.
        failure: Failure,
    },
    /// It is never to come again.
    Reject {
        /// Why.
        failure: Failure,
    },
    /// It goes back, counting no attempt.
    Release {
        /// Not to come again before; mostly zero.
        after: Duration,
    },
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

/// What the core wants to be made durable. Whoever does it says [`super::PartitionCore::settled`] when it
/// is, however often it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An event is handled: its claim is to be completed.
    Complete {
        /// What names it.
        ticket: Ticket,
        /// The claim.
        claim: ClaimTag,
    },
    /// A claim is to go on to `until`, at least. With `answer`, that is asked for and waited for.
    Extend {
        /// What names it.
        ticket: Ticket,
        /// The claim.
        claim: ClaimTag,
        /// How long, from now.
        lease: Duration,
        /// Whether a client waits for it.
        answer: bool,
    },
    /// An event is never to be delivered again: it is to be kept as a dead letter, and its claim completed
    /// after that.
    DeadLetter(Box<DeadLetter>),
    /// An event is to be delivered again `after` so long, and waits for that elsewhere: it is to be appended
    /// there, and its claim released after that. [`super::PartitionCore::moved`] is its answer.
    RetryElsewhere {
        /// The event.
        letter: Box<DeadLetter>,
        /// How long it waits.
        after: Duration,
    },
}

/// An event that could not be handled, now or for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What names it.
    pub ticket: Ticket,
    /// The claim it has, with claims.
    pub claim: Option<ClaimTag>,
    /// The event.
    pub record: Arc<StoredRecord>,
    /// Where it first lay, if it came by a retry topic.
    pub retried: Option<Arc<Retried>>,
    /// Deliveries that counted.
    pub attempts: u32,
    /// What went wrong.
    pub failures: Failures,
}

/// What went wrong with an event so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// When it failed first.
    pub first_at: Timestamp,
    /// When it failed last.
    pub last_at: Timestamp,
    /// How it failed last.
    pub last: Failure,
    /// Whether all of them were lapses, of which nobody said why.
    pub lapses_only: bool,
}

/// What became of an [`Effect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Done,
    /// Somebody else has the claim: the event comes again, and its claim is asked for anew.
    Fenced,
}

/// What a core has done in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Deliveries.
    pub delivered: u64,
    /// Those of them that were not the event's first.
    pub redelivered: u64,
    /// Events that are done, in whatever way.
    pub done: u64,
    /// Leases that lapsed.
    pub lapsed: u64,
    /// Deliveries that failed, lapses apart.
    pub failed: u64,
    /// Events that were done already when they were claimed.
    pub duplicates: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events that went elsewhere to wait to be tried again.
    pub moved: u64,
    /// Events that were passed over.
    pub passed_over: u64,
}
