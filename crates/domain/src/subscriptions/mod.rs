//! Subscriptions: durable named definitions, each read by one engine at this replica.
//!
//! [`Subscriptions`] is what the fronts call. It keeps the definitions by compare-and-set and hands the
//! data plane (pull, acknowledge) to the [`engine`] of the subscription, which owns the membership, the
//! readers and the delivery cores of the partitions that are assigned to it.
//!
//! Invariants:
//! 1. A definition is kept before its engine begins, and goes last when it is deleted: a crash between
//!    leaves a subscription that can be deleted again, never a group without one.
//! 2. A pull whose future is dropped gives back what it would have given, with no attempt counted.
//! 3. An `ackId` is believed only when its signature is this service's and it names this subscription.

pub mod circuit;
mod counts;
mod definition;
mod dispatch;
mod engine;
mod expressions;
mod mirror;
pub mod policy;
mod replacing;
mod store;

pub use counts::HandlerCounts;
pub(crate) use definition::one_of;
pub use dispatch::HandlerOptions;
pub use expressions::{ExpressionError, ExpressionErrors};
pub(crate) use replacing::Queue;

pub use definition::{
    Cause, Definition, DeliveryMode, NewSubscription, Paused, Payload, StartSpec, State, SubscriptionView,
    parse_duration, show_duration,
};

use crate::{
    delivery::{
        Decision, Status,
        ack_id::{AckIds, AckTarget},
    },
    digits::{push_decimal, push_hex},
    error::{Error, ErrorCode, Result, invalid_name},
    event_schemas::{EventSchemas, ShownValue},
    limits::Limits,
    push,
    topics::Topics,
};
use bytestring::ByteString;
use circuit::CircuitConfig;
use counts::Counts;
use definition::Place;
use dispatch::{Dispatcher, Plan};
use engine::{EngineHandle, Item, PartitionKey, Snapshot};
use futures::{
    StreamExt,
    future::{self, join_all},
    stream::FuturesUnordered,
};
use parking_lot::RwLock;
use policy::{PolicyDefaults, PushFormat};
use ports::{
    Clock, EventHandler, EventLog, Failure, GroupId, GroupMembership, IdempotencyStore, JobStore, Monotonic,
    Offset, OffsetStore, PartitionId, Position, StoredRecord, Timestamp, TopicName, TopicPartition, Webhooks,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// How many events a pull gives where a client does not say.
const PULL_MAX_DEFAULT: usize = 100;
/// How long creating a subscription waits for its engine to join the group.
const JOIN_PATIENCE: Duration = Duration::from_secs(1);
/// How much longer a call of a webhook may take than its request, so that its answer can be read.
const PUSH_MARGIN: Duration = Duration::from_secs(1);
/// The most bytes of a reason.
const REASON_BYTES_MAX: usize = 4 << 10;
/// The longest that a delivery's time can be extended by at once.
const EXTEND_MAX: Duration = Duration::from_secs(12 * 3600);

/// The backends that subscriptions need.
#[derive(Clone, Debug)]
pub struct SubscriptionPorts {
    /// The log that they read.
    pub log: Arc<dyn EventLog>,
    /// Who reads which partition.
    pub membership: Arc<dyn GroupMembership>,
    /// How far they have come.
    pub offsets: Arc<dyn OffsetStore>,
    /// Their definitions.
    pub jobs: Arc<dyn JobStore>,
    /// What was done already.
    pub idempotency: Arc<dyn IdempotencyStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How delivery works inside.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryConfig {
    /// What a subscription does where nobody says.
    pub defaults: PolicyDefaults,
    /// What this replica is called among a group's members.
    pub member: String,
    /// The longest that progress waits for its commit.
    pub commit_interval: Duration,
    /// So many decisions are committed without waiting for the interval.
    pub commit_events_max: usize,
    /// The most events that a partition's buffer holds; at least twice `maxInFlight` is taken.
    pub buffer_events_max: usize,
    /// The most events of a partition that wait because they, or earlier ones of their key, are to be tried
    /// again. Others are read on until then.
    pub held_events_max: usize,
    /// The most bytes that the buffers of a subscription's partitions hold together; each has at least
    /// 1 MiB.
    pub buffer_bytes_max: usize,
    /// The most bytes of a commit's metadata: Kafka's `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// How often positions are mirrored to the state store at most.
    pub mirror_interval: Duration,
    /// Whether other replicas change definitions too, which are then read again every second.
    pub shared: bool,
    /// How long one read waits for events.
    pub read_wait: Duration,
    /// What is left to chance is drawn from this, so that a run can be played again; `None` draws from the
    /// system.
    pub seed: Option<u64>,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            defaults: PolicyDefaults::default(),
            member: "event-streaming".into(),
            commit_interval: Duration::from_millis(100),
            commit_events_max: 10_000,
            buffer_events_max: 2_000,
            held_events_max: 10_000,
            buffer_bytes_max: 16 << 20,
            metadata_bytes_max: crate::delivery::commit_map::BYTES_MAX,
            mirror_interval: Duration::from_secs(60),
            shared: false,
            read_wait: Duration::from_secs(5),
            seed: None,
        }
    }
}

