//! Claims: asked for a batch at a time, just before what they are for goes out.
//!
//! Invariants:
//! - With claims on nothing goes out before its claim was acquired, unless the store is away and the
//!   subscription says `process`.
//! - A claim is asked for with a token that was drawn before, and asked for again with the same one after an
//!   answer that was lost.
//! - The keys of one call are distinct; the second of two events of one key waits for the first.
//! - An event's key is the same however often it is made: it is made of the event alone.

use super::{
    Context, Handed, PartitionKey, actor::Actor, backoff, claim_place, owned::Owned, serving::Waiter,
    values::ToRead,
};
use crate::{
    delivery::{CLAIM_MARGIN, ClaimTag, Own, Retried, Taken},
    event::header,
    event_schemas::{Metadata, ShownValue, says_framed},
    handler::UNDECODABLE,
    jobs::header::REPLAY_ID,
    schemas::framing,
    subscriptions::{
        Cause, DeliveryMode, Payload,
        expressions::{self, ExpressionErrors, Turn},
        policy::OnStoreFailure,
    },
};
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use ports::{
    Claim, ClaimKey, ClaimRequest, Failure, Ground, IdempotencyStore, Monotonic, Offset, PartitionId,
    PortError, Record, StoredRecord, Token, TopicName, TopicPartition,
};
use rand::RngExt;
use sha2::{Digest, Sha256};
use std::{collections::HashSet, sync::Arc, time::Duration};
use uuid::Uuid;

/// How often it is looked whether somebody else is done with an event, at least.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long attempts are known at least after a claim has ended without an outcome.
pub(super) const ATTEMPTS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// So many of the first claims of an engine may take over what another process left.
const TAKEN_OVER_MAX: usize = 100_000;
/// How much longer a claim lasts than it must, at most, so that the next of a run need not extend it at once.
const SLACK_MAX: Duration = Duration::from_secs(5);

/// An event that is reserved for a pull.
pub(super) struct Reserved {
    pub(super) key: PartitionKey,
    pub(super) session: u32,
    pub(super) taken: Taken,
}

/// What is reserved for one pull.
pub(super) struct Batch {
    waiter: Waiter,
    reserved: Vec<Reserved>,
    /// The claim of each, with claims.
    tags: Vec<Option<ClaimTag>>,
    until: Monotonic,
}

impl Batch {
    pub(super) fn unclaimed(waiter: Waiter, reserved: Vec<Reserved>) -> Self {
        Self { waiter, reserved, tags: Vec::new(), until: Monotonic::default() }
    }
}

/// What came of asking for claims.
pub(super) struct Claimed {
    batch: Batch,
    /// The claims of those that have a tag, in order; `None` without claims.
    outcome: Option<Result<Vec<Claim>, PortError>>,
    /// The values of all, where any was to be read by a schema.
    values: Vec<crate::Result<ShownValue>>,
    /// Keys that the subscription's expression could not make.
    key_errors: ExpressionErrors,
}

/// What is to be asked for of one event.
struct Ask {
    of: KeyOf,
    token: Token,
    /// The claim that it has, if it has one.
    own: Option<Ground>,
}

/// The key of an event.
enum KeyOf {
    Known(ClaimKey),
    /// To be made when the value was read, which may say what the headers do not.
    Said {
        origin: Origin,
        record: Arc<StoredRecord>,
    },
    /// To be made by the subscription's expression.
    Made {
        topic: TopicName,
        origin: Origin,
        record: Arc<StoredRecord>,
    },
}

/// Where an event first lay: what waited in a retry topic is what it was.
#[derive(Clone, Copy)]
struct Origin {
    log: u64,
    epoch: Uuid,
    partition: PartitionId,
    offset: Offset,
}

impl Origin {
    fn of(owned: &Owned, record: &StoredRecord, retried: Option<&Retried>) -> Self {
        match retried {
            Some(of) => Self { log: of.log, epoch: of.epoch, partition: of.partition, offset: of.offset },
            None => Self {
                log: owned.log,
                epoch: owned.epoch.id,
                partition: owned.partition.partition,
                offset: record.offset,
            },
        }
    }
}

