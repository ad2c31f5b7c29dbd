//! What leaves its partition: dead letters, and what waits in a retry topic. Appended in batches, one batch of
//! either kind under way at a time, tried until it works.
//!
//! Invariants:
//! - Before a dead letter is appended, its claim is taken from whoever had the delivery: an acknowledgement that
//!   comes later is not `ok`. What was acknowledged first is no dead letter.
//! - What is to wait keeps its claim until it was appended, and lets it go then: an acknowledgement that is
//!   taken elsewhere in between is found by its next delivery.
//! - An event is done here only after the append was acknowledged.
//! - A failing append never becomes a skip: it is tried again, and after [`PATIENCE`] failures in a row nothing
//!   is delivered until it works.

use super::{Context, PartitionKey, actor::Actor, backoff, claiming::ATTEMPTS_KEPT, deciding::Asked};
use crate::{
    dead_letter::{self, HEADROOM_BYTES, Origin},
    delivery::{ClaimTag, DeadLetter, Outcome, Status, Ticket},
    error::{Error, ErrorCode},
    retry_topic,
    subscriptions::Cause,
    topics::TopicMeta,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use ports::{
    AppendRequest, Claim, ClaimRequest, Ground, Monotonic, Offset, PartitionId, Timestamp, Token, TopicName,
    TopicPartition,
};
use rand::RngExt;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use uuid::Uuid;

/// The most records of one append.
const BATCH_MAX: usize = 500;
/// After so many failures in a row nothing is delivered.
const PATIENCE: u32 = 3;
/// How long an append may take.
const APPEND_WITHIN: Duration = Duration::from_secs(30);

/// Where what leaves its partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Goes {
    /// To the dead letters.
    Dead,
    /// To the retry topic of a delay, where it waits until then.
    Waits { tier: Duration, until: Timestamp },
}

/// An event that leaves its partition.
pub(super) struct ToKeep {
    key: PartitionKey,
    session: u32,
    /// Where it first lay.
    topic: TopicName,
    partition: PartitionId,
    offset: Offset,
    log: u64,
    epoch: Uuid,
    letter: DeadLetter,
    goes: Goes,
    /// The lease that its claim is taken by; none where that was done, or there is no claim.
    fence: Option<Token>,
    asked: Option<Asked>,
}

/// One that is kept.
pub(super) struct Kept {
    pub(super) key: PartitionKey,
    pub(super) session: u32,
    pub(super) ticket: Ticket,
    pub(super) claim: Option<ClaimTag>,
    pub(super) goes: Goes,
    /// The dead letter's.
    pub(super) id: Bytes,
    pub(super) asked: Option<Asked>,
}

impl ToKeep {
    fn origin<'a>(&'a self, context: &'a Context) -> Origin<'a> {
        Origin {
            subscription: &context.definition.name,
            log: self.log,
            epoch: self.epoch,
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: self.letter.record.record.timestamp,
        }
    }

    fn kept(self, id: Bytes) -> Kept {
        let Self { key, session, letter, goes, asked, .. } = self;
        Kept { key, session, ticket: letter.ticket, claim: letter.claim, goes, id, asked }
    }

    /// The topic that it goes to.
    fn to(&self, context: &Context) -> TopicName {
        match self.goes {
            Goes::Dead => context.dead_letter.topic.clone(),
            Goes::Waits { tier, .. } => retry_topic::topic(&context.definition.name, tier),
        }
    }
}

/// What an append came to, for each.
pub(super) struct Written {
    dead: bool,
    batch: Vec<(ToKeep, Became)>,
}

/// What became of what was to leave.
enum Became {
    Kept,
    /// Somebody else has, or had, its claim: it is no dead letter, or another's.
    Fenced,
    Failed(Error),
}

/// What is to leave, of one kind.
#[derive(Default)]
pub(super) struct Leaving {
    queue: VecDeque<ToKeep>,
    under_way: bool,
    failures: u32,
    not_before: Option<Monotonic>,
    pub(super) trouble: Option<Cause>,
}

impl Leaving {
    /// Whether it cannot be kept, so that nothing is to be delivered.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= PATIENCE
    }

    /// When there is something to do that nobody else wakes the task for.
    pub(super) fn timer(&self) -> Option<Monotonic> {
        self.not_before.filter(|_| !self.under_way && !self.queue.is_empty())
    }
}

