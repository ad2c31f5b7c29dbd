//! Members of groups: a subscribed consumer that holds the assignment and reads nothing.
//!
//! The broker checks that who commits is a member, not that it owns what it commits. What a member owns,
//! under which generation, is therefore kept here ([`Gate`]), and commits pass only through it.
//!
//! Invariants:
//! 1. A partition is in the gate from its assignment to the end of its revocation, or its loss; never
//!    longer.
//! 2. A revocation is told before it takes effect, and takes effect after the patience at the latest.
//! 3. Generations are unique in the process, so that one of a former session is never taken for a present
//!    one.

use super::{client_config, error, janitor, member_config};
use crate::config::KafkaConfig;
use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    ErrorKind, Generation, GroupId, GroupMembership, Handover, Membership, MembershipEvent, PortError,
    Result, Retry, TopicName, TopicPartition,
};
use rdkafka::{
    ClientContext, TopicPartitionList,
    admin::AdminClient,
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::mpsc;

const OPERATION: &str = "group_membership.next";
/// How often a member's queue is served. Callbacks run there.
const POLL: Duration = Duration::from_millis(100);

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// What a member owns.
#[derive(Default)]
pub(super) struct Gate(Mutex<HashMap<TopicPartition, Generation>>);

impl Gate {
    /// Calls `act` with what is owned; nothing is taken away meanwhile.
    pub(super) fn with<T>(&self, act: impl FnOnce(&HashMap<TopicPartition, Generation>) -> T) -> T {
        act(&self.0.lock())
    }

    fn open(&self, partitions: &[TopicPartition]) -> Generation {
        let generation = Generation(GENERATIONS.fetch_add(1, Ordering::Relaxed));
        self.0.lock().extend(partitions.iter().map(|partition| (partition.clone(), generation)));
        generation
    }

    fn close(&self, partitions: &[TopicPartition]) {
        let mut owned = self.0.lock();
        owned.retain(|partition, _| !partitions.contains(partition));
    }

    fn close_all(&self) -> Vec<TopicPartition> {
        self.0.lock().drain().map(|(partition, _)| partition).collect()
    }
}

type News = mpsc::UnboundedSender<Result<MembershipEvent>>;

/// Hears of rebalances, on the thread that polls.
pub(super) struct Listener {
    group: GroupId,
    gate: Arc<Gate>,
    /// Bounded by what the group does: a few events a rebalance.
    news: News,
    patience: Duration,
}

impl ClientContext for Listener {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(group = %self.group, %error, reason, "kafka member");
    }
}

impl ConsumerContext for Listener {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let partitions = self.gate.with(|owned| {
            let mut partitions = partitions(list);
            partitions.retain(|partition| owned.contains_key(partition));
            partitions
        });
        if partitions.is_empty() {
            return;
        }
        if consumer.assignment_lost() {
            self.gate.close(&partitions);
            let _ = self.news.send(Ok(MembershipEvent::Lost { partitions }));
            return;
        }
        let (release, released) = std::sync::mpsc::sync_channel(1);
        let handover = Handover::new(move || {
            // Nobody waits any more once the patience is over.
            let _ = release.send(());
        });
        // Where nobody listens any more, the event is dropped, and the hand-over with it.
        let _ = self.news.send(Ok(MembershipEvent::Revoked { partitions: partitions.clone(), handover }));
        // Other members wait too; the patience is well below the time after which this one is expelled.
        if released.recv_timeout(self.patience).is_err() {
            tracing::warn!(group = %self.group, ?partitions, "given up without being handed over in time");
        }
        self.gate.close(&partitions);
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                let partitions = partitions(list);
                if partitions.is_empty() {
                    return;
                }
                // Read by cursors, never by the member.
                if let Err(error) = consumer.pause(list) {
                    tracing::warn!(group = %self.group, %error, "the assignment could not be paused");
                }
                let generation = self.gate.open(&partitions);
                let _ = self.news.send(Ok(MembershipEvent::Assigned { generation, partitions }));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(group = %self.group, %error, "a rebalance failed"),
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let of = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let topic = TopicName::new(element.topic()).ok()?;
        Some(TopicPartition::new(topic, u32::try_from(element.partition()).ok()?))
    };
    list.elements().into_iter().filter_map(of).collect()
}

/// What commits need of a member.
pub(super) struct Joined {
    pub(super) client: Arc<BaseConsumer<Listener>>,
    pub(super) gate: Arc<Gate>,
}

/// The members of this process.
pub(super) struct Members {
    pub(super) config: Arc<KafkaConfig>,
    joined: Mutex<HashMap<GroupId, Vec<Weak<Joined>>>>,
    /// One commit of a group is under way at a time.
    pub(super) committing: Mutex<HashMap<GroupId, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) admin: AdminClient<DefaultClientContext>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("groups", &self.joined.lock().len()).finish_non_exhaustive()
    }
}

