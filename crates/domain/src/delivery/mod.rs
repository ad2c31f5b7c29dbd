//! Delivery: the state machine of one assigned partition, and what of it leaves the process.
//!
//! [`PartitionCore`] does no I/O and reads no clock: records, decisions and the time come in as arguments,
//! deliveries, statuses, the offset to commit and the next timeout go out. [`ack_id`] is how a lease
//! travels to a client and back; [`commit_map`] how what is done beyond the committed offset travels in a
//! commit's metadata.
//!
//! Invariants (checked by the property tests in `core/tests` against a slow model):
//! 1. *Prefix.* The committable offset never passes an undecided event, and never goes back. An event is
//!    decided once it is acknowledged (with claims: its claim is completed), kept as a dead letter, passed
//!    over by the filter or on an operator's word, found done, or kept in a retry topic.
//! 2. *Once out.* An event has at most one live lease; only that lease, or its last one while the event is
//!    not out again, decides it.
//! 3. *Done is done.* An event that is done is never delivered again in this session, nor in one that begins
//!    with what this one says is done.
//! 4. *Order.* Of a lane (a partition with [`Ordering::Partition`], a key with [`Ordering::Key`]) one run is
//!    out at a time, the next undecided events in order, and nothing else of it is delivered until each of
//!    the run is decided. An event of a run that is released, fails or lapses takes the undecided ones after
//!    it back; they come again behind it.
//! 5. *Nothing is stuck.* Every undecided event is ready, or held until a time, or being claimed or settled,
//!    or out with a lease that is decided, lapses, or waits behind one of its run that is or does.
//! 6. *Bounded.* What is buffered never exceeds the bounds by more than one fetch; what is held has bounds of
//!    its own; what is remembered of done events is at most one interval more than there are undecided ones,
//!    and those it began with.
//! 7. *Attempts.* A failure and a lapse count an attempt; a release, a hand-back and a take-back count none.
//!    An event whose attempts are used up is not delivered again, and never forgotten: it is a dead letter,
//!    and is done only when that is kept.
//! 8. *Revoked is over.* After a revocation nothing is delivered and no decision changes what is to be
//!    committed.
//!
//! An event costs a fixed number of look-ups among what is buffered; nothing is scanned.

pub mod ack_id;
pub mod backoff;
pub mod commit_map;
mod core;
mod done;
mod lease;

pub use self::core::{CLAIM_MARGIN, Now, PartitionCore};
pub use done::DoneSet;
pub use lease::{
    ClaimTag, CoreConfig, Counters, DeadLetter, Decision, Delivery, Effect, Failures, Incoming, Lease,
    LeaseId, Outcome, Own, Retried, Status, Taken, Ticket,
};

use serde::{Deserialize, Serialize};

/// What order the deliveries of a subscription keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// None: events go out as there are clients for them.
    None,
    /// That of the partition.
    Partition,
    /// That of each key; events without one have none.
    Key,
}

impl Ordering {
    /// The ordering as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partition => "partition",
            Self::Key => "key",
        }
    }
}
