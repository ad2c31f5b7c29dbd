//! Keeping dead letters: appended in batches, one batch under way at a time, tried until it works.
//!
//! Invariants:
//! - Before a dead letter is appended, its claim is taken from whoever had the delivery: an acknowledgement that
//!   comes later is not `ok`. What was acknowledged first is no dead letter.
//! - An event is done as a dead letter only after the append was acknowledged.
//! - A failing append never becomes a skip: it is tried again, and after [`PATIENCE`] failures in a row nothing
//!   is delivered until it works.

use super::{Context, PartitionKey, actor::Actor, backoff, claiming::ATTEMPTS_KEPT, deciding::Asked};
use crate::{
    dead_letter::{self, HEADROOM_BYTES, Origin},
    delivery::{ClaimTag, DeadLetter, Outcome, Status, Ticket},
    error::{Error, ErrorCode},
    subscriptions::Cause,
    topics::TopicMeta,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use ports::{AppendRequest, Claim, ClaimRequest, Ground, Monotonic, Token, TopicName};
use rand::RngExt;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use uuid::Uuid;

/// The most dead letters of one append.
const BATCH_MAX: usize = 500;
/// After so many failures in a row nothing is delivered.
const PATIENCE: u32 = 3;
/// How long an append may take.
const APPEND_WITHIN: Duration = Duration::from_secs(30);

/// A dead letter that is to be kept.
pub(super) struct ToKeep {
    key: PartitionKey,
    session: u32,
    topic: TopicName,
    log: u64,
    epoch: Uuid,
    letter: DeadLetter,
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
            partition: self.key.partition,
            offset: self.letter.record.offset,
            timestamp: self.letter.record.record.timestamp,
        }
    }

    fn kept(self, id: Bytes) -> Kept {
        let Self { key, session, letter, asked, .. } = self;
        Kept { key, session, ticket: letter.ticket, claim: letter.claim, id, asked }
    }
}

/// What an append came to, for each.
pub(super) struct Written {
    batch: Vec<(ToKeep, Became)>,
}

/// What became of a dead letter.
enum Became {
    Kept,
    /// Somebody else has, or had, its claim: it is no dead letter, or another's.
    Fenced,
    Failed(Error),
}

/// What is to be kept.
#[derive(Default)]
pub(super) struct DeadLetters {
    queue: VecDeque<ToKeep>,
    under_way: bool,
    failures: u32,
    not_before: Option<Monotonic>,
    pub(super) trouble: Option<Cause>,
}

impl DeadLetters {
    /// Whether they cannot be kept, so that nothing is to be delivered.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= PATIENCE
    }

    /// When there is something to do that nobody else wakes the task for.
    pub(super) fn timer(&self) -> Option<Monotonic> {
        self.not_before.filter(|_| !self.under_way && !self.queue.is_empty())
    }
}

impl Actor {
    pub(super) fn queue_dead_letter(
        &mut self,
        key: PartitionKey,
        session: u32,
        letter: DeadLetter,
        asked: Option<Asked>,
    ) {
        let Some(owned) = self.owned.get(&key) else { return };
        let (topic, log, epoch) = (owned.partition.topic.clone(), owned.log, owned.epoch.id);
        let definition = &self.context.definition;
        if !self.context.dead_letter.enabled {
            let last = &letter.failures.last;
            tracing::warn!(
                subscription = %definition.name, partition = %owned.partition, offset = letter.record.offset,
                attempts = letter.attempts, kind = last.kind,
                "an event could not be handled and is let go, as dead letters are off",
            );
            let to_keep = ToKeep { key, session, topic, log, epoch, letter, fence: None, asked };
            return self.dead_letter_kept(to_keep.kept(Bytes::new()));
        }
        let fence = letter.claim.map(|_| Token(self.rng.random()));
        let to_keep = ToKeep { key, session, topic, log, epoch, letter, fence, asked };
        self.dead_letters.queue.push_back(to_keep);
    }