impl Actor {
    /// Lets an event wait elsewhere, for at least `after`: the delay of a retry topic, or longer where it is
    /// longer than any of them.
    pub(super) fn queue_retry(
        &mut self,
        key: PartitionKey,
        session: u32,
        letter: DeadLetter,
        after: Duration,
        asked: Option<Asked>,
    ) {
        let tiers = &self.context.tiers;
        let tier = tiers.iter().find(|tier| **tier >= after).or(tiers.last()).copied().unwrap_or(after);
        let millis = i64::try_from(tier.max(after).as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp(self.context.both().wall.0.saturating_add(millis));
        self.queue_leaving(key, session, letter, Goes::Waits { tier, until }, asked);
    }

    pub(super) fn queue_dead_letter(
        &mut self,
        key: PartitionKey,
        session: u32,
        letter: DeadLetter,
        asked: Option<Asked>,
    ) {
        self.queue_leaving(key, session, letter, Goes::Dead, asked);
    }

    fn queue_leaving(
        &mut self,
        key: PartitionKey,
        session: u32,
        letter: DeadLetter,
        goes: Goes,
        asked: Option<Asked>,
    ) {
        let Some(owned) = self.owned.get(&key) else { return };
        let definition = &self.context.definition;
        let let_go = goes == Goes::Dead && !self.context.dead_letter.enabled;
        if let_go {
            let last = &letter.failures.last;
            tracing::warn!(
                subscription = %definition.name, partition = %owned.partition, offset = letter.record.offset,
                attempts = letter.attempts, kind = last.kind,
                "an event could not be handled and is let go, as dead letters are off",
            );
        }
        let (topic, partition, offset, log, epoch) = match &letter.retried {
            Some(of) => (of.topic.clone(), of.partition, of.offset, of.log, of.epoch),
            None => {
                let TopicPartition { topic, partition } = owned.partition.clone();
                (topic, partition, letter.record.offset, owned.log, owned.epoch.id)
            }
        };
        let fence = letter.claim.filter(|_| goes == Goes::Dead && !let_go).map(|_| Token(self.rng.random()));
        let one = ToKeep { key, session, topic, partition, offset, log, epoch, letter, goes, fence, asked };
        if let_go {
            self.left(one.kept(Bytes::new()));
        } else {
            self.leaving(goes == Goes::Dead).queue.push_back(one);
        }
    }

    fn leaving(&mut self, dead: bool) -> &mut Leaving {
        if dead { &mut self.dead_letters } else { &mut self.retries }
    }

    /// Begins to keep what waits for it.
    pub(super) fn keep_if_due(&mut self) {
        self.keep_kind_if_due(true);
        self.keep_kind_if_due(false);
    }

    fn keep_kind_if_due(&mut self, dead: bool) {
        let now = self.context.now();
        let queue = std::mem::take(&mut self.leaving(dead).queue);
        // The next owner of a partition comes to the same end by itself, unless it comes to another one.
        let (queue, gone): (VecDeque<_>, VecDeque<_>) = queue
            .into_iter()
            .partition(|one| self.owned.get(&one.key).is_some_and(|owned| owned.session == one.session));
        gone.into_iter().for_each(|one| self.reply(one.asked, Status::Expired));
        let leaving = self.leaving(dead);
        leaving.queue = queue;
        if leaving.under_way || leaving.not_before.is_some_and(|at| at > now) {
            return;
        }
        let Some(first) = leaving.queue.front() else { return };
        // One append is to one topic.
        let tier = first.tier();
        let count = leaving.queue.iter().take(BATCH_MAX).take_while(|one| one.tier() == tier).count();
        let batch: Vec<_> = leaving.queue.drain(..count).collect();
        leaving.under_way = true;
        self.writes.push(write(self.context.clone(), dead, batch));
    }

    /// Notes what became of an append.
    pub(super) fn written(&mut self, written: Written) {
        let Written { dead, batch } = written;
        self.leaving(dead).under_way = false;
        let mut failed = None;
        let mut again = VecDeque::new();
        for (mut one, became) in batch {
            match became {
                Became::Kept => {
                    let id = if dead { one.origin(&self.context).id().into_bytes() } else { Bytes::new() };
                    self.left(one.kept(id));
                }
                Became::Fenced => {
                    let ticket = one.letter.ticket;
                    let status = self.gone(one.key, one.session, ticket, one.goes, Outcome::Fenced);
                    self.reply(one.asked, status);
                }
                Became::Failed(error) => {
                    self.reply(one.asked.take(), Status::Unavailable);
                    failed = Some((one.to(&self.context), error));
                    again.push_back(one);
                }
            }
        }
        let context = self.context.clone();
        let leaving = self.leaving(dead);
        match failed {
            None => (leaving.failures, leaving.not_before, leaving.trouble) = (0, None, None),
            Some((topic, error)) => {
                leaving.failures += 1;
                leaving.not_before = Some(context.now() + backoff(leaving.failures));
                if leaving.trouble.is_none() {
                    let name = &context.definition.name;
                    tracing::error!(subscription = %name, %topic, %error, "what could not be handled cannot be kept; it is tried again");
                    let code = if dead { "dead-letter-topic" } else { "retry-topic" };
                    let detail = format!("{topic} cannot be written: {}", error.detail());
                    leaving.trouble = Some(context.cause(code, detail));
                }
            }
        }
        again.append(&mut leaving.queue);
        leaving.queue = again;
    }
}

impl ToKeep {
    fn tier(&self) -> Option<Duration> {
        match self.goes {
            Goes::Dead => None,
            Goes::Waits { tier, .. } => Some(tier),
        }
    }
}

/// Takes the claims of a batch and appends it.
fn write(context: Arc<Context>, dead: bool, mut batch: Vec<ToKeep>) -> BoxFuture<'static, Written> {
    Box::pin(async move {
        let became = match fence(&context, &mut batch).await {
            Ok(fenced) => append(&context, &batch, &fenced).await,
            Err(error) => Err(error),
        };
        let became = became.unwrap_or_else(|error| {
            batch.iter().map(|_| Became::Failed(Error::new(error.code(), error.detail()))).collect()
        });
        Written { dead, batch: batch.into_iter().zip(became).collect() }
    })
}