/// Of claims that a process of before left when it died: those of a webhook's deliveries were cut off with it,
/// so that they are taken over at once and count no attempt. A pull or stream client may still be at work on
/// its own, and a linked handler may be what killed the process.
///
/// Only what was never claimed here can be another process's, and no more than may be out is: what is claimed
/// again is held by this one, whose claim is not to be taken from it.
#[derive(Clone, Default)]
pub(super) struct Left(Arc<Mutex<HashSet<ClaimKey>>>);

impl Left {
    /// Other replicas may be at it still.
    fn takes_over(&self, context: &Context, key: ClaimKey) -> bool {
        let is_push = matches!(context.definition.mode, DeliveryMode::Push(_));
        if !is_push || context.config.shared {
            return false;
        }
        let mut taken = self.0.lock();
        taken.len() < TAKEN_OVER_MAX && taken.insert(key)
    }
}

/// How the store of claims is.
#[derive(Default)]
pub(super) struct StoreState {
    failures: u32,
    away_until: Option<Monotonic>,
    pub(super) trouble: Option<Cause>,
}

impl StoreState {
    /// Whether nothing is delivered because of it.
    pub(super) fn keeps_back(&self, context: &Context) -> bool {
        context.definition.dedup.on_store_failure == OnStoreFailure::Pause
            && self.away_until.is_some_and(|until| until > context.now())
    }

    /// When it is asked again.
    pub(super) fn away_until(&self) -> Option<Monotonic> {
        self.away_until
    }

    pub(super) fn failed(&mut self, context: &Context, error: &PortError) {
        self.failures += 1;
        self.away_until = Some(context.now() + backoff(self.failures));
        if self.trouble.is_none() {
            let name = &context.definition.name;
            tracing::warn!(subscription = %name, %error, "the store of claims does not answer");
            self.trouble = Some(context.cause("dedup-store", error.to_string()));
        }
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }
}

impl Actor {
    /// The store of claims, where the subscription uses it.
    pub(super) fn claims(&self) -> Option<Arc<dyn IdempotencyStore>> {
        self.context.definition.dedup.enabled.then(|| self.context.ports.idempotency.clone())
    }

    /// Asks for the claims of what is reserved.
    pub(super) fn claim(
        &mut self,
        store: Arc<dyn IdempotencyStore>,
        waiter: Waiter,
        reserved: Vec<Reserved>,
        to_read: Option<ToRead>,
    ) {
        let definition = &self.context.definition;
        let timeout = definition.lease();
        let lease = timeout + CLAIM_MARGIN + (timeout / 4).min(SLACK_MAX);
        let keep = definition.dedup.ttl.max(ATTEMPTS_KEPT);
        let has_expression = self.context.expressions.dedup_key().is_some();
        let mut asks = Vec::with_capacity(reserved.len());
        for Reserved { key, taken, .. } in &reserved {
            let owned = self.owned.get(key);
            let record = owned.and_then(|owned| Some((owned, owned.core.record(taken.ticket)?)));
            let Some((owned, record)) = record else {
                asks.push(None);
                continue;
            };
            let of = match taken.own {
                Some(own) => KeyOf::Known(own.tag.key),
                None => {
                    let retried = owned.core.retried(taken.ticket);
                    let origin = Origin::of(owned, record, retried);
                    if has_expression {
                        let topic = retried.map_or(&owned.partition.topic, |of| &of.topic).clone();
                        KeyOf::Made { topic, origin, record: record.clone() }
                    } else if to_read.as_ref().is_some_and(|to_read| to_read.has(asks.len())) {
                        KeyOf::Said { origin, record: record.clone() }
                    } else {
                        KeyOf::Known(claim_key(origin, &record.record, None))
                    }
                }
            };
            let asked = taken.own.and_then(|own| own.asked);
            let token = asked.unwrap_or_else(|| Token(self.rng.random()));
            let own = taken.own.map(|Own { tag, counted, .. }| Ground::Own { token: tag.token, counted });
            asks.push(Some(Ask { of, token, own }));
        }
        let mut batch = Batch { waiter, reserved, tags: Vec::new(), until: self.context.now() + lease };
        let (context, left) = (self.context.clone(), self.left.clone());
        self.claiming.push(Box::pin(async move {
            let mut key_errors = ExpressionErrors::default();
            let values = match to_read {
                Some(to_read) => to_read.read().await,
                None => Vec::new(),
            };
            if !values.is_empty() {
                // What cannot be read for now is not claimed.
                let unread = asks.iter_mut().zip(&values).filter(|(_, value)| value.is_err());
                unread.for_each(|(ask, _)| *ask = None);
            }
            let asks = context.keyed(asks, &values, &mut key_errors).await;
            let mut seen = HashSet::with_capacity(asks.len());
            let mut requests = Vec::with_capacity(asks.len());
            batch.tags.reserve_exact(asks.len());
            for ask in asks {
                let ask = ask.filter(|(tag, _)| seen.insert(tag.key));
                batch.tags.push(ask.as_ref().map(|(tag, _)| *tag));
                let Some((ClaimTag { key, token }, own)) = ask else { continue };
                let ground = match own {
                    Some(own) => own,
                    None if left.takes_over(&context, key) => Ground::TakeOver { counted: false },
                    None => Ground::Free,
                };
                requests.push(ClaimRequest { key, token, lease, keep, ground, note: Bytes::new() });
            }
            let outcome = Some(store.claim(requests).await);
            Claimed { batch, outcome, values, key_errors }
        }));
    }

