//! A service that runs in this process.

use crate::{Builder, Messages, backends::Backends};
use adapters_embedded::SystemClock;
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Event, Result,
    event_schemas::EventSchemas,
    handler::{Handler, RunHandler},
    publish::{ANONYMOUS, PublishContext, Publisher, Receipt},
    schemas::registry::Registry,
    subscriptions::{
        HandlerCounts, HandlerOptions, NewSubscription, Payload, SubscriptionView, Subscriptions,
    },
    topics::{NewTopic, Topics},
};
use ports::{Clock as _, EventHandler};
use prost::{Message, Name};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// The service in this process, from [`Builder::start`] on.
///
/// To be ended by [`Self::shutdown`]. Dropping it ends handlers in the middle of their work: what they were
/// at, and what was done within the last moments before, comes again (with deduplication what was done does
/// not).
#[derive(Debug)]
pub struct Service {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) messages: Arc<Messages>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) backends: Backends,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) source: ByteString,
    pub(crate) drain_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
}

impl Service {
    /// Says what a service is to be like, and starts it.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Makes a topic unless there is one of that name, which stays as it is, also where it has another
    /// number of partitions.
    ///
    /// # Errors
    /// `invalid_request` by field, `unavailable` where the log does not serve.
    pub async fn ensure_topic(&self, name: &str, partitions: u32) -> Result<()> {
        let new =
            NewTopic { name: name.to_owned(), partitions: Some(partitions.into()), ..NewTopic::default() };
        unless_there(self.topics.create(new).await)?;
        Ok(())
    }

    /// Publishes to a topic, and answers event by event, in order. A receipt means that the event is on disk,
    /// or that all in-sync replicas have it.
    ///
    /// # Errors
    /// The call as a whole fails where nothing of it could be accepted: there is no such topic, or the log
    /// does not serve. As items: `invalid_request`, `event_too_large`, `predecessor_failed`, `timeout` with
    /// the effect unknown, …
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown: what was handed to the log may be appended.
    pub async fn publish(
        &self,
        topic: &str,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Result<Receipt>>> {
        let context = context(self.source.clone());
        let items = events.into_iter().map(Ok).collect();
        self.publisher.publish(Some(topic), items, &context).await
    }

    /// Gives the events of a subscription to a handler, with [`HandlerOptions::default`]. The subscription is
    /// made unless there is one of that name, which goes on where it was and stays as it was defined.
    /// `handler` is what [`each`](crate::each) or [`runs`](crate::runs) give; a former one is ended first.
    ///
    /// # Errors
    /// As [`Subscriptions::create`]. The handler is linked then all the same, and gets its events as soon as
    /// the subscription is made.
    pub async fn handle(
        &self,
        subscription: NewSubscription,
        handler: Arc<dyn EventHandler>,
    ) -> Result<SubscriptionView> {
        self.handle_with(subscription, handler, HandlerOptions::default()).await
    }

    /// As [`Self::handle`], with other bounds on concurrency and time, or whole runs.
    ///
    /// # Errors
    /// As [`Self::handle`].
    pub async fn handle_with(
        &self,
        subscription: NewSubscription,
        handler: Arc<dyn EventHandler>,
        options: HandlerOptions,
    ) -> Result<SubscriptionView> {
        let name = subscription.name.clone();
        // Linked first, nothing goes by it to anybody else.
        self.subscriptions.handle(&name, handler, options).await?;
        match unless_there(self.subscriptions.create(subscription).await)? {
            Some(view) => Ok(view),
            None => self.subscriptions.get(&name).await,
        }
    }

    /// Gives the messages of a subscription to a handler, decoded. As [`Self::handle_with`] otherwise. A value that is
    /// framed must be of the handler's message by the schema that its frame names; what is not, or cannot be read, is a
    /// dead letter at once, of the kind [`UNDECODABLE`](crate::UNDECODABLE).
    ///
    /// # Errors
    /// As [`Self::handle`]; `invalid_request` where the subscription says another `payload` than `bytes`, which is what
    /// it has where it says nothing, and `conflict` where the one that is there has another.
    pub async fn handle_messages<H>(
        &self,
        subscription: NewSubscription,
        handler: H,
        options: HandlerOptions,
    ) -> Result<SubscriptionView>
    where
        H: Handler<Event: Message + Name + Default>,
    {
        let subscription = self.of_bytes(subscription).await?;
        self.handle_with(subscription, self.messages.each(handler), options).await
    }

    /// As [`Self::handle_messages`], a key's consecutive messages together.
    ///
    /// # Errors
    /// As [`Self::handle_messages`].
    pub async fn handle_message_runs<H>(
        &self,
        subscription: NewSubscription,
        handler: H,
        options: HandlerOptions,
    ) -> Result<SubscriptionView>
    where
        H: RunHandler<Event: Message + Name + Default>,
    {
        let subscription = self.of_bytes(subscription).await?;
        self.handle_with(subscription, self.messages.runs(handler), options).await
    }

    /// A subscription whose values are given out as they lie in the log.
    async fn of_bytes(&self, new: NewSubscription) -> Result<NewSubscription> {
        if let Some(other) = new.payload.as_deref().filter(|payload| *payload != "bytes") {
            let wrong = format!("must be `bytes` for a handler of messages, or left out (given: {other:?})");
            return Err(Error::invalid("payload", wrong));
        }
        match self.subscriptions.get(&new.name).await {
            Ok(view) if view.definition.payload != Payload::Bytes => {
                let wrong = format!(
                    "the subscription `{}` is there with `payload: json`, and a handler of messages needs `bytes`; \
                     replace it, or take another name",
                    new.name
                );
                Err(Error::new(ErrorCode::Conflict, wrong))
            }
            // Another failure is that of making it.
            _ => Ok(NewSubscription { payload: Some("bytes".to_owned()), ..new }),
        }
    }

    /// What the handler of a subscription has answered since it was linked; `None` where it has none.
    pub fn counts(&self, subscription: &str) -> Option<HandlerCounts> {
        self.subscriptions.handler_counts(subscription)
    }

    /// Publishes messages that [`Builder::messages`] was given, each by its schema.
    pub fn messages(&self) -> &Arc<Messages> {
        &self.messages
    }

    /// What the values of topics follow: say it, and topics with it.
    pub fn schemas(&self) -> &Arc<EventSchemas> {
        &self.messages.schemas
    }

    /// The schema registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.messages.registry
    }

