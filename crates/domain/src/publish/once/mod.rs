//! Publishing once: what is published again under the same idempotency key is answered with the first
//! receipt.
//!
//! A key is claimed before the append and settled after it: completed with the receipt, released where the
//! event is certainly not in the log, kept where that is not known. One call makes one claim and one
//! settlement, whatever the number of its events, and none for events without a key.
//!
//! Invariants:
//! 1. Of all calls with one key, one at a time appends, and none once an outcome is kept, as long as the
//!    claim's lease is not outlived. A lease exceeds the time that a call may take to its append's deadline;
//!    a call that took too long before its append does not append. Beyond the deadline the lease is extended
//!    until the log has reported.
//! 2. A receipt is given for a durable event also where the store does not take the outcome. The outcome is
//!    then offered again for as long as a lease lasts.
//! 3. A call goes on when its caller goes away: a client that gives up and tries again finds its outcome.
//! 4. A key is released only where the log said that nothing was appended.
//!
//! # After a crash
//!
//! A claimant that died left its lease. When that has ended, the next claimant is told so (attempt 2 or
//! later) and gets the note of the one before: topic, partition, and an offset that the partition's end had
//! reached by then. What the dead one appended lies there or behind, in a record that bears the claim's mark.
//! So the partition is read from there to its end ([`lookback`]): a record that is found is the outcome; where
//! there is none the event is appended, to the same partition. Before that the note is laid down again under
//! the new lease, as one that speaks for both, so that a second crash leaves what the first did.
//!
//! The offset costs one `locate` a topic and second at most, and nothing where there are no keys: an earlier
//! end serves as well, what is read in case of a crash is only longer.
//!
//! The log cannot tell, and the event is appended a second time, where
//! - more than `lookback_events` or `lookback_bytes` were appended to the partition between the note's offset
//!   and the record, or reading that far takes more than `lookback_time` (a warning is logged);
//! - the record was deleted by retention, a purge or with its topic, or lost with the end of the log;
//! - the dead one's append was still on its way inside the log when the lease had ended, or a process that
//!   was stopped outlived its lease and woke between the check of its lease and the append;
//! - two claimants died in a row, the second before it had laid down the note again: then the last
//!   `lookback_events` of the partition are looked at and nothing before them. An event without a key may
//!   then be looked for in another partition than it is in.

pub(super) mod codec;
pub(super) mod ends;
mod lookback;
mod recover;
mod settle;

use super::{
    flow::{Core, Trace, WhenLate},
    late::Heard,
    prepare::Prepared,
    request::Receipt,
};
use crate::{
    error::{Error, ErrorCode, Result},
    event::header,
};
use bytestring::ByteString;
use codec::{Content, Mark, Note, Published};
use ports::{
    Claim, ClaimKey, ClaimRequest, Effect, Ground, Header, IdempotencyStore, PortError, Position, Record,
    Settlement, Token,
};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// What a lease has beyond the longest append: for the claim itself and for reading after a crash.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// How soon a caller whose key is in flight should ask again: mostly the first one is milliseconds away from
/// its end.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The settings of publishing once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceConfig {
    /// Whether idempotency keys are taken.
    pub enabled: bool,
    /// For how long a receipt is kept, and attempts without an outcome are remembered.
    pub ttl: Duration,
    /// So many records of a partition are read at most to find an event after a crash.
    pub lookback_events: u64,
    /// So many bytes of them at most.
    pub lookback_bytes: usize,
    /// How long that may take. More than 15 s are cut to that.
    pub lookback_time: Duration,
}

impl Default for OnceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Duration::from_secs(3600),
            lookback_events: 100_000,
            lookback_bytes: 64 << 20,
            lookback_time: Duration::from_secs(5),
        }
    }
}

impl OnceConfig {
    fn lookback_time(&self) -> Duration {
        self.lookback_time.min(LEASE_MARGIN * 3 / 4)
    }
}