/// What one pull gave.
#[derive(Debug)]
pub struct Pulled {
    /// The subscription.
    pub definition: Arc<Definition>,
    /// The deliveries; events of one partition stand in their order.
    pub deliveries: Vec<PulledDelivery>,
}

/// One delivery, out at a client until it is decided or its time is up.
#[derive(Debug)]
pub struct PulledDelivery {
    /// What decides it.
    pub ack_id: String,
    /// Which delivery of this event it is, from 1.
    pub attempt: u32,
    /// When it lapses.
    pub deadline: Timestamp,
    /// Deliveries that share a run are to be handled one after another.
    pub run: ByteString,
    /// The event's topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// The record.
    pub record: Arc<StoredRecord>,
    /// Its value, where that was read by a schema; never an undecodable one.
    pub value: ShownValue,
}

/// Decisions on deliveries, by `ackId`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckRequest {
    /// Done.
    pub ack: Vec<String>,
    /// To come again.
    pub retry: Vec<RetryItem>,
    /// Never to come again: they go to the dead letters.
    pub reject: Vec<RejectItem>,
    /// Given more time, from now.
    pub extend: Vec<(String, Duration)>,
    /// Given back untouched; no attempt is counted.
    pub release: Vec<String>,
}

/// One delivery that is to come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryItem {
    /// Which.
    pub ack_id: String,
    /// Not before; `None` leaves it to the subscription.
    pub after: Option<Duration>,
    /// Why.
    pub reason: Option<String>,
}

/// One delivery that is never to come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RejectItem {
    /// Which.
    pub ack_id: String,
    /// Why.
    pub reason: Option<String>,
}

/// One event that is to be passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i64,
    /// Its offset.
    pub offset: i64,
    /// Why, for the log.
    pub reason: String,
}

#[derive(Debug)]
struct Entry {
    definition: Arc<Definition>,
    engine: Arc<EngineHandle>,
    /// Gives deliveries to a handler of this process, where it has one.
    dispatcher: Option<Arc<Dispatcher>>,
}

impl Entry {
    /// The same engine under a definition of which it has been told.
    fn with(&self, definition: Arc<Definition>) -> Arc<Self> {
        let dispatcher = self.dispatcher.clone();
        Arc::new(Self { definition, engine: self.engine.clone(), dispatcher })
    }

    /// Takes nothing more, lets what is out be decided until `drain_until`, and ends.
    async fn stop(&self, drain_until: Option<Monotonic>) {
        let Some(dispatcher) = &self.dispatcher else { return self.engine.stop(drain_until).await };
        if drain_until.is_none() {
            // The engine would not wait for what is cut off.
            dispatcher.stop(None).await;
            return self.engine.stop(None).await;
        }
        future::join(dispatcher.stop(drain_until), self.engine.stop(drain_until)).await;
    }
}

/// A handler of this process, how it is called, and what it has answered.
type Linked = (Arc<dyn EventHandler>, HandlerOptions, Arc<Counts>);

/// The subscriptions of this replica.
#[derive(Debug)]
pub struct Subscriptions {
    ports: SubscriptionPorts,
    topics: Arc<Topics>,
    limits: Arc<Limits>,
    config: Arc<DeliveryConfig>,
    entries: RwLock<BTreeMap<GroupId, Arc<Entry>>>,
    /// Handlers that are linked in, by subscription.
    handlers: RwLock<BTreeMap<GroupId, Linked>>,
    /// Who makes the requests of those that push.
    webhooks: Option<Arc<dyn Webhooks>>,
    /// What values follow, where there is a registry.
    schemas: Option<Arc<EventSchemas>>,
    this: Weak<Self>,
    ack_ids: OnceLock<AckIds>,
    /// Creating and deleting happen one after another.
    changing: tokio::sync::Mutex<()>,
    /// Nothing begins any more.
    stopped: AtomicBool,
}

impl Subscriptions {
    /// No subscriptions yet: [`Subscriptions::start`] loads them. None of them can push.
    pub fn new(
        ports: SubscriptionPorts,
        topics: Arc<Topics>,
        limits: Arc<Limits>,
        config: DeliveryConfig,
    ) -> Arc<Self> {
        Self::with_webhooks(ports, topics, limits, config, None)
    }