    /// Reads the values of what is reserved without claims.
    pub(super) fn read_values(&mut self, batch: Batch, to_read: ToRead) {
        self.claiming.push(Box::pin(async move {
            let values = to_read.read().await;
            Claimed { batch, outcome: None, values, key_errors: ExpressionErrors::default() }
        }));
    }

    /// Delivers what was acquired, and puts the rest where it belongs.
    pub(super) fn claimed(&mut self, claimed: Claimed) {
        let Claimed { batch, outcome, values, key_errors } = claimed;
        if self.dedup_key_errors.add(key_errors) {
            // The reason may quote the event: it is shown, and not logged.
            let name = &self.context.definition.name;
            tracing::warn!(subscription = %name, "`dedup.key` fails on an event, which has its source and id for a key; the subscription's state says why");
        }
        match outcome {
            None => self.deliver(batch, values, |_| None),
            Some(Ok(claims)) => {
                self.store.answered();
                let mut claims = claims.into_iter();
                self.deliver(batch, values, |tag| Some(tag.and_then(|tag| Some((tag, claims.next()?)))));
            }
            Some(Err(error)) => {
                self.store.failed(&self.context, &error);
                if self.context.definition.dedup.on_store_failure == OnStoreFailure::Process {
                    self.deliver(batch, values, |_| None);
                } else {
                    self.unreserve(batch);
                }
            }
        }
    }

