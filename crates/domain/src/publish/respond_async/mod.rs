//! Publishing without waiting for the log: what is accepted waits in memory and is published in the
//! background.
//!
//! Accepting is no acknowledgement: a crash loses what waits, a graceful stop publishes it first. All that
//! can be told without the log is told before: an event that breaks a rule, names a partition that is not
//! there, is too large, or belongs to an unknown topic has its request refused as a whole.
//!
//! Invariants:
//! 1. What waits is bounded in events and in bytes, counted by whole requests, as long as any event of them
//!    waits: events are slices of their request's body. What does not fit is refused.
//! 2. The events of a topic are published in the order in which they were accepted; what is tried again
//!    comes before what was accepted after it.
//! 3. Every event that was accepted ends published, as a dead letter, or in one log line that names it.
//!    Nothing is published twice on our account: what may be in the log already and has no idempotency key
//!    is not tried again.
//! 4. A topic has one worker while anything of it waits, and none otherwise.

mod dead_letters;
mod worker;

use super::{
    background::Background,
    flow::Core,
    once::Keyed,
    prepare::Prepared,
    request::{Item, PublishContext, Refused},
};
use crate::{
    error::{Error, ErrorCode},
    topics::topic_name,
};
use bytestring::ByteString;
use parking_lot::Mutex;
use ports::{PartitionId, Record, Timestamp, TopicName};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// What an event takes in memory beside its bytes.
const EVENT_BYTES: usize = 512;

/// The settings of publishing without waiting for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncConfig {
    /// The most events that wait.
    pub events_max: usize,
    /// The most bytes of requests with events that wait.
    pub bytes_max: usize,
    /// For how long an event that failed is tried again before it becomes a dead letter.
    pub retry_time: Duration,
    /// Where events go that cannot be published.
    pub dead_letter_topic: TopicName,
}

impl Default for AsyncConfig {
    #[allow(clippy::expect_used, reason = "the name is a constant, and a test makes it")]
    fn default() -> Self {
        Self {
            events_max: 100_000,
            bytes_max: 64 << 20,
            retry_time: Duration::from_secs(300),
            dead_letter_topic: TopicName::new("event-streaming.publish.dlq").expect("a good name"),
        }
    }
}

/// What became of events that were accepted, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncCounts {
    /// Accepted.
    pub accepted: u64,
    /// Published.
    pub published: u64,
    /// Written to the dead letter topic.
    pub dead_lettered: u64,
    /// Neither: each has a log line.
    pub lost: u64,
    /// Of requests that have not come to their end.
    pub waiting: u64,
}

/// What waits to be published.
#[derive(Debug)]
pub(super) struct Buffer {
    core: Arc<Core>,
    state: Mutex<State>,
    /// The workers of topics of which something waits.
    workers: Background,
    /// Set when nothing is waited for any more.
    abandoned: watch::Sender<bool>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    published: AtomicU64,
    dead_lettered: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    events: usize,
    bytes: usize,
    /// How many requests there were.
    requests: u64,
    /// By topic, for those that have a worker.
    queues: HashMap<TopicName, VecDeque<Waiting>>,
}

/// An event that waits.
#[derive(Debug)]
struct Waiting {
    partition: PartitionId,
    record: Record,
    id: ByteString,
    keyed: Option<Keyed>,
    /// The number of its request.
    request: u64,
    attempts: u32,
    first_failed: Option<(Timestamp, ports::Monotonic)>,
    /// Given back when the last event of the request has come to its end.
    _room: Arc<Room>,
}

/// A request's share of the buffer.
#[derive(Debug)]
struct Room {
    buffer: Arc<Buffer>,
    events: usize,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.buffer.state.lock();
        state.events -= self.events;
        state.bytes -= self.bytes;
    }
}

impl Buffer {
    pub(super) fn new(core: Arc<Core>) -> Arc<Self> {
        Arc::new(Self {
            core,
            state: Mutex::default(),
            workers: Background::default(),
            abandoned: watch::Sender::new(false),
            counters: Counters::default(),
        })
    }

    /// Takes the events of one request to be published later, all or none, and answers their ids.
    pub(super) async fn accept(
        self: &Arc<Self>,
        topic: Option<&str>,
        items: Vec<Item>,
        body_bytes: usize,
        context: &PublishContext,
    ) -> Result<Vec<ByteString>, Refused> {
        let topic = topic.map(|name| topic_name("topic", name)).transpose()?;
        let count = self.core.check_count(items.len())?;
        let prepared = self.core.prepare(topic.as_ref(), items, &[count], context).await?;
        for (index, result) in prepared.results.iter().enumerate() {
            if let Some(Err(error)) = result {
                return Err(Refused { index: Some(index), error: error.clone() });
            }
        }
        self.keep(prepared, body_bytes)
    }

