//! An event that is not done, and what it is doing.

use super::{
    super::lease::{Failures, Own, Retried},
    lanes::NONE,
};
use ports::{Failure, Monotonic, Offset, StoredRecord, Timestamp};
use std::sync::Arc;

/// The kind of a failure that nobody reported: the time for a decision went by.
pub(super) const LAPSED: &str = "ack-timeout";

/// An event that is not done.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) record: Arc<StoredRecord>,
    pub(super) retried: Option<Arc<Retried>>,
    pub(super) bytes: usize,
    pub(super) lane: u32,
    pub(super) before: u32,
    pub(super) after: u32,
    /// Deliveries that counted.
    pub(super) attempts: u32,
    /// Its last reservation, and the number of the lease that came of it; 0 where there was none.
    pub(super) number: u64,
    /// Whether it was ever out.
    pub(super) seen: bool,
    /// Its last lease was taken back because of an earlier one of its run.
    pub(super) superseded: bool,
    /// It is to be given out by itself.
    pub(super) alone: bool,
    /// The claim that its last delivery was under.
    pub(super) own: Option<Own>,
    /// When that ends at the store, at the earliest.
    pub(super) own_until: Monotonic,
    pub(super) state: State,
    pub(super) failures: Option<Box<Failures>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be given when it comes first in its lane.
    Ready,
    /// Not before its time.
    Held { until: Monotonic },
    /// Reserved for a client; it is being claimed.
    Reserved,
    /// Out, and its clock runs.
    Out { deadline: Monotonic },
    /// Out behind another of its run; `extended` is how long it was asked to be kept at least.
    Waiting { extended: Option<Monotonic> },
    /// Decided; that is being made durable.
    Settling,
}

impl State {
    /// Whether it keeps its lane from giving more.
    pub(super) fn is_out(self) -> bool {
        !matches!(self, Self::Ready | Self::Held { .. })
    }

    /// Whether a client has it and may decide it.
    pub(super) fn is_at_client(self) -> bool {
        matches!(self, Self::Out { .. } | Self::Waiting { .. })
    }
}

impl Event {
    pub(super) fn new(record: StoredRecord, lane: u32, attempts: u32, state: State) -> Self {
        Self {
            retried: None,
            bytes: record.record.size(),
            record: Arc::new(record),
            lane,
            before: NONE,
            after: NONE,
            attempts,
            number: 0,
            seen: false,
            superseded: false,
            alone: false,
            own: None,
            own_until: Monotonic::default(),
            state,
            failures: None,
        }
    }

    pub(super) fn offset(&self) -> Offset {
        self.record.offset
    }

    /// Notes that a delivery failed. It counts, where that of a lapse before it did not already.
    pub(super) fn failed(&mut self, at: Timestamp, last: Failure) {
        if self.state.is_at_client() {
            self.attempts = self.attempts.saturating_add(1);
        }
        let lapsed = last.kind == LAPSED;
        match &mut self.failures {
            Some(failures) => {
                failures.last_at = at;
                failures.last = last;
                failures.lapses_only &= lapsed;
            }
            None => {
                let failures = Failures { first_at: at, last_at: at, last, lapses_only: lapsed };
                self.failures = Some(Box::new(failures));
            }
        }
        if let Some(own) = &mut self.own {
            own.counted = true;
        }
    }

    /// Whether its next delivery is its last, and nobody ever said why the others failed.
    pub(super) fn is_last_after_lapses(&self, deliveries_max: Option<u32>) -> bool {
        self.attempts > 0
            && deliveries_max.is_some_and(|max| self.attempts.saturating_add(1) >= max)
            && self.failures.as_ref().is_none_or(|failures| failures.lapses_only)
    }
}
