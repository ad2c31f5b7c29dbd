//! How a stream comes to its end: by the client, by the service, or because nobody is there any more.

use super::{End, Session, outbox::ack_ids, stopping};
use crate::proto::{
    SubscribeDraining, SubscribeRequest, SubscribeResponse, subscribe_request, subscribe_response::Message,
};
use domain::subscriptions::AckRequest;
use futures::{FutureExt, Stream, StreamExt};
use std::time::Duration;
use tonic::Status;

/// How many messages are read still where the client has gone. More than its flow control window holds.
const LAST_MESSAGES_MAX: usize = 1 << 16;

impl<M: Stream<Item = Result<SubscribeRequest, Status>> + Send + Unpin> Session<M> {
    /// The service is about to stop: nothing more goes out, what is out may be decided.
    pub(super) fn drain(&mut self) {
        if !std::mem::replace(&mut self.told_draining, true) {
            let draining = Message::Draining(SubscribeDraining {});
            // After the deliveries that were pulled before.
            self.deliveries.push_back(SubscribeResponse { message: Some(draining) });
            self.stop_delivering();
        }
    }

    /// The service stops: at once where the client was told before, else when it has had its time.
    pub(super) fn stopped(&mut self) {
        if self.told_draining {
            return self.end(End::Failed(stopping()));
        }
        self.drain();
        // A moment earlier than the connection is cut, so that the client hears why.
        let within = self.context.drain_within;
        let margin = (within / 10).min(Duration::from_secs(1));
        self.drain_until = Some(self.context.clock.monotonic() + within.saturating_sub(margin));
    }

    pub(super) async fn finish(mut self) {
        if matches!(self.end, Some(End::Gone)) {
            for _ in 0..LAST_MESSAGES_MAX {
                let Some(Some(Ok(SubscribeRequest { message }))) = self.messages.next().now_or_never() else {
                    break;
                };
                if let Some(subscribe_request::Message::Decisions(said)) = message {
                    self.hold(said);
                    if self.held.is_some() || !self.group.has_room(self.context.decisions_max) {
                        self.settle().await;
                    }
                }
            }
            self.settle().await;
        }
        let Self { context, subscription, outbox, window, release_on_close, deliveries, end, .. } = self;
        let release = async |ids: Vec<String>| {
            for ids in ids.chunks(context.decisions_max.max(1)) {
                let request = AckRequest { release: ids.to_vec(), ..AckRequest::default() };
                if let Err(error) = context.subscriptions.acknowledge(&subscription, request).await {
                    // Its time will be up.
                    tracing::debug!(%subscription, %error, "deliveries of a stream that ended could not be released");
                    return;
                }
            }
        };
        // Before the stream ends, so that a client that sees its end knows it.
        if release_on_close {
            release(window.into_ack_ids()).await;
        } else {
            release(deliveries.into_iter().flat_map(ack_ids).collect()).await;
        }
        if let Some(End::Failed(status)) = end {
            outbox.end_with(status).await;
        }
        let unsent = outbox.unsent().await;
        if !release_on_close {
            release(unsent).await;
        }
    }

    /// Applies what was read, where nobody takes the answers.
    async fn settle(&mut self) {
        loop {
            self.begin_calls();
            let Some(answered) = self.calls.next().await else { return };
            self.answered(answered);
            self.answers.clear();
        }
    }
}
