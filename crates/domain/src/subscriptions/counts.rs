//! What became of deliveries at a handler of this process, in numbers.

use crate::handler::UNDECODABLE;
use ports::Outcome;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What a linked handler has answered since it was linked in. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandlerCounts {
    /// Calls that are back.
    pub calls: u64,
    /// Events that it has handled.
    pub acknowledged: u64,
    /// Failures after which an event comes again, or has used up its attempts; panics and calls that took too
    /// long are among them.
    pub retried: u64,
    /// Those of [`Self::retried`] that said, or showed, that the handler as a whole is out of order.
    pub outages: u64,
    /// Events that it refused for good.
    pub rejected: u64,
    /// Those of [`Self::rejected`] whose value could not be decoded.
    pub undecodable: u64,
    /// The time that all calls took together.
    pub processing: Duration,
}

/// The counts of one handler, whichever engine calls it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    calls: AtomicU64,
    acknowledged: AtomicU64,
    retried: AtomicU64,
    outages: AtomicU64,
    rejected: AtomicU64,
    undecodable: AtomicU64,
    processing_us: AtomicU64,
}

impl Counts {
    pub(super) fn call(&self, took: Duration) {
        add(&self.calls, 1);
        add(&self.processing_us, took.as_micros().try_into().unwrap_or(u64::MAX));
    }

    pub(super) fn outcome(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Ack => add(&self.acknowledged, 1),
            Outcome::Retry { outage, .. } => {
                add(&self.retried, 1);
                add(&self.outages, u64::from(*outage));
            }
            Outcome::Reject { failure } => {
                add(&self.rejected, 1);
                add(&self.undecodable, u64::from(failure.kind == UNDECODABLE));
            }
            // Neither says anything of the event.
            Outcome::NotReached { .. } | Outcome::Gone { .. } => {}
        }
    }

    pub(super) fn now(&self) -> HandlerCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HandlerCounts {
            calls: of(&self.calls),
            acknowledged: of(&self.acknowledged),
            retried: of(&self.retried),
            outages: of(&self.outages),
            rejected: of(&self.rejected),
            undecodable: of(&self.undecodable),
            processing: Duration::from_micros(of(&self.processing_us)),
        }
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
