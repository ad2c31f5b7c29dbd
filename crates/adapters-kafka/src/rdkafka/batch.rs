//! The outcomes of one append: a slot a record, one counter, and one waker for them all.
//!
//! Invariants:
//! 1. A record has one outcome: refused before it was queued, or what its delivery report says.
//! 2. A batch lives until its last report, whether or not its caller still waits.

use super::{error, gate::Group};
use parking_lot::Mutex;
use ports::{Appended, PortError, Result, Timestamp};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

/// No report yet. From 0 on: the offset. Below 0: where its error stands.
const OPEN: i64 = i64::MIN;

pub(super) struct Batch {
    slots: Box<[Slot]>,
    errors: Mutex<Vec<PortError>>,
    /// Records that have no outcome, and one for the handing over.
    left: AtomicUsize,
    done: Mutex<Option<Done>>,
}

struct Slot {
    offset: AtomicI64,
    timestamp: AtomicI64,
}

/// What the owner of a batch hears.
pub(super) enum Told {
    /// Every record has its outcome.
    Settled,
    /// Handing over stopped at `next`, and is the owner's from there; `told` is heard instead.
    Unfinished { next: usize, told: oneshot::Receiver<Told> },
}

/// What is let go when the last outcome is there.
pub(super) struct Done {
    pub tell: oneshot::Sender<Told>,
    /// What the batch holds of the buffer.
    pub room: OwnedSemaphorePermit,
    /// Those who met a full queue.
    pub moved: Arc<Notify>,
    /// With whom it was handed over.
    pub group: Group,
}

impl Batch {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let slot = || Slot { offset: AtomicI64::new(OPEN), timestamp: AtomicI64::new(0) };
        Arc::new(Self {
            slots: (0..count).map(|_| slot()).collect(),
            errors: Mutex::default(),
            left: AtomicUsize::new(count + 1),
            done: Mutex::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Before the first record is handed over.
    pub(super) fn begin(&self, done: Done) {
        *self.done.lock() = Some(done);
    }

    /// While it is handed over: tells somebody else, and gives who was to be told.
    pub(super) fn tell_instead(&self, tell: oneshot::Sender<Told>) -> Option<oneshot::Sender<Told>> {
        self.done.lock().as_mut().map(|done| std::mem::replace(&mut done.tell, tell))
    }

    /// After the last record was handed over or refused.
    pub(super) fn handed_over(&self) {
        self.settled();
    }

    /// The report of a record that was written. Without an offset it only says that librdkafka concludes so
    /// from what came after it (`leaders`).
    pub(super) fn delivered(&self, index: usize, offset: i64, timestamp: i64) {
        if offset < 0 {
            return self.refused(index, error::inferred());
        }
        let slot = &self.slots[index];
        slot.timestamp.store(timestamp, Ordering::Relaxed);
        slot.offset.store(offset, Ordering::Release);
        self.settled();
    }

    /// The report of a record that failed.
    pub(super) fn failed(&self, index: usize, code: Code) {
        self.refused(index, error::of_delivery(code));
    }

    /// The record was not handed over, or will not be.
    pub(super) fn refused(&self, index: usize, error: PortError) {
        let place = {
            let mut errors = self.errors.lock();
            errors.push(error);
            errors.len() as i64
        };
        self.slots[index].offset.store(-place, Ordering::Release);
        self.settled();
    }

    fn settled(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(Done { tell, room, moved, group }) = self.done.lock().take()
        {
            drop((room, group));
            moved.notify_waiters();
            // Nobody waits where the call was dropped.
            let _ = tell.send(Told::Settled);
        }
    }

    /// The outcome of a record, `None` where it was not reported.
    pub(super) fn outcome(&self, index: usize) -> Option<Result<Appended>> {
        let slot = &self.slots[index];
        match slot.offset.load(Ordering::Acquire) {
            OPEN => None,
            offset @ 0.. => {
                let timestamp = Timestamp(slot.timestamp.load(Ordering::Relaxed));
                Some(Ok(Appended { offset: offset as u64, timestamp }))
            }
            place => Some(Err(self.errors.lock()[(-place - 1) as usize].duplicate())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::Effect;

    /// It may not be in the log: a receipt for it would be a loss, and a plain refusal might make a copy.
    #[test]
    fn a_report_without_an_offset_leaves_the_effect_unknown() {
        let batch = Batch::new(3);
        batch.delivered(0, 7, 1_000);
        batch.delivered(1, -1_001, 0);
        batch.failed(2, Code::NotEnoughReplicas);
        let appended = batch.outcome(0).expect("reported").expect("written");
        assert_eq!((appended.offset, appended.timestamp), (7, Timestamp(1_000)));
        let inferred = batch.outcome(1).expect("reported").expect_err("nobody wrote it");
        assert_eq!(inferred.effect(), Effect::Unknown);
        let refused = batch.outcome(2).expect("reported").expect_err("refused");
        assert_eq!(refused.effect(), Effect::None);
    }
}