    /// Delivers what is reserved, in order, with its values as far as they were read. `claim_of` gives the claim of each by its tag: `None` without
    /// claims; `Some(None)` where another event of the same key is at it.
    pub(super) fn deliver(
        &mut self,
        batch: Batch,
        values: Vec<crate::Result<ShownValue>>,
        mut claim_of: impl FnMut(Option<ClaimTag>) -> Option<Option<(ClaimTag, Claim)>>,
    ) {
        let Batch { waiter, reserved, tags, until } = batch;
        let now = self.context.both();
        let mut handed = Vec::with_capacity(reserved.len());
        let mut unused = Vec::new();
        let mut tags = tags.into_iter();
        let were_read = !values.is_empty();
        let mut values = values.into_iter();
        let mut unread = None;
        let mut touched = Vec::with_capacity(8);
        for Reserved { key, session, taken } in reserved {
            let claim = claim_of(tags.next().flatten());
            let value = values.next().unwrap_or(Ok(ShownValue::Plain));
            let Some(owned) = self.owned.get_mut(&key).filter(|owned| owned.session == session) else {
                if let Some(Some((tag, Claim::Acquired { .. }))) = claim {
                    unused.push(Own { tag, counted: false, asked: None });
                }
                continue;
            };
            if touched.last() != Some(&key) {
                touched.push(key);
            }
            let ticket = taken.ticket;
            let mut tried = 0;
            let value = match value {
                Ok(value) => {
                    let follows = || {
                        let topic = owned.core.retried(ticket).map_or(&owned.partition.topic, |of| &of.topic);
                        self.context.schemas.as_ref().is_some_and(|schemas| schemas.says_metadata(topic))
                    };
                    if (matches!(value, ShownValue::Decoded(_)) || follows())
                        && let Some(record) = owned.core.record(ticket)
                    {
                        let before = Metadata::tried_before(&record.record, value.metadata());
                        tried = owned.core.tried_before(ticket, before);
                    }
                    self.context.given(value)
                }
                Err(error) => {
                    // It was not claimed.
                    owned.core.hold_back(ticket, now.steady + LOOK_AGAIN);
                    unread = Some(error);
                    continue;
                }
            };
            let granted = match claim {
                None => None,
                Some(Some((tag, Claim::Acquired { attempt, .. }))) => {
                    Some((tag, attempt.saturating_add(tried), until))
                }
                Some(Some((_, Claim::Done { .. }))) => {
                    owned.core.done_already(now, ticket);
                    continue;
                }
                Some(Some((_, Claim::InFlight { ends_in }))) => {
                    let again = now.steady + ends_in.min(LOOK_AGAIN);
                    owned.core.held_elsewhere(ticket, again);
                    continue;
                }
                Some(None) => {
                    owned.core.held_elsewhere(ticket, now.steady + LOOK_AGAIN / 10);
                    continue;
                }
            };
            let undecodable = match &value {
                ShownValue::Decoded(_) => None,
                ShownValue::Undecodable(reason) => Some(Failure::new(UNDECODABLE, reason.clone())),
                ShownValue::Plain => {
                    owned.core.record(ticket).and_then(|record| self.context.undecodable(&record.record))
                }
            };
            if let Some(failure) = undecodable {
                owned.core.reject(now, ticket, granted.map(|(tag, ..)| tag), failure);
                continue;
            }
            if let Some(delivery) = owned.core.deliver(now, ticket, granted, !handed.is_empty()) {
                handed.push(Handed::of(key, owned, delivery, value));
            }
        }
        if were_read {
            self.values_read(unread.as_ref());
        }
        self.release(unused);
        self.answer(waiter, handed);
        self.touch_all(touched);
    }

    /// Puts back what could not be claimed. Whether it was is not known: it is asked for with the same token.
    fn unreserve(&mut self, batch: Batch) {
        let Batch { waiter, reserved, tags, .. } = batch;
        let mut touched = Vec::with_capacity(8);
        for (Reserved { key, session, taken }, tag) in reserved.into_iter().zip(tags) {
            if let Some(owned) = self.owned.get_mut(&key).filter(|owned| owned.session == session) {
                let own = tag.map(|tag| {
                    let before = taken.own.unwrap_or(Own { tag, counted: false, asked: None });
                    Own { asked: Some(tag.token), ..before }
                });
                owned.core.unreserve(taken.ticket, own);
                touched.push(key);
            }
        }
        self.answer(waiter, Vec::new());
        self.touch_all(touched);
    }
}

/// What is claimed for an event: the subscription and the log (which `log` stands for), the epoch, and the
/// event's source and id; or its place, where it has none.
///
/// What its value says of it counts where its headers say nothing. An id that stands in a value alone is that of its
/// log's events where no source is named.
fn claim_key(origin: Origin, record: &Record, said: Option<&Metadata>) -> ClaimKey {
    let Origin { log, epoch, partition, offset } = origin;
    let mut hash = Sha256::new().chain_update(log.to_be_bytes()).chain_update(epoch.as_bytes());
    add_replay(&mut hash, record);
    let by_value = said.and_then(|said| said.id.as_ref()).map(ByteString::as_bytes);
    let source = attribute(record, header::SOURCE)
        .or_else(|| said.and_then(|said| said.source.as_ref()).map(ByteString::as_bytes));
    let unnamed = Bytes::new();
    let place = match (source.or(by_value.map(|_| &unnamed)), attribute(record, header::ID).or(by_value)) {
        (Some(source), Some(id)) => {
            hash.update([1]);
            hash.update((source.len() as u64).to_be_bytes());
            hash.update(source);
            hash.update(id);
            claim_place::time_of(id)
        }
        _ => {
            hash.update([2]);
            hash.update(partition.to_be_bytes());
            hash.update(offset.to_be_bytes());
            Some(offset)
        }
    };
    key_at(place, hash)
}

