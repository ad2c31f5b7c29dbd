//! Publish: validate → route → choose the partition → encode by schema → claim → append → complete → receipt.
//!
//! Invariants:
//! 1. A receipt is given only for a record that the log reported durable.
//! 2. Results stand in the order of the items, one for each.
//! 3. Within one call, an event whose earlier event of the same key was not appended is not appended
//!    either, as far as that is known before the log is asked; so a key's order holds.
//! 4. One call makes one append a topic, whatever the number of its events; and, where events have
//!    idempotency keys, one claim and one settlement ([`once`] has their invariants).
//! 5. What is accepted to be published later has its own promises: [`respond_async`].

mod background;
mod flow;
mod late;
mod once;
mod prepare;
mod request;
mod respond_async;
mod routing;

pub use once::OnceConfig;
pub use request::{ANONYMOUS, Item, PublishConfig, PublishContext, Receipt, Refused, Rejected};
pub use respond_async::{AsyncConfig, AsyncCounts};
pub use routing::{Pattern, Route, RouteMatch, TopicRule};

use crate::{
    error::{Error, ErrorCode, Result},
    event_schemas::EventSchemas,
    limits::Limits,
    topics::{Topics, topic_name},
};
use background::Background;
use bytestring::ByteString;
use flow::{Core, Trace, WhenLate};
use parking_lot::RwLock;
use ports::{Clock, Effect, EventLog, IdempotencyStore, Monotonic, PartitionId, Record, TopicName};
use respond_async::Buffer;
use std::sync::{Arc, atomic::AtomicUsize};

/// Publishes events.
#[derive(Debug)]
pub struct Publisher {
    core: Arc<Core>,
    buffer: Arc<Buffer>,
}

impl Publisher {
    /// Publishes to `log`. Without a store, events with an idempotency key are refused.
    pub fn new(
        log: Arc<dyn EventLog>,
        topics: Arc<Topics>,
        clock: Arc<dyn Clock>,
        limits: Arc<Limits>,
        config: PublishConfig,
    ) -> Self {
        Self::with_store(log, topics, clock, limits, config, None)
    }

    /// Publishes to `log`, and keeps in `store` what was published under which idempotency key.
    pub fn with_store(
        log: Arc<dyn EventLog>,
        topics: Arc<Topics>,
        clock: Arc<dyn Clock>,
        limits: Arc<Limits>,
        config: PublishConfig,
        store: Option<Arc<dyn IdempotencyStore>>,
    ) -> Self {
        Self::with_schemas(log, topics, clock, limits, config, store, None)
    }

    /// As [`Self::with_store`], and has values follow what `schemas` knows of their topics.
    pub fn with_schemas(
        log: Arc<dyn EventLog>,
        topics: Arc<Topics>,
        clock: Arc<dyn Clock>,
        limits: Arc<Limits>,
        config: PublishConfig,
        store: Option<Arc<dyn IdempotencyStore>>,
        schemas: Option<Arc<EventSchemas>>,
    ) -> Self {
        let core = Arc::new(Core {
            log,
            topics,
            clock,
            limits,
            config,
            store,
            schemas,
            background: Background::default(),
            unsettled: AtomicUsize::new(0),
            states: RwLock::default(),
        });
        Self { buffer: Buffer::new(core.clone()), core }
    }

    /// Publishes a batch to `topic`, or where the routes send each event, and answers item by item.
    ///
    /// # Errors
    /// The whole request fails when its topic is not there, when it holds no item or too many, and
    /// when nothing of it could be accepted because the log, or the store of idempotency keys, does not
    /// serve.
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown: what was handed to the log may be appended. A call
    /// with idempotency keys goes on to its end, so that a retry finds its outcome.
    pub async fn publish(
        &self,
        topic: Option<&str>,
        items: Vec<Item>,
        context: &PublishContext,
    ) -> Result<Vec<Result<Receipt>>> {
        let count = items.len();
        self.publish_batches(topic, items, &[count], context).await
    }