    /// As [`Self::new`]; those that push do so by `webhooks`.
    pub fn with_webhooks(
        ports: SubscriptionPorts,
        topics: Arc<Topics>,
        limits: Arc<Limits>,
        config: DeliveryConfig,
        webhooks: Option<Arc<dyn Webhooks>>,
    ) -> Arc<Self> {
        Self::with_schemas(ports, topics, limits, config, webhooks, None)
    }

    /// As [`Self::with_webhooks`]; values are read by what `schemas` knows of their topics.
    pub fn with_schemas(
        ports: SubscriptionPorts,
        topics: Arc<Topics>,
        limits: Arc<Limits>,
        config: DeliveryConfig,
        webhooks: Option<Arc<dyn Webhooks>>,
        schemas: Option<Arc<EventSchemas>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            handlers: RwLock::default(),
            webhooks,
            schemas,
            ports,
            topics,
            limits,
            config: Arc::new(config),
            entries: RwLock::default(),
            ack_ids: OnceLock::new(),
            changing: tokio::sync::Mutex::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// Loads the key of `ackId`s and the definitions, and starts an engine for each. Does not wait for the
    /// log: an engine joins its group when that is there.
    pub async fn start(&self) -> Result<()> {
        let _changing = self.changing.lock().await;
        let key = store::ack_key(&*self.ports.jobs).await?;
        let _ = self.ack_ids.set(AckIds::new(key));
        for definition in store::load(&*self.ports.jobs).await? {
            let name = definition.name.clone();
            let entry = self.enter(Arc::new(definition));
            self.entries.write().entry(name).or_insert(entry);
        }
        Self::watch(self.this.clone());
        Ok(())
    }

    /// Creates a subscription. What `start` means is fixed by the time this returns.
    ///
    /// # Errors
    /// `invalid_request` and `not_supported` by field, `topic_not_found`, `already_exists`, and `conflict`
    /// where a consumer group of that name belongs to somebody else.
    pub async fn create(&self, new: NewSubscription) -> Result<SubscriptionView> {
        let mut definition =
            definition::decide(&new, &self.limits, &self.config.defaults, self.ports.clock.wall())?;
        self.check_target(&definition)?;
        let _changing = self.changing.lock().await;
        let exists = || {
            let detail = format!("subscription `{}` exists already", definition.name);
            Error::new(ErrorCode::AlreadyExists, detail)
        };
        {
            let entries = self.entries.read();
            if entries.contains_key(&definition.name) {
                return Err(exists());
            }
            if entries.len() >= self.limits.subscriptions_max {
                let most = self.limits.subscriptions_max;
                return Err(Error::new(
                    ErrorCode::Conflict,
                    format!(
                        "there are {most} subscriptions already, as many as `limits.subscriptions-max` allows"
                    ),
                ));
            }
        }
        let partitions = self.partitions_of(&definition.topics).await?;
        let places = self.places(&definition.start, &partitions).await?;
        let epoch = definition.first_epoch();
        definition.places = places.into_iter().map(|(at, offset)| (at, Place { offset, epoch })).collect();
        self.take_over_group(&definition, &partitions, new.adopt_group).await?;
        if !store::put(&*self.ports.jobs, &definition).await? {
            return Err(exists());
        }
        let entry = self.enter(Arc::new(definition));
        self.entries.write().insert(entry.definition.name.clone(), entry.clone());
        Ok(self.settled(&entry).await)
    }

    /// Whether this program may push to where a definition says.
    fn check_target(&self, definition: &Definition) -> Result<()> {
        let DeliveryMode::Push(target) = &definition.mode else { return Ok(()) };
        let webhooks = self.webhooks.as_deref().ok_or_else(|| {
            let message = "`push` is not possible here: this program makes no requests to webhooks";
            Error::not_built("delivery.mode").with_field("delivery.mode", message)
        })?;
        push::validate_target(target, webhooks)
    }

    /// One subscription as it is now.
    pub async fn get(&self, name: &str) -> Result<SubscriptionView> {
        let entry = self.entry(name)?;
        Ok(self.view(&entry).await)
    }

    /// Whether there is a subscription of that name, as far as this replica knows.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.read().contains_key(name)
    }

    /// All subscriptions, by name.
    pub async fn list(&self) -> Result<Vec<SubscriptionView>> {
        let entries: Vec<_> = self.entries.read().values().cloned().collect();
        Ok(join_all(entries.iter().map(|entry| self.view(entry))).await)
    }

