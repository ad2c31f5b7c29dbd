//! The engine of one subscription: a thin async shell around the delivery cores of the partitions that
//! are assigned to this replica.
//!
//! One task owns everything ([`actor`]); the fronts reach it by [`EngineHandle`]. It joins the group
//! ([`member`]), finds where each assigned partition begins ([`opening`]), keeps one read a partition under
//! way while its buffer has room ([`reading`]), hands out what is ready to the pulls that wait, and commits
//! ([`commits`]). All decisions about events are the core's.
//!
//! Invariants:
//! 1. A partition is read and delivered only between its `Assigned` and its `Revoked` or `Lost`; each such
//!    time is a session with its own number, and a lease of another session decides nothing.
//! 2. One commit is under way at a time, and commits of a session only grow.
//! 3. Revoked partitions are handed over only after their last commit was answered or its time was up.
//! 4. At most `maxInFlight` deliveries are out; buffers, waiting pulls and queued commands are bounded.

mod actor;
mod claim_place;
mod claiming;
mod commits;
mod deciding;
mod leaving;
mod member;
mod opening;
mod owned;
mod reading;
mod serving;
mod storm;
mod values;

use super::{
    Cause, Definition, DeliveryConfig, SubscriptionPorts,
    expressions::{ExpressionErrors, Expressions},
    policy::DeadLetterPolicy,
};
use crate::{
    delivery::{ClaimTag, Decision, Delivery, Lease, Now, Status},
    error::{Error, ErrorCode, Result},
    event_schemas::{EventSchemas, ShownValue},
    filter::FilterLimits,
    limits::Limits,
    topics::Topics,
};
use owned::Owned;
use ports::{Clock, JobStore, Monotonic, Offset, PartitionId, StoredRecord, TopicName};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// So many requests may wait for the engine.
const COMMANDS_MAX: usize = 1024;

/// A partition as `ackId`s name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PartitionKey {
    /// [`name_hash`] of the topic.
    pub(super) topic: u64,
    /// The partition.
    pub(super) partition: PartitionId,
}

/// The number that stands for a name in an `ackId`.
pub(super) fn name_hash(name: &str) -> u64 {
    hash(name.as_bytes(), &[])
}

/// The number that stands for a subscription in an `ackId`.
pub(super) fn uid_hash(uid: &Uuid) -> u64 {
    hash(uid.as_bytes(), &[])
}

/// The number that stands for a subscription and the log of a topic in a commit.
pub(super) fn log_hash(uid: &Uuid, topic_id: &str) -> u64 {
    hash(uid.as_bytes(), topic_id.as_bytes())
}

fn hash(one: &[u8], other: &[u8]) -> u64 {
    let digest = Sha256::new().chain_update(one).chain_update(other).finalize();
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// A delivery on its way to a client.
#[derive(Debug)]
pub(super) struct Handed {
    /// Its partition.
    pub(super) key: PartitionKey,
    /// Where it first lay, unless it came by a retry topic.
    pub(super) topic: TopicName,
    /// Its partition there.
    pub(super) first: PartitionId,
    /// Names the subscription and the log there.
    pub(super) log: u64,
    /// Names the epoch: in another one it is another delivery.
    pub(super) epoch: u32,
    /// The delivery. Its record says the offset there.
    pub(super) delivery: Delivery,
    /// Its value, as the subscription wants it.
    pub(super) value: ShownValue,
}

impl Handed {
    fn of(key: PartitionKey, owned: &Owned, mut delivery: Delivery, value: ShownValue) -> Self {
        match delivery.retried.take() {
            Some(of) => {
                let record = delivery.record.record.clone();
                delivery.record = Arc::new(StoredRecord { offset: of.offset, record });
                let epoch = fold(&of.epoch);
                Self {
                    key,
                    topic: of.topic.clone(),
                    first: of.partition,
                    log: of.log,
                    epoch,
                    delivery,
                    value,
                }
            }
            None => {
                let (topic, log) = (owned.partition.topic.clone(), owned.log);
                let epoch = fold(&owned.epoch.id);
                Self { key, topic, first: key.partition, log, epoch, delivery, value }
            }
        }
    }
}

/// A short name of an epoch.
fn fold(epoch: &Uuid) -> u32 {
    let (high, low) = epoch.as_u64_pair();
    let both = high ^ low;
    (both >> 32) as u32 ^ both as u32
}

/// A lease that goes back as if it had never been given.
type Returned = Vec<(PartitionKey, Lease)>;

/// What a pull is given. Dropped before it is accepted, it goes back.
#[derive(Debug)]
pub(super) struct Offer {
    handed: Vec<Handed>,
    back: mpsc::UnboundedSender<Returned>,
}

impl Offer {
    /// Takes what was offered.
    pub(super) fn accept(mut self) -> Vec<Handed> {
        std::mem::take(&mut self.handed)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.handed.is_empty() {
            let leases = self.handed.iter().map(|handed| (handed.key, handed.delivery.lease)).collect();
            // An engine that has ended has given back everything already.
            let _ = self.back.send(leases);
        }
    }
}

/// A decision on one lease.
#[derive(Debug)]
pub(super) struct Item {
    /// Its place in the request.
    pub(super) index: usize,
    /// The lease's partition.
    pub(super) key: PartitionKey,
    /// The lease.
    pub(super) lease: Lease,
    /// The claim that the delivery went out under, where it did.
    pub(super) claim: Option<ClaimTag>,
    /// What was decided.
    pub(super) decision: Decision,
}

/// How far one partition has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The partition.
    pub(super) partition: PartitionId,
    /// Everything before it is done.
    pub(super) done: Offset,
    /// The partition's end as last read.
    pub(super) end: Offset,
}

