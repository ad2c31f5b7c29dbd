//! The publisher's dead letters: events that were accepted and cannot be published, with why.

use super::{
    Buffer,
    worker::{Dead, lost},
};
use crate::{
    dead_letter::header as name,
    error::{ErrorCode, Result},
    event::time_text,
    partition::{Partitioner, by_hash},
    publish::flow::{chain, cut},
    topics::{NewTopic, TopicChange, TopicMeta},
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{AppendRequest, Effect, Header, PartitionId, Record, TopicName};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// So often writing is tried, and how long it waits between.
const TRIES: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(200);
/// What a message is cut to; a chain is cut where it is made.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Writes dead letters; what cannot be written is said in a log line each.
///
/// # Cancellation
/// Dropping the future has what was not written said too.
pub(super) async fn write(buffer: &Arc<Buffer>, source: &TopicName, dead: Vec<Dead>) {
    let mut writing =
        Writing { buffer, source, dead: dead.into_iter().map(Some).collect(), why: String::new() };
    let mut backoff = BACKOFF;
    for attempt in 1..=TRIES {
        match writing.attempt().await {
            Again::No => return,
            Again::Perhaps if attempt < TRIES => {
                let clock = &buffer.core.clock;
                clock.sleep_until(clock.monotonic() + backoff).await;
                backoff *= 2;
            }
            Again::Perhaps => {}
        }
    }
}

/// Whether anything is left that might be written yet.
enum Again {
    No,
    Perhaps,
}

struct Writing<'a> {
    buffer: &'a Arc<Buffer>,
    source: &'a TopicName,
    /// Those that are not written.
    dead: Vec<Option<Dead>>,
    /// What went wrong last.
    why: String,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        for Dead { waiting, error, .. } in self.dead.iter().flatten() {
            let detail = format!("{error}; its dead letter was not written: {}", self.why);
            lost(self.buffer, self.source, waiting, &detail);
        }
    }
}

impl Writing<'_> {
    /// Makes one append of all that is left.
    async fn attempt(&mut self) -> Again {
        let core = &self.buffer.core;
        let topic = &core.config.respond_async.dead_letter_topic;
        let open: Vec<usize> = (0..self.dead.len()).filter(|at| self.dead[*at].is_some()).collect();
        let records: Vec<Record> =
            self.dead.iter().flatten().map(|dead| self.record(dead, core.clock.wall())).collect();
        let largest = records.iter().map(Record::size).max().unwrap_or_default();
        let meta = match self.topic(topic, largest).await {
            Ok(meta) => meta,
            Err(error) => {
                error.detail().clone_into(&mut self.why);
                return if error.code() == ErrorCode::Unavailable { Again::Perhaps } else { Again::No };
            }
        };
        let sticky = Partitioner::default();
        let partition = |record: &Record| -> PartitionId {
            record.key.as_ref().map_or_else(
                || sticky.choose(&crate::event::Event::default(), meta.partitions),
                |key| by_hash(key, meta.partitions),
            )
        };
        let request = AppendRequest {
            topic: topic.clone(),
            records: records.into_iter().map(|record| (partition(&record), record)).collect(),
            timeout: core.limits.publish_timeout,
        };
        let answer = core.log.append(request).await;
        let mut outcomes = answer.outcomes;
        if let Some(late) = answer.late {
            for (at, outcome) in late.await {
                if let Some(slot) = outcomes.get_mut(at) {
                    *slot = outcome;
                }
            }
        }
        let mut again = Again::No;
        for (at, outcome) in open.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.dead[at] = None;
                    self.buffer.counters.dead_lettered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.why = chain(&error);
                    core.topics.forget(topic);
                    // Written twice is better than not at all: readers know it by its id.
                    if error.is_safe_to_retry() || error.effect() == Effect::Unknown {
                        again = Again::Perhaps;
                    }
                }
            }
        }
        again
    }

    /// The record as it was to be, with why it is here.
    fn record(&self, dead: &Dead, now: ports::Timestamp) -> Record {
        let Dead { waiting, error, cause } = dead;
        let mut record = waiting.record.clone();
        let mut put = |name: &'static str, value: String| {
            record
                .headers
                .push(Header { name: ByteString::from_static(name), value: Some(Bytes::from(value)) });
        };
        let mut message = error.detail().to_owned();
        cut(&mut message, MESSAGE_BYTES_MAX);
        put(name::TOPIC, self.source.to_string());
        put(name::PARTITION, waiting.partition.to_string());
        put(name::TIMESTAMP, waiting.record.timestamp.0.to_string());
        put(name::ATTEMPTS, waiting.attempts.to_string());
        put(name::FIRST_FAILED_AT, time_text(waiting.first_failed.map_or(now, |(at, _)| at)));
        put(name::LAST_FAILED_AT, time_text(now));
        put(name::ERROR_KIND, error.code().as_str().to_owned());
        put(name::ERROR_CHAIN, cause.clone().unwrap_or_else(|| message.clone()));
        put(name::ERROR_MESSAGE, message);
        record
    }

    /// The dead letter topic, made where it is not there, with room for a record of `largest` bytes.
    async fn topic(&self, topic: &TopicName, largest: usize) -> Result<Arc<TopicMeta>> {
        const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
        let topics = &self.buffer.core.topics;
        // Not by `meta`, which makes a topic as any other where that is turned on.
        match topics.get(topic.as_str()).await {
            Err(error) if error.code() == ErrorCode::TopicNotFound => {
                let mut new = NewTopic { name: topic.to_string(), ..NewTopic::default() };
                let source = topics.get(self.source.as_str()).await.ok();
                let max_of_source =
                    source.as_ref().and_then(|info| info.config.get(MAX_MESSAGE_BYTES)?.parse().ok());
                let max = max_of_source
                    .unwrap_or(1 << 20)
                    .max(largest - largest.min(crate::dead_letter::HEADROOM_BYTES));
                new.config = BTreeMap::from([
                    ("retention.ms".to_owned(), "-1".to_owned()),
                    (MAX_MESSAGE_BYTES.to_owned(), (max + crate::dead_letter::HEADROOM_BYTES).to_string()),
                ]);
                if let Some(info) = source {
                    let replicas = info.partitions.first().map(|partition| partition.replicas.len() as i64);
                    new.replication_factor = replicas.filter(|replicas| *replicas > 0);
                    if let Some(least) = info.config.get("min.insync.replicas") {
                        new.config.insert("min.insync.replicas".to_owned(), least.clone());
                    }
                }
                match topics.create(new).await {
                    Err(error) if error.code() != ErrorCode::AlreadyExists => return Err(error),
                    _ => tracing::info!(%topic, "made the dead letter topic of publishers"),
                }
            }
            found => drop(found?),
        }
        let lookup = || async {
            let found = topics.meta(topic).await?;
            found.ok_or_else(|| crate::error::Error::topic_not_found(topic))
        };
        let meta = lookup().await?;
        if meta.max_message_bytes >= largest {
            return Ok(meta);
        }
        let room = (largest + crate::dead_letter::HEADROOM_BYTES).to_string();
        let config = BTreeMap::from([(MAX_MESSAGE_BYTES.to_owned(), Some(room))]);
        topics.alter(topic.as_str(), TopicChange { partitions: None, config }).await?;
        lookup().await
    }
}
