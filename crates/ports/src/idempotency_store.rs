//! What is to be done once: claims, and what became of them.

use crate::error::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt, fmt::Debug, time::Duration};

/// Names what is to be done once: 128 bits, most of them of a hash over everything that tells it from other
/// things, as the domain makes it. Keys that are asked for together mostly begin alike; a store keeps them as
/// they are, and does well to keep them in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey(pub [u8; 16]);

impl Debug for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names one lease. The claimant draws it at random before it asks, so that asking again after an answer
/// that was lost finds its own lease, and so that no two leases of a key have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// On what ground a key is claimed that somebody may hold already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// None: a lease that has not ended keeps the claimant away.
    Free,
    /// The claimant has the lease of this token: it is replaced, ended or not. `counted` says whether the
    /// delivery under it counts as an attempt. Another's lease keeps the claimant away, as with
    /// [`Ground::Free`].
    Own {
        /// The lease that is given up.
        token: Token,
        /// Whether it counts as an attempt.
        counted: bool,
    },
    /// Whoever holds it is gone (the partition has another owner now): it is replaced, ended or not.
    TakeOver {
        /// Whether the lease that is taken over counts as an attempt.
        counted: bool,
    },
}

/// Asks for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// What is to be done.
    pub key: ClaimKey,
    /// The new lease.
    pub token: Token,
    /// How long it lasts, by the store's clock.
    pub lease: Duration,
    /// How long attempts are remembered once the lease has ended without an outcome.
    pub keep: Duration,
    /// Why it may be had though somebody holds it.
    pub ground: Ground,
    /// At most 1 KiB that the next claimant gets where this one leaves no outcome. Mostly empty.
    pub note: Bytes,
}

/// What came of asking for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the claimant's to do.
    Acquired {
        /// Which attempt this is, from 1: those before it that counted, and this one.
        attempt: u32,
        /// The note of the claimant before, where there was one and it left no outcome.
        note: Bytes,
    },
    /// Somebody else is at it.
    InFlight {
        /// For how long at most, unless the lease is extended.
        ends_in: Duration,
    },
    /// It was done.
    Done {
        /// What the one who did it left.
        outcome: Bytes,
    },
}

/// What is to become of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is done.
    Complete {
        /// What whoever asks for the key later gets; at most 64 KiB.
        outcome: Bytes,
        /// For how long that is kept.
        keep: Duration,
    },
    /// It goes on for so long, from now by the store's clock.
    Extend {
        /// How long.
        lease: Duration,
    },
    /// It ends undone; the key is free at once. A first attempt that does not count leaves nothing behind:
    /// the key was never claimed.
    Release {
        /// Whether it counts as an attempt.
        counted: bool,
    },
}

/// Whether a settlement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It holds.
    Applied,
    /// Another lease came after this one: nothing was changed.
    Fenced,
}

/// Keeps claims so that of all who would do a thing one does it, once.
///
/// A lease is fenced by the next claim that gets the key, not by time: until then its holder may settle
/// it, late or not. Attempts are counted here, so that they survive the crash of a claimant. Everything
/// that was answered survives a crash of the caller; a store that cannot promise it for its own crash says
/// so in its crate's docs.
///
/// Times are measured by the store, so that callers whose clocks differ agree. What is kept no longer is
/// forgotten by and by, without a scan of everything.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait IdempotencyStore: Debug + Send + Sync + 'static {
    /// Claims keys in one round trip and answers one by one, in order. The keys of one call are distinct.
    ///
    /// A key is had where nothing is known of it, where its last lease has ended or was released, and on
    /// the [`Ground`] given. Of claimants at the same time one has it. Asking again with a token that
    /// holds the key already answers as the first time and counts nothing; the lease runs anew, though it
    /// may have ended meanwhile.
    ///
    /// A lease that was replaced on its ground counts as the ground says, ended or not; one that was
    /// released as the release said; any other that ended counts.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`, `Denied`: as a whole. The effect may be unknown; asking again with the
    /// same tokens is right. A store may refuse a key that is named twice with `Invalid` and a note that is
    /// too long with `TooLarge`, without effect.
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown; the leases end by themselves.
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>>;

    /// Settles leases in one round trip and answers one by one, in order. The keys of one call are
    /// distinct.
    ///
    /// A settlement holds where its lease was the last of the key, ended, released or not, and, for
    /// [`Settlement::Complete`], where nothing is known of the key (any more). Completing once more with the
    /// same token holds and changes nothing; extending or releasing what is done is [`Settled::Fenced`].
    /// Releasing once more counts, or gives back, no further attempt.
    ///
    /// # Errors
    /// As [`Self::claim`], `TooLarge` for an outcome; saying the same again is right.
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown; saying the same again is right.
    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>>;
}