/// An item with an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    /// The item's index in the call.
    pub(super) index: usize,
    /// Its lane, and its record's place there until what is answered is taken out.
    pub(super) lane: usize,
    pub(super) at: usize,
    /// Whether the event itself names its partition.
    pub(super) pinned: bool,
    pub(super) key: ClaimKey,
    pub(super) content: Content,
    /// Names the claim, and the operation.
    pub(super) token: Token,
}

impl Keyed {
    /// The same item in another call, in the first lane, under a claim of its own: a token that was used
    /// would be answered as it was then.
    pub(super) fn again(&self, index: usize, at: usize) -> Self {
        Self { index, lane: 0, at, token: Token(rand::random()), ..self.clone() }
    }

    /// Marks a record as published under `operation`, instead of what it was marked with.
    pub(super) fn mark(&self, record: &mut Record, operation: Token) {
        let mark = Mark { key: self.key, operation, content: self.content }.encode();
        match record.headers.iter_mut().rfind(|header| header.name == header::IDEMPOTENCY_KEY) {
            Some(header) => header.value = Some(mark),
            None => record
                .headers
                .push(Header { name: ByteString::from_static(header::IDEMPOTENCY_KEY), value: Some(mark) }),
        }
    }
}

/// A claim that this call holds.
struct Held {
    /// Its place among the keyed items.
    keyed: usize,
    token: Token,
    attempt: u32,
    /// The note of the claimant before.
    note: Option<Note>,
    /// What an earlier claimant turned out to have published.
    found: Option<Published>,
    /// The lease that it has now began then.
    since: ports::Monotonic,
}

impl Core {
    /// How long a claim lasts unless it is extended.
    fn lease(&self) -> Duration {
        self.limits.publish_timeout + LEASE_MARGIN
    }

    /// Whether events with an idempotency key can be taken.
    ///
    /// # Errors
    /// `not_supported`, which names the field.
    pub(super) fn can_be_once(&self) -> Result<()> {
        let why = match (&self.store, self.config.once.enabled) {
            (Some(_), true) => return Ok(()),
            (_, false) => "is turned off here (`idempotency.publish.enabled`); leave it out",
            (None, true) => "is not supported here: no store for it is configured; leave it out",
        };
        let error = Error::new(ErrorCode::NotSupported, format!("`idempotencykey` {why}"));
        Err(error.with_field("idempotencykey", why))
    }

    /// Claims, appends, settles, and puts the outcomes into the results.
    pub(super) async fn publish_once(
        self: &Arc<Self>,
        store: Arc<dyn IdempotencyStore>,
        prepared: &mut Prepared,
        late: WhenLate,
        trace: &mut Trace,
    ) {
        let mut held = self.claim(&store, prepared).await;
        self.recover(&*store, prepared, &mut held).await;
        prepared.fail_successors();
        self.refuse_outlived(prepared, &held);
        prepared.drop_answered();
        let opens = self.append(&mut prepared.lanes, &mut prepared.results, trace).await;

        // What the log will still report on keeps its claim; of what it will not, nobody knows, and whoever
        // comes when the lease has ended asks the log.
        let unknown: HashSet<usize> = trace.unknown.iter().copied().collect();
        let awaited: HashSet<usize> = opens
            .iter()
            .flat_map(|open| open.items.iter().map(|(index, _)| *index))
            .filter(|index| unknown.contains(index))
            .collect();
        let mut settlements = Vec::with_capacity(held.len());
        let mut waiting = settle::Waiting::default();
        for held in &held {
            let keyed = &prepared.keyed[held.keyed];
            let settlement = match (&prepared.results[keyed.index], &held.found) {
                (_, Some(found)) => self.complete(found),
                (Some(Ok(receipt)), None) => {
                    let state = &prepared.lanes[keyed.lane].state;
                    state.ends.lock().appended(receipt.partition, receipt.offset);
                    self.complete(&Published { content: keyed.content, receipt: receipt.clone() })
                }
                (Some(Err(_)), None) if awaited.contains(&keyed.index) => {
                    waiting.insert(keyed.index, (keyed.key, held.token, keyed.content, held.attempt));
                    Settlement::Extend { lease: self.lease() }
                }
                (Some(Err(_)), None) if unknown.contains(&keyed.index) => continue,
                _ => release(held.attempt),
            };
            settlements.push((keyed.key, held.token, settlement));
        }
        self.settle(&store, settlements).await;

        for open in opens {
            let of_open = open.items.iter().filter_map(|(index, _)| Some((*index, waiting.remove(index)?)));
            let of_open = of_open.collect();
            let hearing = self.clone().hear_once(store.clone(), open, of_open);
            match late {
                WhenLate::Answer => drop(self.background.spawn(hearing)),
                WhenLate::Wait => prepared.heard(hearing.await, trace),
            }
        }
    }