    /// Deletes a subscription and its offsets. What is out at clients can no longer be acknowledged.
    ///
    /// # Errors
    /// Where a backend fails the subscription is still there, and goes on.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let _changing = self.changing.lock().await;
        let entry = self.entry(name)?;
        self.entries.write().remove(&entry.definition.name);
        entry.stop(None).await;
        let removed = self.remove_kept(&entry.definition).await;
        if removed.is_err() {
            let entry = self.enter(entry.definition.clone());
            self.entries.write().insert(entry.definition.name.clone(), entry);
        }
        removed
    }

    /// What is ready to be delivered, at most `max` events; waits for the first one for up to `wait`.
    ///
    /// # Errors
    /// `subscription_not_found`, `invalid_request` by field, `unavailable` where too many pulls wait,
    /// `conflict` where the subscription pushes.
    ///
    /// # Cancellation
    /// Dropping the future gives back what it would have been given, with no attempt counted.
    pub async fn pull(&self, name: &str, max: Option<i64>, wait: Option<Duration>) -> Result<Pulled> {
        let entry = self.entry(name)?;
        if let DeliveryMode::Push(_) = entry.definition.mode {
            let detail = format!(
                "`{name}` pushes its events to its webhook; only a subscription whose `delivery.mode` is `pull` or `stream` can be asked for them"
            );
            return Err(Error::new(ErrorCode::Conflict, detail));
        }
        let max = match max {
            None => PULL_MAX_DEFAULT,
            Some(given) if given < 1 => {
                return Err(Error::invalid("max", format!("must be at least 1 (given: {given})")));
            }
            Some(given) => usize::try_from(given).unwrap_or(usize::MAX),
        };
        let max = max.min(self.limits.pull_events_max);
        let wait = wait.unwrap_or_default().min(self.limits.pull_wait_max);
        let ids = self.ack_ids()?;
        let clock = &*self.ports.clock;
        let offer = entry.engine.pull(max, self.limits.response_bytes_max, wait, clock).await?;
        let (now, wall) = (clock.monotonic(), clock.wall());
        let subscription = engine::uid_hash(&entry.definition.uid);
        let mut run_of = RunNames::default();
        let deliveries = offer
            .accept()
            .into_iter()
            .map(|handed| {
                let engine::Handed { key, topic, first, delivery, value, .. } = handed;
                let target = AckTarget {
                    subscription_uid: subscription,
                    topic: key.topic,
                    partition: key.partition,
                    lease: delivery.lease,
                    claim: delivery.claim,
                };
                let left = delivery.deadline.since(now).as_millis() as i64;
                PulledDelivery {
                    ack_id: ids.encode(&target),
                    attempt: delivery.attempt,
                    deadline: Timestamp(wall.0.saturating_add(left)),
                    run: run_of.name(key, delivery.lease.id.session, delivery.run),
                    topic,
                    partition: first,
                    record: delivery.record,
                    value,
                }
            })
            .collect();
        Ok(Pulled { definition: entry.definition.clone(), deliveries })
    }

    /// Applies decisions and answers each, in the order `ack`, `retry`, `reject`, `extend`, `release`.
    ///
    /// # Errors
    /// `subscription_not_found`, and `invalid_request` where a field is at fault: nothing is applied then.
    ///
    /// # Cancellation
    /// Dropping the future leaves open which of the decisions are applied; saying them again is right.
    pub async fn acknowledge(&self, name: &str, request: AckRequest) -> Result<Vec<(String, Status)>> {
        let entry = self.entry(name)?;
        let count = request.ack.len()
            + request.retry.len()
            + request.reject.len()
            + request.extend.len()
            + request.release.len();
        if count > self.limits.batch_events_max {
            let most = self.limits.batch_events_max;
            return Err(Error::invalid(
                "ack",
                format!("and the other lists hold at most {most} ids together"),
            ));
        }
        let reasons = (request.retry.iter().map(|item| ("retry", &item.reason)).enumerate())
            .chain(request.reject.iter().map(|item| ("reject", &item.reason)).enumerate());
        for (index, (list, reason)) in reasons {
            if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
                let field = format!("{list}[{index}].reason");
                return Err(Error::invalid(field, format!("must have at most {REASON_BYTES_MAX} bytes")));
            }
        }
        for (index, (_, by)) in request.extend.iter().enumerate() {
            if by.is_zero() || *by > EXTEND_MAX {
                let most = show_duration(EXTEND_MAX);
                let field = format!("extend[{index}].by");
                return Err(Error::invalid(field, format!("must be more than 0s and at most {most}")));
            }
        }
        let decisions = (request.ack.into_iter().map(|id| (id, Decision::Ack)))
            .chain(request.retry.into_iter().map(|item| {
                let failure = failure("retry", "the client asked for it to come again", item.reason);
                (item.ack_id, Decision::Retry { after: item.after, failure })
            }))
            .chain(request.reject.into_iter().map(|item| {
                let failure = failure("rejected", "the client rejected it", item.reason);
                (item.ack_id, Decision::Reject { failure })
            }))
            .chain(request.extend.into_iter().map(|(id, by)| (id, Decision::Extend(by))))
            .chain(request.release.into_iter().map(|id| (id, Decision::Release { after: Duration::ZERO })));
        let ids = self.ack_ids()?;
        let subscription = engine::uid_hash(&entry.definition.uid);
        let mut results = Vec::with_capacity(count);
        let mut items = Vec::with_capacity(count);
        for (index, (id, decision)) in decisions.enumerate() {
            if let Some(target) = ids.decode(&id).filter(|target| target.subscription_uid == subscription) {
                let key = PartitionKey { topic: target.topic, partition: target.partition };
                items.push(Item { index, key, lease: target.lease, claim: target.claim, decision });
            }
            results.push((id, Status::Unknown));
        }
        for (index, status) in entry.engine.decide(items).await? {
            results[index].1 = status;
        }
        Ok(results)
    }

    /// Delivers nothing more until [`Self::resume`]. What is out may be decided.
    pub async fn pause(&self, name: &str) -> Result<SubscriptionView> {
        let since_ms = self.ports.clock.wall().0;
        let detail = "it was paused; resume it to go on".to_owned();
        self.set_paused(name, Some(Paused { code: "operator".to_owned(), since_ms, detail })).await
    }

    /// Delivers again, whoever paused it.
    pub async fn resume(&self, name: &str) -> Result<SubscriptionView> {
        self.set_paused(name, None).await
    }

    /// Passes over one undecided event, for good; what is out of it decides nothing any more. Leaves a line
    /// in the log that says who was passed over and why.
    ///
    /// # Errors
    /// `invalid_request` by field; `conflict` where the event is not undecided here: it is done, or not read
    /// yet, or another replica owns its partition.
    pub async fn skip(&self, name: &str, skip: Skip) -> Result<()> {
        let entry = self.entry(name)?;
        let topic = crate::topics::topic_name("topic", &skip.topic)?;
        if !entry.definition.topics.contains(&topic) && !entry.definition.retry_topics().contains(&topic) {
            return Err(Error::invalid(
                "topic",
                format!("`{topic}` is not one of the subscription's topics"),
            ));
        }
        let partition = PartitionId::try_from(skip.partition).map_err(|_| {
            Error::invalid("partition", format!("must be a partition's number (given: {})", skip.partition))
        })?;
        let offset = Offset::try_from(skip.offset).map_err(|_| {
            Error::invalid("offset", format!("must not be negative (given: {})", skip.offset))
        })?;
        if skip.reason.trim().is_empty() || skip.reason.len() > REASON_BYTES_MAX {
            return Err(Error::invalid(
                "reason",
                format!("must say why, in at most {REASON_BYTES_MAX} bytes"),
            ));
        }
        let key = PartitionKey { topic: engine::name_hash(topic.as_str()), partition };
        if !entry.engine.skip(key, offset).await? {
            let detail = format!(
                "offset {offset} of {topic}-{partition} is not undecided here: it is done, not read yet, or another replica's"
            );
            return Err(
                Error::new(ErrorCode::Conflict, detail).with_field("offset", "names no undecided event")
            );
        }
        tracing::warn!(subscription = name, %topic, partition, offset, reason = skip.reason, "an event was passed over on somebody's word");
        Ok(())
    }

    /// Gives the events of a subscription to a handler of this process, from now on and also when the
    /// subscription is made later; clients may pull beside it. Retries, deduplication, dead letters and the
    /// circuit are the subscription's.
    ///
    /// # Errors
    /// `invalid_request` for a name that no subscription can have; `conflict` where the subscription pushes: its
    /// events are its webhook's, also where it is made later.
    pub async fn handle(
        &self,
        name: &str,
        handler: Arc<dyn EventHandler>,
        options: HandlerOptions,
    ) -> Result<()> {
        let name = GroupId::new(name).map_err(|error| invalid_name("name", name, &error))?;
        let _changing = self.changing.lock().await;
        let entry = self.entries.read().get(&name).cloned();
        if entry.as_ref().is_some_and(|entry| matches!(entry.definition.mode, DeliveryMode::Push(_))) {
            let detail = format!("`{name}` pushes its events to its webhook, and takes no other handler");
            return Err(Error::new(ErrorCode::Conflict, detail));
        }
        self.handlers.write().insert(name.clone(), (handler, options, Arc::default()));
        match entry {
            // A handler that is there already may be at work, and is ended in order.
            Some(entry) if entry.dispatcher.is_some() => {
                entry.stop(None).await;
                let entry = self.enter(entry.definition.clone());
                self.entries.write().insert(name, entry);
            }
            // The engine goes on: leaving its group and joining again would take seconds.
            Some(entry) => {
                let (definition, engine) = (entry.definition.clone(), entry.engine.clone());
                let dispatcher = self.dispatcher(&definition, &engine);
                self.entries.write().insert(name, Arc::new(Entry { definition, engine, dispatcher }));
            }
            None => {}
        }
        Ok(())
    }

    /// What the handler of this process has answered for a subscription; `None` where it has none.
    pub fn handler_counts(&self, name: &str) -> Option<HandlerCounts> {
        self.handlers.read().get(name).map(|(_, _, counts)| counts.now())
    }

    /// Pauses a subscription by the service's own decision, and keeps that.
    async fn pause_for(&self, name: &GroupId, code: &str, detail: String) -> Result<()> {
        let since_ms = self.ports.clock.wall().0;
        self.set_paused(name.as_str(), Some(Paused { code: code.to_owned(), since_ms, detail })).await?;
        Ok(())
    }

    /// Keeps that a subscription is paused, or is not any more, and tells its engine. What is out stays out.
    async fn set_paused(&self, name: &str, paused: Option<Paused>) -> Result<SubscriptionView> {
        let _changing = self.changing.lock().await;
        let entry = self.entry(name)?;
        let jobs = &*self.ports.jobs;
        let (definition, _) =
            store::change(jobs, &entry.definition, |definition| definition.paused.clone_from(&paused))
                .await?;
        entry.engine.pause(definition.paused.as_ref().map(Cause::of)).await?;
        let changed = entry.with(Arc::new(definition));
        self.entries.write().insert(changed.definition.name.clone(), changed.clone());
        Ok(self.view(&changed).await)
    }

    /// Stops delivering: waiting pulls are answered, what is out may be decided until `deadline`, progress
    /// is committed, and the groups are left.
    pub async fn shutdown(&self, deadline: Monotonic) {
        let _changing = self.changing.lock().await;
        self.stopped.store(true, Relaxed);
        let entries: Vec<_> = self.entries.read().values().cloned().collect();
        let mut stopping: FuturesUnordered<_> =
            entries.iter().map(|entry| entry.stop(Some(deadline))).collect();
        while stopping.next().await.is_some() {}
    }

    /// How many subscriptions there are.
    pub fn count(&self) -> usize {
        self.entries.read().len()
    }

    fn ack_ids(&self) -> Result<&AckIds> {
        self.ack_ids.get().ok_or_else(|| Error::new(ErrorCode::Unavailable, "the service is starting"))
    }

    /// A subscription's definition, as this replica knows it.
    ///
    /// # Errors
    /// `subscription_not_found`.
    pub fn definition(&self, name: &str) -> Result<Arc<Definition>> {
        Ok(self.entry(name)?.definition.clone())
    }

    fn entry(&self, name: &str) -> Result<Arc<Entry>> {
        if let Some(entry) = self.entries.read().get(name) {
            return Ok(entry.clone());
        }
        let name = GroupId::new(name).map_err(|error| invalid_name("name", name, &error))?;
        Err(Error::new(ErrorCode::SubscriptionNotFound, format!("there is no subscription `{name}`")))
    }

    fn enter(&self, definition: Arc<Definition>) -> Arc<Entry> {
        let on_storm = self.on_pause(&definition, "dead-letter-storm");
        let engine = Arc::new(engine::spawn(
            definition.clone(),
            self.ports.clone(),
            self.topics.clone(),
            self.config.clone(),
            &self.limits,
            self.schemas.clone(),
            Arc::new(move |cause| on_storm(cause.detail)),
        ));
        let dispatcher = self.dispatcher(&definition, &engine);
        Arc::new(Entry { definition, engine, dispatcher })
    }

    /// What gives an engine's deliveries to the handler that this process has for them, if it has one.
    fn dispatcher(&self, definition: &Definition, engine: &Arc<EngineHandle>) -> Option<Arc<Dispatcher>> {
        let (handler, options, counts) = self.handler_of(definition)?;
        let on_gone = self.on_pause(definition, "handler-gone");
        let on_gone = Box::new(move |failure: Failure| on_gone(failure.message));
        let clock = self.ports.clock.clone();
        let (together, after_max) = (definition.together(), definition.retry.max_delay);
        let plan = Plan { options, counts, together, after_max };
        Some(Arc::new(Dispatcher::spawn(engine.clone(), handler, plan, clock, on_gone)))
    }

    /// Pauses a subscription by the service's own decision, and keeps that.
    fn on_pause(&self, definition: &Definition, code: &'static str) -> impl Fn(String) + Send + Sync + use<> {
        let (this, name) = (self.this.clone(), definition.name.clone());
        move |detail: String| {
            let (this, name) = (this.clone(), name.clone());
            tokio::spawn(async move {
                let Some(this) = this.upgrade() else { return };
                if let Err(error) = this.pause_for(&name, code, detail).await {
                    tracing::error!(subscription = %name, %error, "a pause cannot be kept: it ends with this process");
                }
            });
        }
    }

    /// Who handles a subscription's events in this process.
    fn handler_of(&self, definition: &Definition) -> Option<Linked> {
        let DeliveryMode::Push(target) = &definition.mode else {
            return self.handlers.read().get(&definition.name).cloned();
        };
        let (name, webhooks) = (definition.name.clone(), self.webhooks.clone()?);
        let options = HandlerOptions {
            concurrency: target.concurrency as usize,
            // It is the request that times out, and says so.
            timeout: target.timeout + PUSH_MARGIN,
            whole_runs: target.format == PushFormat::Batch,
            circuit: CircuitConfig::default(),
        };
        let clock = self.ports.clock.clone();
        match push::handler(name, target.clone(), definition.payload, webhooks, clock) {
            Ok(handler) => Some((handler, options, Arc::default())),
            Err(error) => {
                tracing::error!(subscription = %definition.name, %error, "a stored target cannot be pushed to");
                None
            }
        }
    }

    /// How many partitions each of a subscription's topics has.
    async fn partitions_of(&self, topics: &[TopicName]) -> Result<BTreeMap<TopicName, u32>> {
        let mut partitions = BTreeMap::new();
        for (index, topic) in topics.iter().enumerate() {
            let Some(meta) = self.topics.meta(topic).await? else {
                return Err(
                    Error::topic_not_found(topic).with_field(format!("topics[{index}]"), "does not exist")
                );
            };
            partitions.insert(topic.clone(), meta.partitions);
        }
        Ok(partitions)
    }

    /// Where partitions begin that do not begin at their first event.
    async fn places(
        &self,
        start: &StartSpec,
        partitions: &BTreeMap<TopicName, u32>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let position = match start {
            StartSpec::Earliest => return Ok(BTreeMap::new()),
            StartSpec::Offsets(said) => return definition::offsets_of(said, partitions),
            StartSpec::Latest => Position::Latest,
            StartSpec::Time(ms) => Position::Timestamp(Timestamp(*ms)),
        };
        let mut places = BTreeMap::new();
        for (topic, count) in partitions {
            let at: Vec<_> = (0..*count).map(|partition| (partition, position)).collect();
            let offsets = self.ports.log.locate(topic, &at).await?;
            for ((partition, _), offset) in at.into_iter().zip(offsets) {
                places.insert(TopicPartition::new(topic.clone(), partition), offset);
            }
        }
        Ok(places)
    }

    /// Makes sure that the group of a new subscription is nobody else's, and has no positions.
    async fn take_over_group(
        &self,
        definition: &Definition,
        partitions: &BTreeMap<TopicName, u32>,
        adopt: bool,
    ) -> Result<()> {
        let all: Vec<_> = partitions
            .iter()
            .flat_map(|(topic, count)| {
                (0..*count).map(|partition| TopicPartition::new(topic.clone(), partition))
            })
            .collect();
        let committed = self.ports.offsets.committed(&definition.name, &all).await?;
        let foreign = |detail: &str| {
            let name = &definition.name;
            Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "the consumer group `{name}` {detail}; take another name, or `adoptGroup` to go on from its offsets"
                ),
            )
            .with_field("name", "is the name of a consumer group that is not a subscription"))
        };
        let mut ours = false;
        for committed in committed.into_iter().flatten() {
            if !crate::delivery::commit_map::is_ours(&committed.metadata) {
                if adopt {
                    // Each is where its partition begins: the engine finds it when it opens it.
                    continue;
                }
                return foreign("has offsets that no subscription committed");
            }
            ours = true;
        }
        if !ours {
            return Ok(());
        }
        // What a deleted subscription of this name left.
        match self.ports.offsets.delete(&definition.name).await {
            Err(error) if error.kind() == ports::ErrorKind::Conflict => foreign("has members"),
            other => Ok(other?),
        }
    }

    /// The view of a new subscription, once it is a member of its group or a moment has passed: a client is
    /// not to see `no-members` where all is well.
    async fn settled(&self, entry: &Entry) -> SubscriptionView {
        let clock = &*self.ports.clock;
        let until = clock.monotonic() + JOIN_PATIENCE;
        loop {
            let view = self.view(entry).await;
            let now = clock.monotonic();
            if view.state != State::NoMembers || now >= until {
                return view;
            }
            clock.sleep_until(now + Duration::from_millis(5)).await;
        }
    }

    async fn view(&self, entry: &Entry) -> SubscriptionView {
        // An engine that ends this moment is a member of nothing any more.
        let snapshot = entry.engine.snapshot().await.unwrap_or_default();
        let Snapshot { joined, in_flight, held, paused, changing, mut causes, progress, .. } = snapshot;
        let Snapshot { filtered, filter_errors, dedup_key_errors, .. } = snapshot;
        let definition = &entry.definition;
        if matches!(definition.mode, DeliveryMode::Push(_)) && entry.dispatcher.is_none() {
            // It was kept by a program that could push there.
            let detail = "this program cannot push to the target; nothing is delivered";
            let since = definition.created_at();
            causes.push(Cause { code: "handler-missing", since, detail: detail.to_owned() });
        }
        let others = causes.len();
        causes.extend(paused);
        let lag = self.lag(&progress).await;
        let is_paused = causes.len() > others;
        let open = entry.dispatcher.as_ref().and_then(|dispatcher| dispatcher.cause());
        let is_open = open.is_some();
        causes.extend(open);
        let replaced_at = Timestamp(entry.definition.replaced_at_ms);
        if changing {
            let detail =
                "it was replaced: what is out may be decided still, and then it goes on as it is now";
            causes.push(Cause { code: "changing", since: replaced_at, detail: detail.to_owned() });
        }
        if !entry.definition.emptying.is_empty() {
            let detail = "what waits in the retry topics that it had before is delivered first; until then it keeps no order";
            causes.push(Cause { code: "emptying", since: replaced_at, detail: detail.to_owned() });
        }
        causes.sort_by_key(|cause| cause.since);
        let state = if is_paused {
            State::Paused
        } else if !joined {
            State::NoMembers
        } else if is_open {
            State::CircuitOpen
        } else if causes.is_empty() {
            State::Active
        } else {
            State::Degraded
        };
        SubscriptionView {
            definition: entry.definition.clone(),
            state,
            causes,
            lag,
            in_flight: in_flight as u64,
            held: held as u64,
            filtered,
            filter_errors,
            dedup_key_errors,
            members: if joined { vec![self.config.member.clone()] } else { Vec::new() },
        }
    }

    /// What lies behind the engine's progress; by the ends that it last saw where the log does not answer.
    async fn lag(&self, progress: &BTreeMap<TopicName, Vec<engine::Progress>>) -> u64 {
        let of_topic = |(topic, progress): (&TopicName, &Vec<engine::Progress>)| {
            let (log, topic) = (self.ports.log.clone(), topic.clone());
            let progress = progress.clone();
            async move {
                let at: Vec<_> = progress.iter().map(|p| (p.partition, Position::Latest)).collect();
                let ends = log.locate(&topic, &at).await.unwrap_or_default();
                let end = |index: usize, known: Offset| ends.get(index).copied().unwrap_or(known).max(known);
                let lags = progress.iter().enumerate().map(|(i, p)| end(i, p.end).saturating_sub(p.done));
                lags.sum::<u64>()
            }
        };
        join_all(progress.iter().map(of_topic)).await.into_iter().sum()
    }
}

fn failure(kind: &str, otherwise: &str, reason: Option<String>) -> Failure {
    Failure::new(kind, reason.unwrap_or_else(|| otherwise.to_owned()))
}

/// Names runs, and makes the name of each once.
#[derive(Default)]
struct RunNames {
    last: Option<((PartitionKey, u32, u64), ByteString)>,
}

impl RunNames {
    fn name(&mut self, key: PartitionKey, session: u32, run: u64) -> ByteString {
        let of = (key, session, run);
        match &self.last {
            Some((last, name)) if *last == of => name.clone(),
            _ => {
                let mut name = String::with_capacity(48);
                push_hex(&mut name, key.topic, 8);
                name.push('-');
                push_decimal(&mut name, u64::from(key.partition));
                name.push('-');
                push_hex(&mut name, u64::from(session), 8);
                name.push('-');
                push_decimal(&mut name, run);
                let name = ByteString::from(name);
                self.last = Some((of, name.clone()));
                name
            }
        }
    }
}