    /// Publishes several batches of one caller by one append a topic, each the next so many of `items`. A
    /// failed event fails the later ones of its key in its own batch alone, so that an answer does not
    /// depend on what else was on its way.
    ///
    /// # Errors
    /// As [`Self::publish`]; the bounds are on all batches together.
    ///
    /// # Cancellation
    /// As [`Self::publish`].
    pub async fn publish_batches(
        &self,
        topic: Option<&str>,
        items: Vec<Item>,
        counts: &[usize],
        context: &PublishContext,
    ) -> Result<Vec<Result<Receipt>>> {
        let topic = topic.map(|name| topic_name("topic", name)).transpose()?;
        self.core.check_count(items.len())?;
        let mut prepared = self.core.prepare(topic.as_ref(), items, counts, context).await?;
        if prepared.keyed.is_empty() {
            self.core.run(&mut prepared, WhenLate::Answer, &mut Trace::default()).await;
        } else {
            let core = self.core.clone();
            let running = self.core.background.spawn(async move {
                core.run(&mut prepared, WhenLate::Answer, &mut Trace::default()).await;
                prepared
            });
            prepared = running
                .await
                .map_err(|_| Error::new(ErrorCode::Internal, "publishing ended before it had an outcome"))?;
        }
        let results = prepared.finish();
        nothing_accepted(&results).map_or(Ok(results), Err)
    }

    /// The partition that a record goes to by the rules of its topic, which has so many.
    pub(crate) fn partition_for(&self, topic: &TopicName, record: &Record, partitions: u32) -> PartitionId {
        self.core.partition_for(topic, record, partitions)
    }

    /// Takes the events of one request to be published later, all or none, and answers their ids in order.
    /// `body_bytes` is what the request takes in memory as long as one of its events waits.
    ///
    /// This is no acknowledgement: what waits is lost when the process dies. What cannot be published goes
    /// to the dead letter topic. The id of an event that repeats another's idempotency key may be another
    /// than the one that is in the log.
    ///
    /// # Errors
    /// What [`Self::publish`] would refuse without asking the log, by the item at fault; `Unavailable`
    /// where the buffer is full, or the service is stopping. Then nothing of the request was taken.
    ///
    /// # Cancellation
    /// Dropping the future takes nothing.
    pub async fn accept(
        &self,
        topic: Option<&str>,
        items: Vec<Item>,
        body_bytes: usize,
        context: &PublishContext,
    ) -> Result<Vec<ByteString>, Refused> {
        self.buffer.accept(topic, items, body_bytes, context).await
    }

    /// What became of events that were accepted.
    pub fn async_counts(&self) -> AsyncCounts {
        self.buffer.counts()
    }

    /// Accepts nothing more, and returns once everything that was accepted has come to its end and every
    /// outcome is kept, or at `deadline`; what waits then is given up, each event with a log line. Whether
    /// all of it was in time.
    ///
    /// To be called when no requests come any more, and before the log is closed.
    pub async fn shutdown(&self, deadline: Monotonic) -> bool {
        let all_ended = async {
            self.buffer.drain().await;
            self.core.background.idle().await;
        };
        tokio::select! {
            biased;
            () = all_ended => true,
            () = self.core.clock.sleep_until(deadline) => {
                // Nothing of this waits for anybody; what waits for the log or the store is left alone.
                self.buffer.abandon().await;
                false
            }
        }
    }
}

impl Core {
    /// The number of a call's items.
    ///
    /// # Errors
    /// None, or too many.
    fn check_count(&self, count: usize) -> Result<usize> {
        let most = self.limits.batch_events_max;
        match count {
            0 => Err(Error::invalid("events", "must hold at least one event")),
            count if count > most => {
                Err(Error::invalid("events", format!("must hold at most {most} events, holds {count}")))
            }
            count => Ok(count),
        }
    }
}

/// The error of the whole request, where every item failed for want of the log or the store.
fn nothing_accepted(results: &[Result<Receipt>]) -> Option<Error> {
    let mut unavailable = None;
    let mut unknown = false;
    for result in results {
        match result {
            Err(error) if error.code() == ErrorCode::Unavailable => {
                unknown |= error.effect() == Some(Effect::Unknown);
                unavailable.get_or_insert(error);
            }
            _ => return None,
        }
    }
    let error = unavailable?.clone();
    Some(if unknown { error.with_effect(Effect::Unknown) } else { error })
}
