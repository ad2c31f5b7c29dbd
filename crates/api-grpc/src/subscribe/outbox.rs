//! What is on its way to a client, and what of it was never taken.
//!
//! A message that leaves the queue is sent, as far as anybody can tell; one that is dropped in it, as the
//! client has gone, says which deliveries it held.

use crate::proto::{SubscribeResponse, subscribe_response::Message};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{self, OwnedPermit, Permit, error::SendError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What a stream is answered with.
pub(crate) type Answer = Result<SubscribeResponse, Status>;

/// How many messages may wait to be taken: one of deliveries, and one of results.
const MESSAGES_MAX: usize = 2;

/// A message in the queue.
#[derive(Debug)]
pub(super) struct Outgoing {
    answer: Option<Answer>,
    unsent: mpsc::UnboundedSender<Vec<String>>,
}

impl Outgoing {
    fn taken(mut self) -> Option<Answer> {
        self.answer.take()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(Ok(response)) = self.answer.take() {
            // Nobody asks where everything is released in any case.
            let _ = self.unsent.send(ack_ids(response));
        }
    }
}

/// The `ackId`s of the deliveries of a message.
pub(super) fn ack_ids(response: SubscribeResponse) -> Vec<String> {
    match response.message {
        Some(Message::Deliveries(deliveries)) => {
            deliveries.deliveries.into_iter().map(|delivery| delivery.ack_id).collect()
        }
        _ => Vec::new(),
    }
}

/// Where a stream's messages are put.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    unsent: mpsc::UnboundedSender<Vec<String>>,
    returned: mpsc::UnboundedReceiver<Vec<String>>,
}

/// A place for one message.
#[derive(Debug)]
pub(super) struct Place {
    queue: OwnedPermit<Outgoing>,
    unsent: mpsc::UnboundedSender<Vec<String>>,
}

impl Place {
    /// Puts a message there.
    pub(super) fn put(self, response: SubscribeResponse) {
        self.queue.send(Outgoing { answer: Some(Ok(response)), unsent: self.unsent });
    }
}

/// A place for one message, while the outbox is looked at.
#[derive(Debug)]
pub(super) struct NextPlace<'a> {
    queue: Permit<'a, Outgoing>,
    unsent: &'a mpsc::UnboundedSender<Vec<String>>,
}

impl NextPlace<'_> {
    /// Puts a message there.
    pub(super) fn put(self, response: SubscribeResponse) {
        self.queue.send(Outgoing { answer: Some(Ok(response)), unsent: self.unsent.clone() });
    }
}

impl Outbox {
    /// An outbox, and the stream of what is put into it.
    pub(super) fn new() -> (Self, impl Stream<Item = Answer> + Send + 'static) {
        let (queue, messages) = mpsc::channel(MESSAGES_MAX);
        let (unsent, returned) = mpsc::unbounded_channel();
        let taken = |message: Outgoing| std::future::ready(message.taken());
        (Self { queue, unsent, returned }, ReceiverStream::new(messages).filter_map(taken))
    }

    /// Returns when nobody takes messages any more.
    pub(super) async fn abandoned(&self) {
        self.queue.closed().await;
    }

    /// Waits for a place; `None` where nobody takes messages any more.
    pub(super) async fn next_place(&self) -> Option<NextPlace<'_>> {
        let queue = self.queue.reserve().await.ok()?;
        Some(NextPlace { queue, unsent: &self.unsent })
    }

    /// Waits for a place to keep; `None` where nobody takes messages any more.
    pub(super) fn place(&self) -> impl Future<Output = Option<Place>> + Send + 'static {
        let (queue, unsent) = (self.queue.clone(), self.unsent.clone());
        async move { Some(Place { queue: queue.reserve_owned().await.ok()?, unsent }) }
    }

    /// The last message.
    pub(super) async fn end_with(&self, status: Status) {
        let last = Outgoing { answer: Some(Err(status)), unsent: self.unsent.clone() };
        // A client that has gone needs no status.
        if let Err(SendError(_)) = self.queue.send(last).await {}
    }

    /// Ends the stream, and waits until every message was taken or dropped; gives the `ackId`s of those that
    /// were dropped.
    pub(super) async fn unsent(self) -> Vec<String> {
        let Self { queue, unsent, mut returned } = self;
        drop((queue, unsent));
        let mut ids = Vec::new();
        while let Some(more) = returned.recv().await {
            ids.extend(more);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Delivery, SubscribeDeliveries};

    fn deliveries(ids: &[&str]) -> SubscribeResponse {
        let of = |id: &&str| Delivery { ack_id: (*id).to_owned(), ..Delivery::default() };
        let deliveries = SubscribeDeliveries { deliveries: ids.iter().map(of).collect() };
        SubscribeResponse { message: Some(Message::Deliveries(deliveries)) }
    }

    #[tokio::test]
    async fn what_was_taken_is_sent_and_what_was_dropped_is_told() {
        let (outbox, mut messages) = Outbox::new();
        outbox.place().await.unwrap().put(deliveries(&["a"]));
        outbox.next_place().await.unwrap().put(deliveries(&["b", "c"]));
        assert_eq!(messages.next().await.unwrap().unwrap(), deliveries(&["a"]));
        drop(messages);
        outbox.abandoned().await;
        assert!(outbox.next_place().await.is_none());
        outbox.end_with(Status::unavailable("nobody hears it")).await;
        assert_eq!(outbox.unsent().await, ["b", "c"]);
    }

    #[tokio::test]
    async fn no_more_waits_than_there_are_places() {
        let (outbox, _messages) = Outbox::new();
        let kept = [outbox.place().await, outbox.place().await];
        assert!(futures::FutureExt::now_or_never(outbox.next_place()).is_none());
        drop(kept);
        assert!(futures::FutureExt::now_or_never(outbox.next_place()).is_some());
    }
}
