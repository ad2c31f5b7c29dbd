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
//! 4. *Order.* With [`Ordering::Partition`] one run is out at a time, the next undecided events in order, and
//!    nothing else is delivered until each of it is decided. An event of it that is released or lapses takes
//!    the undecided ones after it back; they come again behind it.
//! 5. *Nothing is stuck.* Every undecided event is ready, or out with a lease that is decided, lapses, or
//!    waits behind one of its run that is or does.
//! 6. *Bounded.* What is buffered never exceeds the bounds by more than one fetch; what is remembered of
//!    done events is at most one interval more than there are undecided ones, and those it began with.
//! 7. *Attempts.* A lapse counts an attempt; a release, a hand-back and a take-back count none.
//! 8. *Revoked is over.* After a revocation nothing is delivered and no decision changes what is to be
//!    committed.
//!
//! An event costs a fixed number of look-ups in ordered maps of what is buffered; nothing is scanned.
//!
//! The seat for ordering by key is the lane (`core/lane.rs`), which holds a run. Today a partition is one
//! lane, or every event goes by itself; keys make a lane each.

pub mod ack_id;
pub mod commit_map;
mod core;
mod done;
mod lease;

pub use self::core::PartitionCore;
pub use done::DoneSet;
pub use lease::{CoreConfig, Counters, Decision, Delivery, Lease, LeaseId, Status};

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