impl Members {
    pub(super) fn new(config: Arc<KafkaConfig>) -> Result<Self> {
        let admin =
            client_config(&config).create().map_err(|e| error::of(&e, "kafka.open", "the admin client"))?;
        Ok(Self { config, joined: Mutex::default(), committing: Mutex::default(), admin })
    }

    /// The members that this process has in a group.
    pub(super) fn of(&self, group: &GroupId) -> Vec<Arc<Joined>> {
        let mut all = self.joined.lock();
        let Some(members) = all.get_mut(group) else { return Vec::new() };
        members.retain(|member| member.strong_count() > 0);
        let found: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
        if found.is_empty() {
            all.remove(group);
        }
        found
    }
}

#[async_trait]
impl GroupMembership for Members {
    async fn join(&self, group: &GroupId, topics: &[TopicName]) -> Result<Box<dyn Membership>> {
        let (news, told) = mpsc::unbounded_channel();
        let gate = Arc::new(Gate::default());
        let listener = Listener {
            group: group.clone(),
            gate: gate.clone(),
            news: news.clone(),
            patience: self.config.revoke_patience,
        };
        let client = member_config(&self.config, group.as_str()).create_with_context(listener);
        let client: Arc<BaseConsumer<Listener>> =
            Arc::new(client.map_err(|e| error::of(&e, "group_membership.join", "the member"))?);
        let names: Vec<_> = topics.iter().map(TopicName::as_str).collect();
        client.subscribe(&names).map_err(|e| error::of(&e, "group_membership.join", "the subscription"))?;
        let joined = Arc::new(Joined { client, gate });
        let stop = Arc::new(AtomicBool::new(false));
        let polling = poll(group.clone(), joined.clone(), news, stop.clone())?;
        self.joined.lock().entry(group.clone()).or_default().push(Arc::downgrade(&joined));
        Ok(Box::new(Member { group: group.clone(), told, end: Some(End { joined, stop, polling }) }))
    }
}

/// Serves a member's queue until it is to stop, or the client is broken.
fn poll(group: GroupId, joined: Arc<Joined>, news: News, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let run = move || {
        while !stop.load(Ordering::Acquire) {
            let Some(Err(error)) = joined.client.poll(POLL) else { continue };
            let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
            if fatal || joined.client.client().fatal_error().is_some() {
                // There may be no revocation for what it had.
                let partitions = joined.gate.close_all();
                tracing::error!(%group, %error, "the kafka member broke");
                if !partitions.is_empty() {
                    let _ = news.send(Ok(MembershipEvent::Lost { partitions }));
                }
                let broken =
                    PortError::new(ErrorKind::Unavailable, OPERATION, format!("the member broke: {error}"));
                let _ = news.send(Err(broken.with_retry(Retry::Permanent)));
                return;
            }
            // A coordinator that moves, a topic that is not there yet: the client goes on by itself.
            tracing::debug!(%group, %error, "kafka member");
            if error::of(&error, OPERATION, "the group").kind() == ErrorKind::Denied {
                let _ = news
                    .send(Err(error::of(&error, OPERATION, "the group")
                        .with_retry(Retry::Transient { after: None })));
            }
        }
    };
    let thread = thread::Builder::new().name("kafka-member".to_owned()).spawn(run);
    thread.map_err(|e| PortError::new(ErrorKind::Unavailable, "group_membership.join", e.to_string()))
}

struct End {
    joined: Arc<Joined>,
    stop: Arc<AtomicBool>,
    polling: JoinHandle<()>,
}

impl End {
    /// Leaves the group. Blocks.
    fn leave(self) {
        let Self { joined, stop, polling } = self;
        stop.store(true, Ordering::Release);
        let _ = polling.join();
        // Closing revokes what is still owned, for which nobody waits any more, and tells the coordinator.
        drop(joined);
    }
}

/// One member.
struct Member {
    group: GroupId,
    told: mpsc::UnboundedReceiver<Result<MembershipEvent>>,
    end: Option<End>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("group", &self.group).finish_non_exhaustive()
    }
}

#[async_trait]
impl Membership for Member {
    async fn next(&mut self) -> Result<MembershipEvent> {
        match self.told.recv().await {
            Some(news) => news,
            // The listener lives as long as the client, which this member holds.
            None => std::future::pending().await,
        }
    }

    async fn leave(mut self: Box<Self>) -> Result<()> {
        let Some(end) = self.end.take() else { return Ok(()) };
        self.told.close();
        // What was told and not taken gives its hand-over back.
        while self.told.try_recv().is_ok() {}
        let left = tokio::task::spawn_blocking(move || end.leave()).await;
        left.map_err(|_| error::aborted("group_membership.leave"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.told.close();
        while self.told.try_recv().is_ok() {}
        if let Some(end) = self.end.take() {
            janitor::later(move || end.leave());
        }
    }
}
