//! Handlers that are linked in: one trait over a decoded type, with a subscription's promises around it.
//!
//! A [`Handler`] is given one event at a time and says in a `Result` what became of it; a [`RunHandler`] is
//! given a key's consecutive events together, where one transaction a run is worth more than one an event.
//! [`each`] and [`runs`] put a [`Decode`] before them and give what
//! [`Subscriptions::handle`](crate::subscriptions::Subscriptions::handle) takes. Leases, retries, dead
//! letters, deduplication and the circuit are the subscription's; nothing of them is done here.
//!
//! Invariants:
//! 1. A value that cannot be decoded never reaches the handler. Its event is rejected at once, with the kind
//!    [`UNDECODABLE`], and becomes a dead letter with its bytes as they were; the events behind it go on.
//! 2. Answers stand in the order of the run, one for each event up to the first that is to come again;
//!    nothing behind that one is called or counts.
//! 3. What a handler is not asked about is not answered for: no event is acknowledged without its `Ok`.
//!
//! A panic, of the handler or of its decoder, is a failure of that delivery alone; so is a call that takes
//! longer than [`HandlerOptions::timeout`](crate::subscriptions::HandlerOptions::timeout) or than its delivery
//! may be out, whose future is dropped. A handler that ends its whole process is not counted among an event's attempts unless a store of
//! claims counts them, which is what deduplication brings.

mod decode;
mod delivered;
mod error;
mod typed;

pub use decode::{Decode, Json, Raw};
pub use delivered::Delivered;
pub use error::HandlerError;
pub use typed::{each, runs};

use std::{future::Future, sync::Arc};

/// The kind of failure of a value that cannot be decoded.
pub const UNDECODABLE: &str = "undecodable";

/// Handles events of one type, one at a time.
///
/// An `async fn handle` is how it is written. Calls for one key come one after another, and only the last one
/// of an event counts; calls for different keys run at once, up to
/// [`HandlerOptions::concurrency`](crate::subscriptions::HandlerOptions::concurrency), in one task: what
/// computes for long belongs into a task or a blocking thread of its own, which the handler awaits.
pub trait Handler: Send + Sync + 'static {
    /// What values are decoded to.
    type Event: Send + 'static;

    /// Handles one event. `Ok` acknowledges it: with deduplication it is not handled again then. Without, and
    /// where the process ends between `Ok` and the commit, it may be.
    ///
    /// # Errors
    /// What is to become of the event instead. Any error passed on by `?` is
    /// [`HandlerError::Retry`].
    ///
    /// # Cancellation
    /// The future is dropped when its time is over, and where the service ends before it: what it had done
    /// by then it will be asked to do again.
    fn handle(&self, event: Delivered<Self::Event>) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Handles a key's consecutive events together.
///
/// To be linked with [`HandlerOptions::whole_runs`](crate::subscriptions::HandlerOptions::whole_runs); else
/// every run has one event.
pub trait RunHandler: Send + Sync + 'static {
    /// What values are decoded to.
    type Event: Send + 'static;

    /// Handles a run, which is never empty, and answers for each event in order. An answer that is missing
    /// is a retry; once one is to come again, the answers behind it do not count, and their events come
    /// again behind it.
    ///
    /// # Cancellation
    /// As [`Handler::handle`], for the whole run: the time is the call's.
    fn handle_run(
        &self,
        run: Vec<Delivered<Self::Event>>,
    ) -> impl Future<Output = Vec<Result<(), HandlerError>>> + Send;
}

impl<H: Handler> Handler for Arc<H> {
    type Event = H::Event;

    fn handle(&self, event: Delivered<Self::Event>) -> impl Future<Output = Result<(), HandlerError>> + Send {
        H::handle(self, event)
    }
}

impl<H: RunHandler> RunHandler for Arc<H> {
    type Event = H::Event;

    fn handle_run(
        &self,
        run: Vec<Delivered<Self::Event>>,
    ) -> impl Future<Output = Vec<Result<(), HandlerError>>> + Send {
        H::handle_run(self, run)
    }
}
