//! One append call: its shares of the partitions, and the one who waits for all of them.

use super::{fault::Fault, frame::Frame};
use parking_lot::Mutex;
use ports::{ErrorKind, Offset};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What became of a share: the offset of its first record.
pub(crate) type ShareResult = Result<Offset, Fault>;

/// An append call that is under way.
///
/// Invariants: each share reports once, a share that is dropped reports too, and the last report wakes the
/// waiter, once a call, and gives the queue's room back.
#[derive(Debug)]
pub(crate) struct Call(Mutex<State>);

#[derive(Debug)]
struct State {
    results: Vec<Option<ShareResult>>,
    open: usize,
    finished: Option<oneshot::Sender<()>>,
    room: Option<OwnedSemaphorePermit>,
}

/// The records of one call for one partition: one frame.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) frame: Frame,
    pub(crate) ticket: Ticket,
}

impl Share {
    /// Its bytes in the log.
    pub(crate) fn len(&self) -> u64 {
        self.frame.as_bytes().len() as u64
    }
}

/// The duty to report on a share.
#[derive(Debug)]
pub(crate) struct Ticket {
    call: Arc<Call>,
    share: usize,
    reported: bool,
}

impl Call {
    /// A call of so many shares that holds `room` until all have reported, one ticket for each, and what
    /// resolves then.
    pub(crate) fn new(
        shares: usize,
        room: OwnedSemaphorePermit,
    ) -> (Arc<Self>, Vec<Ticket>, oneshot::Receiver<()>) {
        let (finished, wait) = oneshot::channel();
        let mut results = Vec::new();
        results.resize_with(shares, || None);
        let state = State { results, open: shares, finished: Some(finished), room: Some(room) };
        let call = Arc::new(Self(Mutex::new(state)));
        let tickets =
            (0..shares).map(|share| Ticket { call: call.clone(), share, reported: false }).collect();
        (call, tickets, wait)
    }

    /// What the shares have reported so far, by share.
    pub(crate) fn results(&self) -> Vec<Option<ShareResult>> {
        self.0.lock().results.clone()
    }
}

impl Ticket {
    pub(crate) fn report(mut self, result: ShareResult) {
        self.settle(result);
    }

    fn settle(&mut self, result: ShareResult) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let mut state = self.call.0.lock();
        state.results[self.share] = Some(result);
        state.open -= 1;
        if state.open > 0 {
            return;
        }
        let (finished, room) = (state.finished.take(), state.room.take());
        drop(state);
        drop(room);
        if let Some(finished) = finished {
            // Nobody waits any more where the caller was cancelled.
            let _ = finished.send(());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.reported {
            let fault =
                Fault::new(ErrorKind::Unavailable, "the log ended before it reported on these records");
            self.settle(Err(fault.effect_unknown()));
        }
    }
}
