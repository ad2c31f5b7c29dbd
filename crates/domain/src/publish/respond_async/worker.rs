//! Publishes what waits for one topic, batch by batch.

use super::{Buffer, Waiting, dead_letters};
use crate::{
    error::{Error, ErrorCode},
    publish::{
        flow::{Trace, WhenLate},
        prepare::Prepared,
        request::Receipt,
    },
};
use bytes::Bytes;
use ports::{Effect, TopicName};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long a topic is left alone after its events failed, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An event that will not be published, and why.
pub(super) struct Dead {
    pub(super) waiting: Waiting,
    pub(super) error: Error,
    pub(super) cause: Option<String>,
}

/// Works until nothing of the topic waits.
pub(super) async fn run(buffer: Arc<Buffer>, topic: TopicName) {
    let clock = buffer.core.clock.clone();
    let mut abandoned = buffer.abandoned.subscribe();
    let mut backoff = BACKOFF.0;
    loop {
        let mut batch = buffer.next(&topic);
        if batch.is_empty() {
            return;
        }
        let round = tokio::select! {
            biased;
            _ = abandoned.wait_for(|abandoned| *abandoned) => None,
            again = round(&buffer, &topic, &mut batch) => Some(again),
        };
        let Some(again) = round else {
            let detail = "the service stopped before it was published; it may be in the log";
            batch.iter().for_each(|waiting| lost(&buffer, &topic, waiting, detail));
            continue;
        };
        if again.is_empty() {
            backoff = BACKOFF.0;
            continue;
        }
        buffer.put_back(&topic, again);
        let until = clock.monotonic() + backoff;
        backoff = (backoff * 2).min(BACKOFF.1);
        tokio::select! {
            _ = abandoned.wait_for(|abandoned| *abandoned) => {}
            () = clock.sleep_until(until) => {}
        }
    }
}

/// Publishes a batch. Empties it, and gives what is to be tried again, in order. Dropped before its end it
/// leaves in the batch what has not come to an end.
async fn round(buffer: &Arc<Buffer>, topic: &TopicName, batch: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut trace = Trace { causes: Some(HashMap::new()), ..Trace::default() };
    let results = publish(buffer, topic, batch, &mut trace).await;
    let now = (buffer.core.clock.wall(), buffer.core.clock.monotonic());
    let mut again: Vec<Waiting> = Vec::new();
    let mut kept_keys: HashSet<(u64, Bytes)> = HashSet::new();
    let mut dead = Vec::new();
    let mut published = 0;
    for (index, (mut waiting, result)) in batch.drain(..).zip(results).enumerate() {
        let Err(error) = result else {
            published += 1;
            continue;
        };
        waiting.attempts += 1;
        let first = waiting.first_failed.get_or_insert(now).1;
        let key = waiting.record.key.clone().map(|key| (waiting.request, key));
        let is_unknown = trace.unknown.contains(&index) || error.effect() == Some(Effect::Unknown);
        let may_pass = match error.code() {
            ErrorCode::Unavailable | ErrorCode::Timeout => !is_unknown || waiting.keyed.is_some(),
            ErrorCode::IdempotencyInFlight => true,
            // As the one before it of its key.
            ErrorCode::PredecessorFailed => key.as_ref().is_some_and(|key| kept_keys.contains(key)),
            _ => false,
        };
        let has_time = now.1.since(first) < buffer.core.config.respond_async.retry_time;
        if may_pass && has_time {
            kept_keys.extend(key);
            again.push(waiting);
        } else {
            let cause = trace.causes.as_mut().and_then(|causes| causes.remove(&index));
            dead.push(Dead { waiting, error, cause });
        }
    }
    buffer.counters.published.fetch_add(published, Ordering::Relaxed);
    if !dead.is_empty() {
        // What is given up while this is under way must be found by the caller.
        *batch = again;
        dead_letters::write(buffer, topic, dead).await;
        again = std::mem::take(batch);
    }
    again
}

/// Publishes copies of a batch's records; payloads are shared.
async fn publish(
    buffer: &Arc<Buffer>,
    topic: &TopicName,
    batch: &[Waiting],
    trace: &mut Trace,
) -> Vec<Result<Receipt, Error>> {
    let core = &buffer.core;
    let mut lane = match core.lane(topic, batch.len()).await {
        Ok(lane) => lane,
        Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
    };
    let requests = batch.chunk_by(|a, b| a.request == b.request).map(<[Waiting]>::len);
    let mut prepared = Prepared::new(batch.len(), requests);
    for (index, waiting) in batch.iter().enumerate() {
        let mut record = waiting.record.clone();
        if let Some(keyed) = &waiting.keyed {
            // Two requests may have said the same.
            match prepared.is_new(index, keyed.key, keyed.content) {
                Ok(true) => {
                    let keyed = keyed.again(index, lane.records.len());
                    keyed.mark(&mut record, keyed.token);
                    prepared.keep(keyed);
                }
                Ok(false) => continue,
                Err(error) => {
                    prepared.results[index] = Some(Err(error));
                    continue;
                }
            }
        }
        lane.records.push((waiting.partition, record));
        lane.items.push((index, waiting.id.clone()));
    }
    prepared.lanes.push(lane);
    core.run(&mut prepared, WhenLate::Wait, trace).await;
    prepared.finish()
}

/// Says which event was accepted and is nowhere, without what was in it.
pub(super) fn lost(buffer: &Buffer, topic: &TopicName, waiting: &Waiting, detail: &str) {
    buffer.counters.lost.fetch_add(1, Ordering::Relaxed);
    let key_hash = waiting.record.key.as_ref().map(|key| {
        let mut text = String::with_capacity(16);
        for byte in &Sha256::digest(key)[..8] {
            let _ = write!(text, "{byte:02x}");
        }
        text
    });
    tracing::error!(
        id = &*waiting.id,
        %topic,
        key_hash = key_hash.as_deref().unwrap_or_default(),
        attempts = waiting.attempts,
        detail,
        "an event that was accepted is lost"
    );
}
