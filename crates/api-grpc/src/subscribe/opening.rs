//! The first message of a stream.

use super::{Context, outbox::Outbox, stopping, window::CREDITS_MAX};
use crate::{
    call,
    error::status,
    proto::{SubscribeRequest, SubscribeStart, subscribe_request::Message},
};
use domain::{Error, subscriptions::AckRequest};
use futures::{Stream, StreamExt};
use std::time::Duration;
use tonic::Status;

/// How long a client may take for its first message.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Waits for the first message. `Err(None)` where the client has gone.
pub(super) async fn open(
    context: &Context,
    messages: &mut (impl Stream<Item = Result<SubscribeRequest, Status>> + Unpin),
    outbox: &Outbox,
) -> Result<SubscribeStart, Option<Status>> {
    let late = context.clock.monotonic() + START_WITHIN;
    let invalid = |field: &str, message: &str| Some(status(&Error::invalid(field, message)));
    let message = tokio::select! {
        message = messages.next() => message,
        () = outbox.abandoned() => return Err(None),
        () = context.draining.cancelled() => return Err(Some(stopping())),
        () = context.stop.cancelled() => return Err(Some(stopping())),
        () = context.clock.sleep_until(late) => {
            return Err(invalid("start", "must be sent within 10 s of opening the stream"));
        }
    };
    let Some(message) = message else {
        return Err(invalid("start", "must be the first message; the stream was closed without it"));
    };
    let start = match message.map_err(call::said)?.message {
        Some(Message::Start(start)) => start,
        other => {
            let given = other.as_ref().map_or("none of the fields", name);
            return Err(invalid("start", &format!("must be the first message (given: `{given}`)")));
        }
    };
    if start.subscription.is_empty() {
        return Err(invalid("start.subscription", "must be given"));
    }
    if start.credits > CREDITS_MAX {
        let message = format!("must be at most {CREDITS_MAX} (given: {})", start.credits);
        return Err(invalid("start.credits", &message));
    }
    // Deciding nothing tells whether there is such a subscription.
    match context.subscriptions.acknowledge(&start.subscription, AckRequest::default()).await {
        Ok(_) => Ok(start),
        Err(error) => match error.fields() {
            [field] => Err(invalid("start.subscription", &field.message)),
            _ => Err(Some(status(&error))),
        },
    }
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::Start(_) => "start",
        Message::Credits(_) => "credits",
        Message::Decisions(_) => "decisions",
    }
}