    /// Claims the keys of all keyed items. What is not to be done has its result afterwards.
    async fn claim(
        self: &Arc<Self>,
        store: &Arc<dyn IdempotencyStore>,
        prepared: &mut Prepared,
    ) -> Vec<Held> {
        self.learn_ends(prepared).await;
        let lease = self.lease();
        let since = self.clock.monotonic();
        let topic_ids: Vec<_> = prepared.lanes.iter().map(|lane| codec::topic_id(&lane.meta.id)).collect();
        let requests: Vec<ClaimRequest> = prepared
            .keyed
            .iter()
            .map(|keyed| ClaimRequest {
                key: keyed.key,
                token: keyed.token,
                lease,
                keep: self.config.once.ttl,
                ground: Ground::Free,
                note: note(prepared, keyed, topic_ids[keyed.lane]).encode(),
            })
            .collect();
        let claims = match store.claim(requests).await {
            Ok(claims) if claims.len() == prepared.keyed.len() => claims,
            Ok(_) => {
                let error = Error::new(ErrorCode::Internal, "the store answered another number of claims");
                prepared
                    .keyed
                    .iter()
                    .for_each(|keyed| prepared.results[keyed.index] = Some(Err(error.clone())));
                return Vec::new();
            }
            Err(error) => {
                if error.effect() == Effect::Unknown {
                    // What was claimed all the same would keep the key in flight for as long as a lease.
                    // It counts, as it is not known which attempt it was.
                    let back = prepared
                        .keyed
                        .iter()
                        .map(|keyed| (keyed.key, keyed.token, Settlement::Release { counted: true }));
                    self.settle_later(store.clone(), back.collect());
                }
                let error = store_down(&error, Effect::None);
                prepared
                    .keyed
                    .iter()
                    .for_each(|keyed| prepared.results[keyed.index] = Some(Err(error.clone())));
                return Vec::new();
            }
        };
        let mut held = Vec::with_capacity(claims.len());
        for (at, claim) in claims.into_iter().enumerate() {
            let keyed = &prepared.keyed[at];
            match claim {
                Claim::Acquired { attempt, note } => held.push(Held {
                    keyed: at,
                    token: keyed.token,
                    attempt,
                    note: Note::decode(&note),
                    found: None,
                    since,
                }),
                other => prepared.results[keyed.index] = Some(not_ours(&other, &keyed.content)),
            }
        }
        held
    }

    /// Learns where the partitions of keyed items end, where that is not known well enough.
    async fn learn_ends(&self, prepared: &Prepared) {
        let now = self.clock.monotonic();
        let mut due: Vec<Vec<(u32, Position)>> = prepared.lanes.iter().map(|_| Vec::new()).collect();
        for keyed in &prepared.keyed {
            let lane = &prepared.lanes[keyed.lane];
            let partition = lane.records[keyed.at].0;
            let asked = due[keyed.lane].iter().any(|(asked, _)| *asked == partition);
            if !asked && lane.state.ends.lock().of(&lane.meta.id).is_due(partition, now) {
                due[keyed.lane].push((partition, Position::Latest));
            }
        }
        let mut asking = Vec::new();
        for (lane, due) in prepared.lanes.iter().zip(due).filter(|(_, due)| !due.is_empty()) {
            asking.push(Box::pin(async move {
                match self.log.locate(&lane.topic, &due).await {
                    Ok(offsets) => {
                        let mut ends = lane.state.ends.lock();
                        let ends = ends.of(&lane.meta.id);
                        for ((partition, _), end) in due.into_iter().zip(offsets) {
                            ends.told(partition, end, now);
                        }
                    }
                    // The append says what is wrong with the log; a note without an offset is one all the same.
                    Err(error) => {
                        tracing::debug!(topic = %lane.topic, %error, "the end of a topic is not known");
                    }
                }
            }));
        }
        futures::future::join_all(asking).await;
    }