    /// Topics: list, describe, alter, purge, delete.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// Subscriptions: state and lag, pull and acknowledge, pause, resume, skip, delete.
    pub fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.subscriptions
    }

    /// Publishing for those who outlive a borrow of the service, as handlers that publish do.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Ends in order: nothing new is given to handlers, those that are at work have the drain's time to
    /// finish and are cut off then, what is done is committed, groups are left, the log is written out and
    /// closed, and the directory given back. False when something did not come to its end in time, or a clone
    /// of [`Self::publisher`], [`Self::messages`], [`Self::topics`] or another part is still held; what was not committed
    /// comes again at the next start, and counts no attempt.
    ///
    /// # Cancellation
    /// Dropping the future ends it as dropping the service does.
    pub async fn shutdown(self) -> bool {
        let Self {
            publisher,
            messages,
            topics,
            subscriptions,
            backends,
            clock,
            drain_timeout,
            shutdown_timeout,
            ..
        } = self;
        let begin = clock.monotonic();
        let deadline = begin + shutdown_timeout;
        let left = |least: Duration| deadline.since(clock.monotonic()).max(least);
        let draining = subscriptions.shutdown(begin + drain_timeout);
        let drained = tokio::time::timeout(shutdown_timeout, draining).await.is_ok();
        if !drained {
            tracing::warn!("subscriptions did not come to their end in time");
        }
        // The log takes what it can within a moment, also when the deadline has passed.
        let emptied = publisher.shutdown(clock.monotonic() + left(Duration::from_secs(1))).await;
        drop((subscriptions, messages, publisher, topics));
        let closed = backends.close(left(Duration::from_secs(2))).await;
        drained && emptied && closed
    }
}

/// What the events of a call have in common.
pub(crate) fn context(source: ByteString) -> PublishContext {
    PublishContext {
        principal: ByteString::from_static(ANONYMOUS),
        source,
        correlation_id: None,
        traceparent: None,
        tracestate: None,
    }
}

/// An event whose data is `data` as JSON.
///
/// # Errors
/// What cannot be written as JSON, as a map whose keys are no texts.
pub fn json_event(
    event_type: impl Into<ByteString>,
    key: impl Into<ByteString>,
    data: &impl Serialize,
) -> serde_json::Result<Event> {
    Ok(Event {
        event_type: Some(event_type.into()),
        key: Some(key.into().into_bytes()),
        data: Some(serde_json::to_vec(data)?.into()),
        content_type: Some(ByteString::from_static("application/json")),
        ..Event::default()
    })
}

fn unless_there<T>(made: Result<T>) -> Result<Option<T>> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(error) if error.code() == ErrorCode::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}
