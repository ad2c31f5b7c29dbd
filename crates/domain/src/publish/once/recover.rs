//! What to do with a key whose last claimant left no outcome: ask the log.

use super::{
    Held,
    codec::{self, Note, Published},
    lookback::{self, Bounds, Search, Seen},
    not_ours, reused, store_down,
};
use crate::{
    error::{Error, ErrorCode},
    publish::{
        flow::{Core, Lane},
        prepare::Prepared,
        request::Receipt,
    },
};
use ports::{Claim, ClaimRequest, Effect, Ground, IdempotencyStore, Token, TopicPartition};

impl Core {
    /// Looks in the log for what earlier claimants may have appended. What is found has its result
    /// afterwards; what is not is ready to be appended where it would have been. Costs nothing where every
    /// claim is the first.
    pub(super) async fn recover(
        &self,
        store: &dyn IdempotencyStore,
        prepared: &mut Prepared,
        held: &mut Vec<Held>,
    ) {
        if held.iter().all(|held| held.attempt <= 1) {
            return;
        }
        // The first claimant's note speaks for all there were.
        for held in held.iter_mut() {
            match &mut held.note {
                Some(note) if held.attempt == 2 => note.covers_all = true,
                _ => {}
            }
        }
        self.renew(store, prepared, held).await;
        let asked: Vec<usize> = (0..held.len())
            .filter(|at| {
                held[*at].attempt > 1 && prepared.results[prepared.keyed[held[*at].keyed].index].is_none()
            })
            .collect();
        let searches: Vec<Search> = asked.iter().map(|at| search_for(prepared, &held[*at])).collect();
        let once = &self.config.once;
        let bounds = Bounds {
            records_max: once.lookback_events.max(1),
            bytes_max: once.lookback_bytes,
            until: self.clock.monotonic() + once.lookback_time(),
        };
        let seen = lookback::search(&*self.log, &*self.clock, &searches, bounds).await;
        for ((at, search), seen) in asked.into_iter().zip(searches).zip(seen) {
            conclude(prepared, &mut held[at], search, seen);
        }
    }

    /// Lays down the notes that speak for all claimants under leases of their own, so that a crash from here
    /// on leaves no less than the one before did.
    async fn renew(&self, store: &dyn IdempotencyStore, prepared: &mut Prepared, held: &mut Vec<Held>) {
        let since = self.clock.monotonic();
        let mut renewed = Vec::new();
        let mut requests = Vec::new();
        for (at, held) in held.iter().enumerate() {
            let Some(note) = held.note.as_ref().filter(|note| held.attempt > 1 && note.covers_all) else {
                continue;
            };
            renewed.push((at, Token(rand::random())));
            requests.push(ClaimRequest {
                key: prepared.keyed[held.keyed].key,
                token: renewed[renewed.len() - 1].1,
                lease: self.lease(),
                keep: self.config.once.ttl,
                ground: Ground::Own { token: held.token, counted: false },
                note: note.encode(),
            });
        }
        if requests.is_empty() {
            return;
        }
        let mut lost = vec![false; held.len()];
        match store.claim(requests).await {
            Ok(claims) => {
                let mut claims = claims.into_iter();
                for (at, token) in renewed {
                    let keyed = &prepared.keyed[held[at].keyed];
                    match claims.next() {
                        Some(Claim::Acquired { .. }) => (held[at].token, held[at].since) = (token, since),
                        Some(other) => {
                            prepared.results[keyed.index] = Some(not_ours(&other, &keyed.content));
                            lost[at] = true;
                        }
                        None => {
                            let error = Error::new(ErrorCode::Internal, "the store answered too few claims");
                            prepared.results[keyed.index] = Some(Err(error));
                            lost[at] = true;
                        }
                    }
                }
            }
            Err(error) => {
                // Which of the two leases is in force is not known; it ends by itself.
                for (at, _) in renewed {
                    let slot = &mut prepared.results[prepared.keyed[held[at].keyed].index];
                    *slot = Some(Err(store_down(&error, Effect::Unknown)));
                    lost[at] = true;
                }
            }
        }
        let mut lost = lost.into_iter();
        held.retain(|_| !lost.next().unwrap_or_default());
    }
}

/// What to look for, by what the note says; without one, by where the event goes now.
fn search_for(prepared: &Prepared, held: &Held) -> Search {
    let keyed = &prepared.keyed[held.keyed];
    let lane = &prepared.lanes[keyed.lane];
    let (topic, partition) = match &held.note {
        Some(note) => (note.topic.clone(), note.partition),
        None => (lane.topic.clone(), lane.records[keyed.at].0),
    };
    let covering = held.note.as_ref().filter(|note| note.covers_all);
    Search {
        at: TopicPartition::new(topic, partition),
        from: covering.filter(|note| may_be_the_same(note, lane)).and_then(|note| note.from),
        key: keyed.key,
        operation: covering.map(|note| note.operation),
    }
}

/// Whether the note's offset may speak of the topic that is there now: of one that was made anew it does not.
fn may_be_the_same(note: &Note, lane: &Lane) -> bool {
    note.topic != lane.topic || note.topic_id == codec::topic_id(&lane.meta.id)
}

fn conclude(prepared: &mut Prepared, held: &mut Held, search: Search, seen: Seen) {
    let keyed = &prepared.keyed[held.keyed];
    let slot = &mut prepared.results[keyed.index];
    let at = search.at;
    match seen {
        Seen::Found(found) => {
            let receipt = Receipt {
                id: found.id,
                topic: at.topic,
                partition: at.partition,
                offset: found.offset,
                timestamp: found.timestamp,
                duplicate: true,
            };
            let is_same = found.content == keyed.content;
            *slot = Some(if is_same { Ok(receipt.clone()) } else { Err(reused()) });
            held.found = Some(Published { content: found.content, receipt });
            return;
        }
        Seen::Failed(error) => {
            let detail = format!(
                "an earlier request with this idempotency key did not come to its end, and the log does not \
                 say what became of it: {}",
                error.detail()
            );
            *slot = Some(Err(Error::new(ErrorCode::Unavailable, detail).with_effect(Effect::Unknown)));
            return;
        }
        Seen::Beyond => tracing::warn!(
            partition = %at,
            attempt = held.attempt,
            "an earlier try of an event with an idempotency key may be in the log, further back than was looked; \
             it is appended, perhaps a second time"
        ),
        Seen::Absent => {}
    }
    let lane = &mut prepared.lanes[keyed.lane];
    let partitions = lane.meta.partitions;
    let (partition, record) = &mut lane.records[keyed.at];
    let Some(note) = &held.note else { return };
    // Where the first try would have been, so that the next one looks in the right place.
    if !keyed.pinned && note.topic == lane.topic && note.partition < partitions {
        *partition = note.partition;
    }
    if note.covers_all {
        keyed.mark(record, note.operation);
    }
}
