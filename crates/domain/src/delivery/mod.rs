//! Delivery: the state machine of one assigned partition, and what of it leaves the process.
//!
//! [`PartitionCore`] does no I/O and reads no clock: records, decisions and the time come in as arguments,
//! deliveries, statuses, the offset to commit and the next timeout go out. [`ack_id`] is how a lease
//! travels to a client and back; [`commit_map`] how what is done beyond the committed offset travels in a
//! commit's metadata.
//!
//! Invariants (checked by the property tests in `core/tests.rs` against a slow model):
//! 1. *Prefix.* The committable offset never passes an undecided event, and never goes back.
//! 2. *Once out.* An event has at most one live lease; only that lease, or its last one while the event is
//!    not out again, decides it.
//! 3. *Done is done.* An event that was acknowledged is never delivered again in this session, nor in one
//!    that begins with what this one says is done.
//! 4. *Order.* With [`Ordering::Partition`] nothing is delivered while an earlier event is undecided, but
//!    as a later part of the same run; deciding or losing an event of a run takes the undecided ones after
//!    it back, uncounted, except when it was acknowledged.
//! 5. *Nothing is stuck.* Every undecided event is ready, or out with a lease that is decided, lapses, or
//!    waits behind one of its run that is or does.
//! 6. *Bounded.* What is buffered never exceeds the bounds by more than one fetch; what is remembered of
//!    done events is at most one interval more than there are undecided ones, and those it began with.
//! 7. *Attempts.* A lapse counts an attempt; a release, a hand-back and a take-back count none.
//!
//! The seat for ordering by key: a lane holds a run. Today a partition is one lane, or every event is its
//! own; keys make a lane each.

pub mod ack_id;
pub mod commit_map;
mod core;
mod done;

pub use self::core::{CoreConfig, Counters, Decision, Delivery, Lease, LeaseId, PartitionCore, Status};
pub use done::DoneSet;

use serde::{Deserialize, Serialize};

/// What order the deliveries of a subscription keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// None: events go out as there are clients for them.
    None,
    /// That of the partition.
    Partition,
    /// That of each key. Treated as [`Ordering::Partition`], which keeps at least as much order.
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