    /// Refuses what would be appended when its lease may have ended.
    fn refuse_outlived(&self, prepared: &mut Prepared, held: &[Held]) {
        let lease = self.lease();
        let now = self.clock.monotonic();
        let mut refused = false;
        for held in held {
            let slot = &mut prepared.results[prepared.keyed[held.keyed].index];
            if slot.is_none() && now.since(held.since) + self.limits.publish_timeout > lease {
                let detail = "claiming the idempotency key took too long; nothing was appended";
                *slot = Some(Err(Error::new(ErrorCode::Unavailable, detail)));
                refused = true;
            }
        }
        if refused {
            prepared.fail_successors();
        }
    }

    fn complete(&self, published: &Published) -> Settlement {
        Settlement::Complete { outcome: published.encode(), keep: self.config.once.ttl }
    }
}

impl Prepared {
    /// Takes over what the log said late.
    pub(super) fn heard(&mut self, heard: Vec<Heard>, trace: &mut Trace) {
        for Heard { index, outcome, effect, cause } in heard {
            if outcome.is_ok() || effect == Effect::None {
                trace.unknown.retain(|unknown| *unknown != index);
            }
            if let (Some(causes), Some(cause)) = (&mut trace.causes, cause) {
                causes.insert(index, cause);
            }
            self.results[index] = Some(outcome);
        }
    }
}

/// What the claimant of an item leaves for the next one.
fn note(prepared: &Prepared, keyed: &Keyed, topic_id: [u8; 8]) -> Note {
    let lane = &prepared.lanes[keyed.lane];
    let partition = lane.records[keyed.at].0;
    Note {
        covers_all: false,
        operation: keyed.token,
        topic: lane.topic.clone(),
        topic_id,
        partition,
        from: lane.state.ends.lock().of(&lane.meta.id).get(partition),
    }
}

/// The result of an item whose key is somebody else's, or done.
fn not_ours(claim: &Claim, content: &Content) -> Result<Receipt> {
    match claim {
        Claim::Done { outcome } => match Published::decode(outcome) {
            Some(published) if published.content == *content => Ok(published.receipt),
            Some(_) => Err(reused()),
            None => {
                Err(Error::new(ErrorCode::Internal, "what is kept of the idempotency key cannot be read"))
            }
        },
        Claim::InFlight { ends_in } => Err(Error::new(
            ErrorCode::IdempotencyInFlight,
            "a request with this idempotency key has not come to its end; ask again for its outcome",
        )
        .with_retry_after((*ends_in).min(ASK_AGAIN))),
        Claim::Acquired { .. } => Err(Error::new(ErrorCode::Internal, "the claim was not taken")),
    }
}

/// The key was used for something else.
pub(super) fn reused() -> Error {
    let wrong = "was used for an event with another content; take a new key for a new event";
    Error::new(ErrorCode::IdempotencyKeyReused, format!("`idempotencykey` {wrong}"))
        .with_field("idempotencykey", wrong)
}

/// The end of a claim that leaves no outcome. Nothing is forgotten of a key that was claimed before.
fn release(attempt: u32) -> Settlement {
    Settlement::Release { counted: attempt > 1 }
}

/// The store does not serve; `effect` is what may have become of the event.
fn store_down(error: &PortError, effect: Effect) -> Error {
    let detail = format!("the store of idempotency keys does not serve: {}", error.detail());
    let mapped = Error::new(ErrorCode::Unavailable, detail).with_effect(effect);
    match error.retry() {
        ports::Retry::Transient { after: Some(after) } => mapped.with_retry_after(after),
        _ => mapped,
    }
}