/// What an engine is doing.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Whether it is a member of its group.
    pub(super) joined: bool,
    /// Deliveries that are out.
    pub(super) in_flight: usize,
    /// Events that wait because they, or earlier ones of their key, are to be tried again.
    pub(super) held: usize,
    /// Events that the filter passed over.
    pub(super) filtered: u64,
    /// Those of them of which it could not tell.
    pub(super) filter_errors: ExpressionErrors,
    /// Events whose key could not be made.
    pub(super) dedup_key_errors: ExpressionErrors,
    /// Why the engine has paused by itself.
    pub(super) paused: Option<Cause>,
    /// It waits for what is out under an earlier definition.
    pub(super) changing: bool,
    /// What is wrong.
    pub(super) causes: Vec<Cause>,
    /// The partitions that it owns, by topic.
    pub(super) progress: BTreeMap<TopicName, Vec<Progress>>,
}

enum Command {
    Pull { max: usize, lanes_max: usize, bytes_max: usize, wait: bool, reply: oneshot::Sender<Offer> },
    Decide { items: Vec<Item>, reply: oneshot::Sender<Vec<(usize, Status)>> },
    Look { reply: oneshot::Sender<Snapshot> },
    Pause { cause: Option<Cause>, reply: oneshot::Sender<()> },
    Skip { key: PartitionKey, offset: Offset, reply: oneshot::Sender<bool> },
    Redefine { definition: Arc<Definition>, drain_until: Monotonic },
    Stop { drain_until: Option<Monotonic>, reply: oneshot::Sender<()> },
}

/// Reaches an engine. Dropping it ends the engine without waiting for what is out.
#[derive(Debug)]
pub(super) struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

impl EngineHandle {
    /// Asks for deliveries; see [`super::Subscriptions::pull`].
    pub(super) async fn pull(
        &self,
        max: usize,
        bytes_max: usize,
        wait: Duration,
        clock: &dyn Clock,
    ) -> Result<Offer> {
        self.pull_lanes(max, usize::MAX, bytes_max, wait, clock).await
    }

    /// Asks for deliveries that are of so many runs at most.
    pub(super) async fn pull_lanes(
        &self,
        max: usize,
        lanes_max: usize,
        bytes_max: usize,
        wait: Duration,
        clock: &dyn Clock,
    ) -> Result<Offer> {
        let deadline = clock.monotonic() + wait;
        let (reply, mut answer) = oneshot::channel();
        self.send(Command::Pull { max, lanes_max, bytes_max, wait: !wait.is_zero(), reply }).await?;
        if !wait.is_zero() {
            tokio::select! {
                biased;
                offer = &mut answer => return offer.map_err(|_| refused()),
                () = clock.sleep_until(deadline) => answer.close(),
            }
        }
        // An offer that was made in the moment of closing is there still.
        match answer.try_recv() {
            Ok(offer) => Ok(offer),
            Err(oneshot::error::TryRecvError::Closed) if !wait.is_zero() => Ok(nothing()),
            Err(_) => answer.await.map_err(|_| refused()),
        }
    }

    /// Applies decisions and gives the status of each with its index.
    pub(super) async fn decide(&self, items: Vec<Item>) -> Result<Vec<(usize, Status)>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Decide { items, reply }).await?;
        answer.await.map_err(|_| ended())
    }

    /// Applies decisions whose statuses nobody wants to know.
    pub(super) async fn tell(&self, items: Vec<Item>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.send(Command::Decide { items, reply: oneshot::channel().0 }).await
    }

    /// Whether the engine has ended.
    pub(super) fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// What the engine is doing.
    pub(super) async fn snapshot(&self) -> Result<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Look { reply }).await?;
        answer.await.map_err(|_| ended())
    }

    /// Delivers nothing more, for this reason, or delivers again. What is out may be decided.
    pub(super) async fn pause(&self, cause: Option<Cause>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Pause { cause, reply }).await?;
        answer.await.map_err(|_| ended())
    }

    /// Passes over one undecided event. Answers whether there was one.
    pub(super) async fn skip(&self, key: PartitionKey, offset: Offset) -> Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Skip { key, offset, reply }).await?;
        answer.await.map_err(|_| ended())
    }

    /// Goes on under another definition of the same subscription: nothing more is given out, what is out may be
    /// decided under the old one until `drain_until`, and then comes again under the new one.
    pub(super) async fn redefine(&self, definition: Arc<Definition>, drain_until: Monotonic) -> Result<()> {
        self.send(Command::Redefine { definition, drain_until }).await
    }

    /// Ends the engine: nothing more is given out, what is out may be decided until `drain_until`, then
    /// progress is committed and the group is left. Ends at once where it has ended already.
    pub(super) async fn stop(&self, drain_until: Option<Monotonic>) {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Stop { drain_until, reply }).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| ended())
    }
}

