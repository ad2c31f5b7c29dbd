//! Who handles events: a webhook, or a handler that is linked in.

use crate::{
    clock::Monotonic,
    record::StoredRecord,
    topic::{PartitionId, TopicName},
};
use async_trait::async_trait;
use std::{fmt::Debug, sync::Arc, time::Duration};

/// One event, given to its handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerDelivery {
    /// Stays the same over all attempts; new after a redrive.
    pub id: String,
    /// Which delivery of this event it is, from 1.
    pub attempt: u32,
    /// When an answer is no longer waited for.
    pub deadline: Monotonic,
    /// Where the event lies.
    pub topic: TopicName,
    /// Where the event lies.
    pub partition: PartitionId,
    /// The event.
    pub record: Arc<StoredRecord>,
}

/// Why a delivery did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// A short, stable word to group by, as `http-503` or the name of an error's type.
    pub kind: String,
    /// What went wrong, for a person.
    pub message: String,
    /// What caused it, outermost first, or a stack.
    pub chain: Vec<String>,
}

impl Failure {
    /// A failure without causes.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), chain: Vec::new() }
    }
}

/// What a handler says of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is handled.
    Ack,
    /// It is to come again.
    Retry {
        /// Not before; `None` leaves it to the subscription.
        after: Option<Duration>,
        /// Whether the handler as a whole may be out of order, and not this event at fault.
        outage: bool,
        /// Why.
        failure: Failure,
    },
    /// It is never to come again: it goes to the dead letters.
    Reject {
        /// Why.
        failure: Failure,
    },
    /// Nothing reached the handler (no connection could be made). It is to come again; no attempt counts.
    NotReached {
        /// Why.
        failure: Failure,
    },
    /// The handler wants nothing more at all: the subscription is to pause, and say why.
    Gone {
        /// Why.
        failure: Failure,
    },
}

/// Handles events.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EventHandler: Debug + Send + Sync + 'static {
    /// Handles a run: events that are to be handled one after another, in order. Answers for each, in
    /// order; an answer that is missing is a retry. Once one is to come again, the answers after it do not
    /// count: what they are for comes again behind it.
    ///
    /// # Cancellation
    /// The future is dropped when the deadline of its first delivery without an answer has passed.
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome>;
}