    /// Begins to keep what waits for it.
    pub(super) fn keep_dead_letters_if_due(&mut self) {
        let now = self.context.now();
        // The next owner of a partition comes to the same end by itself, unless it comes to another one.
        let (queue, gone): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.dead_letters.queue)
            .into_iter()
            .partition(|one| self.owned.get(&one.key).is_some_and(|owned| owned.session == one.session));
        self.dead_letters.queue = queue;
        gone.into_iter().for_each(|one| self.reply(one.asked, Status::Expired));
        let dead_letters = &mut self.dead_letters;
        if dead_letters.under_way
            || dead_letters.queue.is_empty()
            || dead_letters.not_before.is_some_and(|at| at > now)
        {
            return;
        }
        let count = dead_letters.queue.len().min(BATCH_MAX);
        let batch: Vec<_> = dead_letters.queue.drain(..count).collect();
        dead_letters.under_way = true;
        self.writes.push(write(self.context.clone(), batch));
    }

    /// Notes what became of an append.
    pub(super) fn dead_letters_written(&mut self, written: Written) {
        self.dead_letters.under_way = false;
        let mut failed = None;
        let mut again = VecDeque::new();
        for (mut one, became) in written.batch {
            match became {
                Became::Kept => {
                    let id = one.origin(&self.context).id().into_bytes();
                    self.dead_letter_kept(one.kept(id));
                }
                Became::Fenced => {
                    let ticket = one.letter.ticket;
                    let status = self.dead_letter_done(one.key, one.session, ticket, Outcome::Fenced);
                    self.reply(one.asked, status);
                }
                Became::Failed(error) => {
                    self.reply(one.asked.take(), Status::Unavailable);
                    again.push_back(one);
                    failed = Some(error);
                }
            }
        }
        match failed {
            None => {
                (self.dead_letters.failures, self.dead_letters.not_before, self.dead_letters.trouble) =
                    (0, None, None)
            }
            Some(error) => {
                self.dead_letters.failures += 1;
                self.dead_letters.not_before = Some(self.context.now() + backoff(self.dead_letters.failures));
                if self.dead_letters.trouble.is_none() {
                    let definition = &self.context.definition;
                    tracing::error!(subscription = %definition.name, %error, "a dead letter cannot be kept; it is tried again");
                    let detail =
                        format!("{} cannot be written: {}", self.context.dead_letter.topic, error.detail());
                    self.dead_letters.trouble = Some(self.context.cause("dead-letter-topic", detail));
                }
            }
        }
        again.append(&mut self.dead_letters.queue);
        self.dead_letters.queue = again;
    }
}

/// Takes the claims of a batch and appends it.
fn write(context: Arc<Context>, mut batch: Vec<ToKeep>) -> BoxFuture<'static, Written> {
    Box::pin(async move {
        let became = match fence(&context, &mut batch).await {
            Ok(fenced) => append(&context, &batch, &fenced).await,
            Err(error) => Err(error),
        };
        let became = became.unwrap_or_else(|error| {
            batch.iter().map(|_| Became::Failed(Error::new(error.code(), error.detail()))).collect()
        });
        Written { batch: batch.into_iter().zip(became).collect() }
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
    let topic = &context.dead_letter.topic;
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    let meta = topic_for(context, topic, &first.topic).await?;
    let records = batch
        .iter()
        .zip(fenced)
        .filter(|(_, fenced)| !**fenced)
        .map(|(one, _)| {
            let origin = one.origin(context);
            let record = dead_letter::record(&origin, &one.letter);
            (dead_letter::partition_of(&record, &origin.id(), meta.partitions), record)
        })
        .collect();
    let request = AppendRequest { topic: topic.clone(), records, timeout: APPEND_WITHIN };
    let mut outcomes = context.ports.log.append(request).await.outcomes.into_iter();
    // One that may have been appended is appended again: its id makes the two one.
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

/// The topic of dead letters, made where it is not there: it keeps for ever, and takes what its source takes
/// and the headers beside it.
async fn topic_for(
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