/// An offer of nothing.
fn nothing() -> Offer {
    Offer { handed: Vec::new(), back: mpsc::unbounded_channel().0 }
}

fn ended() -> Error {
    Error::new(ErrorCode::Unavailable, "the subscription has just been deleted, or the service stops")
}

fn refused() -> Error {
    Error::new(ErrorCode::Unavailable, "too many pulls wait at this subscription, or it is ending")
}

/// Starts the engine of a subscription.
pub(super) fn spawn(
    definition: Arc<Definition>,
    ports: SubscriptionPorts,
    topics: Arc<Topics>,
    config: Arc<DeliveryConfig>,
    limits: &Limits,
    schemas: Option<Arc<EventSchemas>>,
    on_storm: OnStorm,
) -> EngineHandle {
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let context =
        Context::new(definition, ports, topics, config, limits.expressions.clone(), schemas, on_storm);
    let actor = actor::Actor::new(Arc::new(context), inbox, limits.pull_waiters_max);
    tokio::spawn(actor.run());
    EngineHandle { commands }
}

/// Told when an engine has paused because nearly everything became a dead letter.
pub(super) type OnStorm = Arc<dyn Fn(Cause) + Send + Sync>;

/// What all parts of an engine need.
struct Context {
    definition: Arc<Definition>,
    dead_letter: DeadLetterPolicy,
    expressions: Expressions,
    /// Why the expressions that were kept do not compile any more. Nothing is read then: what they would
    /// have passed over must not be delivered, nor the rest be passed over.
    invalid: Option<Cause>,
    /// The delays of its retry topics, the shortest first; none where retries wait in place.
    tiers: Vec<Duration>,
    /// Its retry topics, those too that are to be emptied.
    retry_topics: Vec<TopicName>,
    ports: SubscriptionPorts,
    topics: Arc<Topics>,
    config: Arc<DeliveryConfig>,
    /// The bounds of expressions.
    limits: FilterLimits,
    /// What values follow, where there is a registry.
    schemas: Option<Arc<EventSchemas>>,
    on_storm: OnStorm,
}

impl Context {
    fn new(
        definition: Arc<Definition>,
        ports: SubscriptionPorts,
        topics: Arc<Topics>,
        config: Arc<DeliveryConfig>,
        limits: FilterLimits,
        schemas: Option<Arc<EventSchemas>>,
        on_storm: OnStorm,
    ) -> Self {
        let (expressions, invalid) = match Expressions::compile(&definition, &limits) {
            Ok(expressions) => (expressions, None),
            Err(error) => {
                let detail = format!(
                    "{}; nothing is read until the service's limits allow it, or the subscription is replaced",
                    error.detail()
                );
                tracing::error!(subscription = %definition.name, detail, "an expression cannot be compiled");
                let since = ports.clock.wall();
                (Expressions::default(), Some(Cause { code: "expression-invalid", since, detail }))
            }
        };
        let dead_letter = definition.dead_letter_policy();
        let (tiers, retry_topics) = (definition.retry.tiers(), definition.retry_topics());
        Self {
            definition,
            dead_letter,
            expressions,
            invalid,
            tiers,
            retry_topics,
            ports,
            topics,
            config,
            limits,
            schemas,
            on_storm,
        }
    }

    /// The same under another definition.
    fn with(&self, definition: Arc<Definition>) -> Self {
        let Self { ports, topics, config, limits, schemas, on_storm, .. } = self;
        let (ports, topics, config) = (ports.clone(), topics.clone(), config.clone());
        let (limits, schemas) = (limits.clone(), schemas.clone());
        Self::new(definition, ports, topics, config, limits, schemas, on_storm.clone())
    }

    fn now(&self) -> Monotonic {
        self.ports.clock.monotonic()
    }

    fn jobs(&self) -> &dyn JobStore {
        &*self.ports.jobs
    }

    /// Now, on both clocks.
    fn both(&self) -> Now {
        Now { steady: self.ports.clock.monotonic(), wall: self.ports.clock.wall() }
    }

    async fn sleep(&self, duration: Duration) {
        if !duration.is_zero() {
            self.ports.clock.sleep_until(self.now() + duration).await;
        }
    }

    fn cause(&self, code: &'static str, detail: impl Into<String>) -> Cause {
        Cause { code, since: self.ports.clock.wall(), detail: detail.into() }
    }
}

/// How long to wait before trying a failed call for the `failures`th time again.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(6)).min(Duration::from_secs(5))
}