/// Takes the claims of those that have one still at their last delivery. Answers for each whether somebody
/// else has it.
async fn fence(context: &Context, batch: &mut [ToKeep]) -> Result<Vec<bool>, Error> {
    let keep = context.definition.dedup.ttl.max(ATTEMPTS_KEPT);
    let mut requests = Vec::new();
    for one in &*batch {
        if let (Some(tag), Some(token)) = (one.letter.claim, one.fence) {
            let ground = Ground::Own { token: tag.token, counted: false };
            let (key, lease) = (tag.key, 2 * APPEND_WITHIN);
            requests.push(ClaimRequest { key, token, lease, keep, ground, note: Bytes::new() });
        }
    }
    let mut fenced = vec![false; batch.len()];
    if requests.is_empty() {
        return Ok(fenced);
    }
    let mut claims = context.ports.idempotency.claim(requests).await?.into_iter();
    for (one, fenced) in batch.iter_mut().zip(&mut fenced) {
        if let (Some(tag), Some(token)) = (&mut one.letter.claim, one.fence) {
            match claims.next() {
                Some(Claim::Acquired { .. }) => {
                    tag.token = token;
                    one.fence = None;
                }
                _ => *fenced = true,
            }
        }
    }
    Ok(fenced)
}

async fn append(context: &Context, batch: &[ToKeep], fenced: &[bool]) -> Result<Vec<Became>, Error> {
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    let topic = first.to(context);
    let meta = topic_for(context, &topic, &first.topic).await?;
    let records = batch
        .iter()
        .zip(fenced)
        .filter(|(_, fenced)| !**fenced)
        .map(|(one, _)| {
            let origin = one.origin(context);
            let record = match one.goes {
                Goes::Dead => dead_letter::record(&origin, &one.letter),
                Goes::Waits { until, .. } => retry_topic::record(&origin, &one.letter, until),
            };
            (dead_letter::partition_of(&record, &origin.id(), meta.partitions), record)
        })
        .collect();
    let request = AppendRequest { topic, records, timeout: APPEND_WITHIN };
    let mut outcomes = context.ports.log.append(request).await.outcomes.into_iter();
    // One that may have been appended is appended again: its id, or its claim, makes the two one.
    let became = |fenced: &bool| match fenced {
        true => Became::Fenced,
        false => match outcomes.next() {
            Some(Ok(_)) => Became::Kept,
            Some(Err(error)) => Became::Failed(error.into()),
            None => Became::Failed(Error::new(ErrorCode::Internal, "the log did not answer for a record")),
        },
    };
    Ok(fenced.iter().map(became).collect())
}

/// A topic of the subscription's own, made where it is not there: it keeps for ever, and takes what its source
/// takes and the headers beside it.
pub(super) async fn topic_for(
    context: &Context,
    topic: &TopicName,
    source: &TopicName,
) -> Result<Arc<TopicMeta>, Error> {
    if let Some(meta) = context.topics.meta_if_there(topic).await? {
        return Ok(meta);
    }
    context.topics.derive(topic, source, HEADROOM_BYTES).await?;
    let missing =
        || Error::new(ErrorCode::Unavailable, format!("topic `{topic}` was made and is not there yet"));
    context.topics.meta_if_there(topic).await?.ok_or_else(missing)
}