/// As [`claim_key`], with what the subscription's expression gave instead of source and id.
fn made_key(Origin { log, epoch, .. }: Origin, record: &Record, made: &[u8]) -> ClaimKey {
    let mut hash = Sha256::new().chain_update(log.to_be_bytes()).chain_update(epoch.as_bytes());
    add_replay(&mut hash, record);
    key_at(None, hash.chain_update([3]).chain_update(made))
}

/// What was replayed is another event than it was, and one replay's copies of it are one.
fn add_replay(hash: &mut Sha256, record: &Record) {
    if let Some(id) = attribute(record, REPLAY_ID) {
        hash.update([4]);
        hash.update((id.len() as u64).to_be_bytes());
        hash.update(id);
    }
}

fn key_at(place: Option<u64>, hash: Sha256) -> ClaimKey {
    let digest = hash.finalize();
    claim_place::key_at(place, std::array::from_fn(|i| digest[i]))
}

impl Context {
    /// Makes the keys that are not known yet. Where the expression fails for an event, it is the key that an
    /// event has without one.
    async fn keyed(
        &self,
        asks: Vec<Option<Ask>>,
        values: &[crate::Result<ShownValue>],
        errors: &mut ExpressionErrors,
    ) -> Vec<Option<(ClaimTag, Option<Ground>)>> {
        let clock = &*self.ports.clock;
        let mut turn = Turn::new(clock);
        let mut keyed = Vec::with_capacity(asks.len());
        for (at, ask) in asks.into_iter().enumerate() {
            let Some(Ask { of, token, own }) = ask else {
                keyed.push(None);
                continue;
            };
            let value = values.get(at).and_then(|value| value.as_ref().ok());
            let said = value.and_then(ShownValue::metadata);
            let key = match of {
                KeyOf::Known(key) => key,
                KeyOf::Said { origin, record } => claim_key(origin, &record.record, said),
                KeyOf::Made { topic, origin, record } => {
                    let partition = TopicPartition::new(topic, origin.partition);
                    let made = self.made(&partition, origin.offset, &record, value);
                    turn.pass().await;
                    match made {
                        Ok(made) => made_key(origin, &record.record, &made),
                        Err(reason) => {
                            errors.note(&partition, origin.offset, clock.wall(), reason);
                            claim_key(origin, &record.record, said)
                        }
                    }
                }
            };
            keyed.push(Some((ClaimTag { key, token }, own)));
        }
        keyed
    }

    /// What the subscription's expression gives for an event that first lay there.
    fn made(
        &self,
        partition: &TopicPartition,
        offset: Offset,
        record: &StoredRecord,
        value: Option<&ShownValue>,
    ) -> Result<Bytes, String> {
        let Some(expression) = self.expressions.dedup_key() else {
            return Err("there is no expression".to_owned());
        };
        if record.offset == offset {
            return expressions::key_of(expression, partition, record, value);
        }
        let record = StoredRecord { offset, record: record.record.clone() };
        expressions::key_of(expression, partition, &record, value)
    }

    /// Why an event can never be shown to a client as the subscription wants it.
    fn undecodable(&self, record: &Record) -> Option<Failure> {
        if self.definition.payload != Payload::Json {
            return None;
        }
        let kind = attribute(record, header::CONTENT_TYPE)?;
        if !says_json(kind) {
            let is_framed = std::str::from_utf8(kind).is_ok_and(|kind| says_framed(kind).is_some());
            let value = record.value.as_ref().filter(|_| is_framed && self.schemas.is_some())?;
            // One in a frame was read by its schema.
            let problem = framing::unframe(value).err()?;
            return Some(Failure::new(
                UNDECODABLE,
                format!("the value is not in the frame that it is said to be in: {problem}"),
            ));
        }
        let value = record.value.as_ref()?;
        let error = serde_json::from_slice::<serde::de::IgnoredAny>(value).err()?;
        Some(Failure::new(UNDECODABLE, format!("the value is not the JSON that it is said to be: {error}")))
    }
}

/// Whether a content type is one of JSON (RFC 6839, section 3.1).
fn says_json(content_type: &Bytes) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(b"application/json")
        || media_type.len() > 5 && media_type[media_type.len() - 5..].eq_ignore_ascii_case(b"+json")
}

fn attribute<'a>(record: &'a Record, name: &str) -> Option<&'a Bytes> {
    record.headers.iter().find(|header| header.name == name).and_then(|header| header.value.as_ref())
}