    fn keep(self: &Arc<Self>, prepared: Prepared, body_bytes: usize) -> Result<Vec<ByteString>, Refused> {
        let Prepared { lanes, results, keyed, repeats, .. } = prepared;
        let mut ids = vec![ByteString::new(); results.len()];
        for lane in &lanes {
            for (index, id) in &lane.items {
                ids[*index] = id.clone();
            }
        }
        for (index, first) in repeats {
            ids[index] = ids[first].clone();
        }
        let events = lanes.iter().map(|lane| lane.records.len()).sum();
        let size: usize = lanes.iter().flat_map(|lane| &lane.records).map(|(_, record)| record.size()).sum();
        let bytes = size.max(body_bytes) + events * EVENT_BYTES;
        let mut keyed = keyed.into_iter().map(|keyed| (keyed.index, keyed)).collect::<HashMap<_, _>>();

        let mut state = self.state.lock();
        self.check_room(&state, events, bytes)?;
        state.events += events;
        state.bytes += bytes;
        state.requests += 1;
        let request = state.requests;
        let room = Arc::new(Room { buffer: self.clone(), events, bytes });
        self.counters.accepted.fetch_add(events as u64, Ordering::Relaxed);
        for lane in lanes {
            let waiting =
                lane.records.into_iter().zip(lane.items).map(|((partition, record), (index, id))| {
                    let keyed = keyed.remove(&index);
                    let room = room.clone();
                    Waiting {
                        partition,
                        record,
                        id,
                        keyed,
                        request,
                        attempts: 0,
                        first_failed: None,
                        _room: room,
                    }
                });
            if let Some(queue) = state.queues.get_mut(&lane.topic) {
                queue.extend(waiting);
            } else {
                state.queues.insert(lane.topic.clone(), waiting.collect());
                self.workers.spawn(worker::run(self.clone(), lane.topic));
            }
        }
        // The last hold on the room may be this one, which takes the lock.
        drop(state);
        Ok(ids)
    }

    fn check_room(&self, state: &State, events: usize, bytes: usize) -> Result<(), Error> {
        let config = &self.core.config.respond_async;
        if state.closed {
            return Err(Error::new(ErrorCode::Unavailable, "the service is stopping"));
        }
        // More than the whole buffer never fits; it is told like what does not fit now, as the bound is ours.
        if state.events + events > config.events_max || state.bytes + bytes > config.bytes_max {
            return Err(Error::new(
                ErrorCode::Unavailable,
                format!(
                    "the buffer of events that wait to be published is full ({} of {} events, {} of {} bytes); \
                     try again, or without `respond-async`",
                    state.events, config.events_max, state.bytes, config.bytes_max
                ),
            ));
        }
        Ok(())
    }

    /// The next events of a topic, in order. With none the topic has no worker any more.
    fn next(&self, topic: &TopicName) -> Vec<Waiting> {
        let limits = &self.core.limits;
        let mut state = self.state.lock();
        let Some(queue) = state.queues.get_mut(topic) else { return Vec::new() };
        let mut bytes = 0;
        let fits = queue.iter().take(limits.batch_events_max).take_while(|waiting| {
            bytes += waiting.record.size();
            bytes <= limits.request_bytes_max
        });
        // One is taken in any case.
        let count = fits.count().max(1).min(queue.len());
        let next: Vec<Waiting> = queue.drain(..count).collect();
        if next.is_empty() {
            state.queues.remove(topic);
        }
        next
    }

    /// Puts events back, before all others of their topic.
    fn put_back(&self, topic: &TopicName, events: Vec<Waiting>) {
        let mut state = self.state.lock();
        let queue = state.queues.entry(topic.clone()).or_default();
        for waiting in events.into_iter().rev() {
            queue.push_front(waiting);
        }
    }

    /// Takes no more from now on, and returns once nothing waits.
    pub(super) async fn drain(&self) {
        self.state.lock().closed = true;
        self.workers.idle().await;
    }

    /// Gives up what waits, each event with a log line.
    pub(super) async fn abandon(&self) {
        self.abandoned.send_replace(true);
        self.workers.idle().await;
    }

    pub(super) fn counts(&self) -> AsyncCounts {
        let Counters { accepted, published, dead_lettered, lost } = &self.counters;
        let waiting = self.state.lock().events as u64;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AsyncCounts {
            accepted: of(accepted),
            published: of(published),
            dead_lettered: of(dead_lettered),
            lost: of(lost),
            waiting,
        }
    }
}
