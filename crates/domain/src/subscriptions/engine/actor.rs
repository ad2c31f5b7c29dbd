//! The task that owns a subscription's partitions.

use super::{
    Command, Context, PartitionKey, Progress, Returned, Snapshot, backoff,
    claiming::{Claimed, Left, StoreState},
    commits::{self, Committed, Mark, Part},
    deciding::{Reply, SettledBatch, Settling},
    leaving::{Leaving, Written},
    member::{Member, News},
    nothing,
    opening::{self, Assigned, Opened, Opening, Start},
    owned::{Owned, key_of},
    reading::{self, Found, Reading},
    serving::Waiter,
    storm::Storm,
};
use crate::{
    delivery::{CoreConfig, Effect, Ordering, PartitionCore, backoff::Backoff},
    subscriptions::{
        Cause, Definition,
        expressions::ExpressionErrors,
        mirror::{self, Mirrored},
        policy::Jitter,
    },
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use ports::{
    ErrorKind, Generation, Handover, MembershipEvent, Monotonic, ReadLimits, TopicName, TopicPartition,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use slab::Slab;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// The most records and bytes of one read: enough to make reading cheap, little enough to spread memory
/// over partitions, and to be in a processor's cache still when it is taken in.
const READ_RECORDS_MAX: usize = 500;
const READ_BYTES_MAX: usize = 1 << 19;
/// The least that a partition's buffer may hold.
const BUFFER_BYTES_MIN: usize = 1 << 20;
/// How long the last commit before a hand-over or the end may take. Shorter than a backend's patience.
const LAST_COMMIT_WITHIN: Duration = Duration::from_secs(3);
/// The most requests that are handled in one turn.
const TURN_MAX: usize = 256;
/// How long a loss of events is shown.
const LOSS_SHOWN_FOR: Duration = Duration::from_secs(3600);

pub(super) struct Stopping {
    drain_until: Option<Monotonic>,
    replies: Vec<oneshot::Sender<()>>,
    /// What it goes on as afterwards.
    then: Option<Arc<Definition>>,
}

enum Wake {
    Command(Option<Command>),
    Returned(Returned),
    News(Box<News>),
    Opened(Opening),
    Read(Box<(Reading, Found)>),
    Committed(Vec<Committed>),
    Claimed(Box<Claimed>),
    Settled(SettledBatch),
    Written(Written),
    Mirrored,
    Time,
}

pub(super) struct Actor {
    pub(super) context: Arc<Context>,
    inbox: mpsc::Receiver<Command>,
    returned: mpsc::UnboundedReceiver<Returned>,
    pub(super) back: mpsc::UnboundedSender<Returned>,
    member: Member,
    /// What the group gave, owned or still being opened.
    assigned: BTreeMap<TopicPartition, Generation>,
    openings: FuturesUnordered<BoxFuture<'static, Opening>>,
    pub(super) owned: BTreeMap<PartitionKey, Owned>,
    /// In tasks of their own: taking records over from a log's client is work that another thread can do.
    reads: JoinSet<(Reading, Found)>,
    committing: commits::UnderWay,
    commit_due: Option<Monotonic>,
    commit_failures: u32,
    /// Decisions since the last commit began.
    pub(super) decided: usize,
    dirty: BTreeSet<PartitionKey>,
    /// Partitions whose committed position is not mirrored yet.
    unmirrored: BTreeSet<PartitionKey>,
    mirror_at: Option<Monotonic>,
    mirroring: FuturesUnordered<BoxFuture<'static, ()>>,
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) waiters_max: usize,
    /// Partitions that have something to deliver, in the order in which they are asked.
    pub(super) ready: VecDeque<PartitionKey>,
    timeouts: BTreeSet<(Monotonic, PartitionKey)>,
    /// Events that are out, being claimed or being settled.
    pub(super) in_flight: usize,
    held: usize,
    filtered: u64,
    filter_errors: ExpressionErrors,
    pub(super) dedup_key_errors: ExpressionErrors,
    pub(super) claiming: FuturesUnordered<BoxFuture<'static, Claimed>>,
    pub(super) store: StoreState,
    pub(super) left: Left,
    pub(super) settling: Settling,
    pub(super) settles: FuturesUnordered<BoxFuture<'static, SettledBatch>>,
    /// Requests whose answers are not all known.
    pub(super) replies: Slab<Reply>,
    pub(super) dead_letters: Leaving,
    /// What is to wait in retry topics.
    pub(super) retries: Leaving,
    pub(super) writes: FuturesUnordered<BoxFuture<'static, Written>>,
    storm: Option<Storm>,
    /// Room for what cores want, kept so that it is made once.
    effects: Vec<Effect>,
    /// Why nothing is delivered, by the engine's own decision.
    pub(super) paused: Option<Cause>,
    /// Hashes keys to lanes; keys that users choose must not be able to fall together.
    hasher: DefaultHasher,
    /// Where sessions, leases and delays are drawn from.
    pub(super) rng: StdRng,
    group_trouble: Option<Cause>,
    opening_trouble: Option<Cause>,
    commit_trouble: Option<Cause>,
    loss: Option<(Cause, Monotonic)>,
    lost_events: u64,
    pub(super) stopping: Option<Stopping>,
}

impl Actor {
    pub(super) fn new(context: Arc<Context>, inbox: mpsc::Receiver<Command>, waiters_max: usize) -> Self {
        let (back, returned) = mpsc::unbounded_channel();
        let paused = context.definition.paused.as_ref().map(Cause::of);
        let mut rng = context.config.seed.map_or_else(rand::make_rng, StdRng::seed_from_u64);
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(rng.random());
        Self {
            member: Member::new(context.clone()),
            storm: context.dead_letter.storm_guard.map(Storm::new),
            context,
            inbox,
            returned,
            back,
            assigned: BTreeMap::new(),
            openings: FuturesUnordered::new(),
            owned: BTreeMap::new(),
            reads: JoinSet::new(),
            committing: commits::UnderWay::default(),
            commit_due: None,
            commit_failures: 0,
            decided: 0,
            dirty: BTreeSet::new(),
            unmirrored: BTreeSet::new(),
            mirror_at: None,
            mirroring: FuturesUnordered::new(),
            waiters: VecDeque::new(),
            waiters_max,
            ready: VecDeque::new(),
            timeouts: BTreeSet::new(),
            in_flight: 0,
            held: 0,
            filtered: 0,
            filter_errors: ExpressionErrors::default(),
            dedup_key_errors: ExpressionErrors::default(),
            claiming: FuturesUnordered::new(),
            store: StoreState::default(),
            left: Left::default(),
            settling: Settling::default(),
            settles: FuturesUnordered::new(),
            replies: Slab::new(),
            dead_letters: Leaving::default(),
            retries: Leaving::default(),
            writes: FuturesUnordered::new(),
            effects: Vec::new(),
            paused,
            hasher,
            rng,
            group_trouble: None,
            opening_trouble: None,
            commit_trouble: None,
            loss: None,
            lost_events: 0,
            stopping: None,
        }
    }

    /// Runs until it is told to stop, or its handle is gone.
    pub(super) async fn run(mut self) {
        while let Some(next) = self.run_out().await {
            self = next;
        }
    }

    /// Runs until it is over; answers what goes on in its place.
    async fn run_out(mut self) -> Option<Self> {
        while !self.is_over() {
            let wake = self.wake().await;
            self.handle(wake).await;
            // What else is there already is handled in the same turn, so that batches grow with the load.
            for _ in 0..TURN_MAX {
                let Ok(command) = self.inbox.try_recv() else { break };
                self.command(Some(command));
            }
            self.lapse();
            self.settle_if_due();
            self.keep_if_due();
            self.serve();
            self.commit_if_due();
        }
        self.finish().await
    }

    async fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Command(command) => self.command(command),
            Wake::Returned(leases) => self.give_back(&leases),
            Wake::News(news) => self.news(*news).await,
            Wake::Opened(opening) => self.opened(opening),
            Wake::Read(read) => self.found(read.0, read.1),
            Wake::Committed(outcome) => self.committed(outcome),
            Wake::Claimed(claimed) => self.claimed(*claimed),
            Wake::Settled(settled) => self.settled(settled),
            Wake::Written(written) => self.written(written),
            Wake::Mirrored | Wake::Time => {}
        }
    }

    async fn wake(&mut self) -> Wake {
        let timer = self.timer();
        let clock = &*self.context.ports.clock;
        // In a fixed order, so that a run can be played again; what was asked for comes last, as it can wait
        // and the others bound themselves.
        tokio::select! {
            biased;
            Some(leases) = self.returned.recv() => Wake::Returned(leases),
            news = self.member.next() => Wake::News(Box::new(news)),
            outcome = self.committing.outcome() => Wake::Committed(outcome),
            Some(settled) = self.settles.next(), if !self.settles.is_empty() => Wake::Settled(settled),
            Some(claimed) = self.claiming.next(), if !self.claiming.is_empty() => {
                Wake::Claimed(Box::new(claimed))
            }
            Some(written) = self.writes.next(), if !self.writes.is_empty() => Wake::Written(written),
            Some(opening) = self.openings.next(), if !self.openings.is_empty() => Wake::Opened(opening),
            Some(read) = self.reads.join_next(), if !self.reads.is_empty() => match read {
                Ok(read) => Wake::Read(Box::new(read)),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Nobody cancels one but the end of the runtime, which is that of this task too.
                    Err(_) => Wake::Time,
                },
            },
            Some(()) = self.mirroring.next(), if !self.mirroring.is_empty() => Wake::Mirrored,
            command = self.inbox.recv() => Wake::Command(command),
            () = async { match timer {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }} => Wake::Time,
        }
    }

    /// When something is to be done that nobody else wakes the task for.
    fn timer(&self) -> Option<Monotonic> {
        let now = self.context.now();
        let lapse = self.timeouts.first().map(|(at, _)| *at);
        let commit = self.commit_due.filter(|_| !self.committing.is_some());
        let drained = self.stopping.as_ref().and_then(|stopping| stopping.drain_until);
        // The store is asked again only when there is somebody to deliver to.
        let store = self.store.away_until().filter(|at| *at > now && !self.waiters.is_empty());
        let leaving = [self.dead_letters.timer(), self.retries.timer()];
        let others = [lapse, commit, drained, store, self.settling.timer()];
        others.into_iter().chain(leaving).flatten().min()
    }

    // ---- what clients ask for ----

    fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Pull { max, lanes_max, bytes_max, wait, reply }) => {
                self.pull(Waiter { max, lanes_max, bytes_max, at_once: !wait, reply })
            }
            Some(Command::Decide { items, reply }) => self.decide(items, reply),
            Some(Command::Look { reply }) => {
                let _ = reply.send(self.snapshot());
            }
            Some(Command::Pause { cause, reply }) => {
                self.paused = cause;
                let _ = reply.send(());
            }
            Some(Command::Skip { key, offset, reply }) => {
                let now = self.context.both();
                let skipped = self.owned.get_mut(&key).is_some_and(|owned| owned.core.skip(now, offset));
                self.touch(key);
                let _ = reply.send(skipped);
            }
            Some(Command::Redefine { definition, drain_until }) => self.redefine(definition, drain_until),
            Some(Command::Stop { drain_until, reply }) => self.stop(drain_until, Some(reply)),
            None => self.stop(None, None),
        }
    }

    fn give_back(&mut self, leases: &Returned) {
        let mut touched = Vec::new();
        for (key, lease) in leases {
            if let Some(owned) = self.owned.get_mut(key) {
                owned.core.give_back(*lease);
                touched.push(*key);
            }
        }
        self.touch_all(touched);
    }

    fn snapshot(&self) -> Snapshot {
        let mut progress: BTreeMap<_, Vec<Progress>> = BTreeMap::new();
        for (key, owned) in &self.owned {
            let of = Progress { partition: key.partition, done: owned.core.committable(), end: owned.end };
            progress.entry(owned.partition.topic.clone()).or_default().push(of);
        }
        let now = self.context.now();
        let loss =
            self.loss.as_ref().filter(|(_, at)| now.since(*at) < LOSS_SHOWN_FOR).map(|(cause, _)| cause);
        let causes = [
            &self.context.invalid,
            &self.group_trouble,
            &self.opening_trouble,
            &self.commit_trouble,
            &self.store.trouble,
            &self.dead_letters.trouble,
            &self.retries.trouble,
        ]
        .into_iter()
        .filter_map(Option::as_ref)
        .chain(loss)
        .chain(self.owned.values().filter_map(|owned| owned.trouble.as_ref()))
        .cloned()
        .chain(self.backlogs());
        Snapshot {
            joined: self.member.is_joined(),
            in_flight: self.in_flight,
            held: self.held,
            filtered: self.filtered,
            filter_errors: self.filter_errors.clone(),
            dedup_key_errors: self.dedup_key_errors.clone(),
            paused: self.paused.clone(),
            changing: self.stopping.as_ref().is_some_and(|stopping| stopping.then.is_some()),
            causes: causes.collect(),
            progress,
        }
    }

    /// Why partitions take nothing new though there is something.
    fn backlogs(&self) -> impl Iterator<Item = Cause> + '_ {
        self.owned.values().flat_map(|owned| {
            let partition = &owned.partition;
            let full = owned.progress_full.then(|| {
                let detail = format!(
                    "so much of {partition} is done beyond what is not that its commit has no room for more; \
                     nothing new of it is delivered until the oldest events are decided"
                );
                self.context.cause("progress-full", detail)
            });
            // In a retry topic all are held, and none keeps another one back.
            let held = (!owned.retries && owned.core.is_held_up()).then(|| {
                let detail =
                    format!("so many events of {partition} wait to be tried again that it is not read on");
                self.context.cause("held-full", detail)
            });
            full.into_iter().chain(held)
        })
    }

    // ---- what the group gives and takes ----

    async fn news(&mut self, news: News) {
        let name = &self.context.definition.name;
        match news {
            News::Joined => self.group_trouble = None,
            News::Trouble(error) => {
                tracing::warn!(subscription = %name, %error, "the group has trouble");
                self.group_trouble = Some(self.context.cause("group", error.to_string()));
            }
            News::Over(error) => {
                tracing::warn!(subscription = %name, %error, "not a member of the group; joining again");
                self.group_trouble = Some(self.context.cause("group", error.to_string()));
                self.assigned.clear();
                let keys: Vec<_> = self.owned.keys().copied().collect();
                keys.into_iter().for_each(|key| self.drop_partition(key));
            }
            News::Event(event) => {
                self.group_trouble = None;
                match event {
                    MembershipEvent::Assigned { generation, partitions } => {
                        self.assign(generation, partitions)
                    }
                    MembershipEvent::Revoked { partitions, handover } => {
                        self.hand_over(&partitions, handover).await
                    }
                    MembershipEvent::Lost { partitions } => self.forget(&partitions),
                }
            }
        }
    }

    fn assign(&mut self, generation: Generation, partitions: Vec<TopicPartition>) {
        self.forget(&partitions);
        let mut to_open = Vec::with_capacity(partitions.len());
        for partition in partitions {
            self.assigned.insert(partition.clone(), generation);
            to_open.push(Assigned { partition, generation });
        }
        self.openings.push(Box::pin(opening::open(self.context.clone(), to_open, 0, Duration::ZERO)));
    }

    async fn hand_over(&mut self, partitions: &[TopicPartition], handover: Handover) {
        let keys = partitions.iter().map(key_of).collect();
        self.commit_now(&keys).await;
        self.forget(partitions);
        self.let_claims_go().await;
        handover.release();
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.drop_partition(key_of(partition));
        }
    }

    fn drop_partition(&mut self, key: PartitionKey) {
        if let Some(mut owned) = self.owned.remove(&key) {
            self.in_flight -= owned.in_flight;
            self.held -= owned.held;
            let unused = owned.core.revoke();
            self.release(unused);
            if let Some(at) = owned.timeout {
                self.timeouts.remove(&(at, key));
            }
            self.dirty.remove(&key);
        }
    }

    fn opened(&mut self, opening: Opening) {
        let Opening { opened, failed, failures } = opening;
        let buffer_bytes = self.context.config.buffer_bytes_max / self.assigned.len().max(1);
        for opened in opened {
            if self.is_assigned(&opened.assigned) {
                self.own(opened, buffer_bytes.max(BUFFER_BYTES_MIN));
            }
        }
        let name = &self.context.definition.name;
        let mut again = Vec::new();
        for (assigned, error) in failed {
            if self.is_assigned(&assigned) {
                tracing::warn!(subscription = %name, partition = %assigned.partition, %error, "cannot be opened yet");
                let detail = format!("{} cannot be opened: {}", assigned.partition, error.detail());
                self.opening_trouble = Some(self.context.cause("opening", detail));
                again.push(assigned);
            }
        }
        if again.is_empty() {
            self.opening_trouble = None;
        } else {
            let (failures, context) = (failures + 1, self.context.clone());
            self.openings.push(Box::pin(opening::open(context, again, failures, backoff(failures))));
        }
    }

    fn is_assigned(&self, assigned: &Assigned) -> bool {
        self.assigned.get(&assigned.partition) == Some(&assigned.generation)
    }

    fn own(&mut self, opened: Opened, buffer_bytes_max: usize) {
        let Opened { assigned: Assigned { partition, generation }, start, log, reader } = opened;
        let Start { from, done, attempts, epoch } = start;
        let session = self.rng.random();
        let random = self.rng.random();
        let mut core = PartitionCore::new(self.core_config(buffer_bytes_max), session, from, random);
        let retries = self.context.retry_topics.contains(&partition.topic);
        let committed = Some(Mark::of(&core));
        core.with_progress(done, attempts);
        let key = key_of(&partition);
        let owned = Owned {
            partition,
            generation,
            session,
            log,
            epoch,
            retries,
            core,
            reader: Some(reader),
            read_failures: 0,
            trouble: None,
            end: from,
            committed,
            progress_full: false,
            fenced: false,
            in_flight: 0,
            held: 0,
            counted: crate::delivery::Counters::default(),
            queued: false,
            timeout: None,
        };
        self.owned.insert(key, owned);
        self.touch(key);
    }

    fn core_config(&self, buffer_bytes_max: usize) -> CoreConfig {
        let (definition, config) = (&self.context.definition, &self.context.config);
        let retry = &definition.retry;
        CoreConfig {
            // What was without an order before has none until it is done.
            ordering: if definition.emptying.is_empty() { definition.ordering } else { Ordering::None },
            ack_timeout: definition.lease(),
            run_max: definition.mode.run_max(),
            claims: definition.dedup.enabled,
            deliveries_max: retry.max_retries.map(|max| max.saturating_add(1)),
            backoff: Backoff {
                initial: retry.initial_delay,
                max: retry.max_delay,
                multiplier: retry.multiplier,
                full_jitter: retry.jitter == Jitter::Full && self.context.tiers.is_empty(),
            },
            retry_elsewhere: !self.context.tiers.is_empty(),
            buffer_events_max: config.buffer_events_max.max(2 * definition.max_in_flight as usize),
            buffer_bytes_max,
            held_events_max: config.held_events_max,
            held_bytes_max: buffer_bytes_max,
        }
    }

    // ---- the log ----

    fn found(&mut self, reading: Reading, found: Found) {
        let key = key_of(&reading.partition);
        // Another session reads with a reader of its own.
        let Some(owned) = self.owned.get_mut(&key).filter(|owned| owned.session == reading.session) else {
            return;
        };
        owned.reader = Some(reading.reader);
        owned.read_failures = 0;
        let partition = &reading.partition;
        let name = &self.context.definition.name;
        match found {
            Found::Events { events, next, end, errors } => {
                owned.trouble = None;
                owned.end = end;
                owned.core.fetched(self.context.both(), events, next);
                if self.filter_errors.add(errors) {
                    // The reason may quote the event: it is shown, and not logged.
                    tracing::warn!(subscription = %name, %partition, "the filter fails on an event; the subscription's state says why");
                }
            }
            Found::Overtaken { earliest } => {
                let lost = owned.core.skip_to(self.context.both(), earliest);
                self.lost_events += lost;
                let detail =
                    format!("retention deleted {} events before they were delivered", self.lost_events);
                tracing::error!(subscription = %name, %partition, lost, earliest, "retention deleted events before they were delivered");
                self.loss = Some((self.context.cause("events-lost", detail), self.context.now()));
            }
            Found::OtherLog { start, log } => {
                let from = start.from;
                tracing::error!(subscription = %name, %partition, from, "the log was cut or made again; going on from another place");
                let config = owned.core.config().clone();
                owned.session = self.rng.random();
                owned.log = log;
                owned.epoch = start.epoch;
                let fresh = PartitionCore::new(config, owned.session, from, self.rng.random());
                let unused = std::mem::replace(&mut owned.core, fresh).revoke();
                owned.counted = crate::delivery::Counters::default();
                owned.committed = None;
                let detail =
                    format!("the log of {partition} was cut or made again; it is read from offset {from}");
                self.loss = Some((self.context.cause("log-changed", detail), self.context.now()));
                self.release(unused);
            }
            Found::Failed(error) => {
                owned.read_failures = reading.failures + 1;
                if owned.trouble.is_none() {
                    tracing::warn!(subscription = %name, %partition, %error, "the partition cannot be read");
                    let detail = format!("{partition} cannot be read: {}", error.detail());
                    owned.trouble = Some(self.context.cause("reading", detail));
                }
            }
        }
        self.touch(key);
    }

    /// Brings the engine's sums and queues up to what a core says now. To be called after every change of
    /// a core; costs nothing that grows with the number of partitions or events.
    pub(super) fn touch(&mut self, key: PartitionKey) {
        let Some(owned) = self.owned.get_mut(&key) else { return };
        let session = owned.session;
        let mut effects = std::mem::take(&mut self.effects);
        owned.core.take_effects(&mut effects);
        for effect in effects.drain(..) {
            self.queue_effect(key, session, effect, None);
        }
        self.effects = effects;
        let Some(owned) = self.owned.get_mut(&key) else { return };
        let (in_flight, held) = (owned.core.in_flight(), owned.core.held());
        self.in_flight = self.in_flight + in_flight - owned.in_flight;
        self.held = self.held + held - owned.held;
        (owned.in_flight, owned.held) = (in_flight, held);
        let (counters, before) = (owned.core.counters(), owned.counted);
        owned.counted = counters;
        self.filtered += counters.passed_over - before.passed_over;
        let dead = counters.dead_lettered - before.dead_lettered;
        let other = (counters.duplicates - before.duplicates) + (counters.moved - before.moved);
        let done = (counters.done - before.done).saturating_sub(dead + other);
        if let Some(storm) = &mut self.storm
            && (done > 0 || dead > 0)
            && storm.count(done, dead)
            && self.paused.is_none()
        {
            let name = &self.context.definition.name;
            tracing::error!(subscription = %name, "nearly everything becomes a dead letter: the subscription is paused");
            let detail = "nearly everything that was delivered became a dead letter; resume it when its handler is mended";
            let cause = self.context.cause("dead-letter-storm", detail);
            (self.context.on_storm)(cause.clone());
            self.paused = Some(cause);
        }
        self.touch_ready(key);
        let Some(owned) = self.owned.get_mut(&key) else { return };
        let timeout = owned.core.next_timeout();
        if timeout != owned.timeout {
            if let Some(at) = owned.timeout {
                self.timeouts.remove(&(at, key));
            }
            if let Some(at) = timeout {
                self.timeouts.insert((at, key));
            }
            owned.timeout = timeout;
        }
        if !owned.fenced && owned.committed != Some(Mark::of(&owned.core)) {
            self.dirty.insert(key);
            let now = self.context.now();
            let due = self.commit_due.get_or_insert(now + self.context.config.commit_interval);
            if self.decided >= self.context.config.commit_events_max && self.commit_failures == 0 {
                *due = now;
            }
        }
        self.read(key);
    }

    /// Puts a partition in the queue where it has something to give.
    fn touch_ready(&mut self, key: PartitionKey) {
        let Some(owned) = self.owned.get_mut(&key) else { return };
        if owned.core.has_ready() && !owned.queued {
            owned.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Reads on where no read is under way and a good part of the buffer is free.
    fn read(&mut self, key: PartitionKey) {
        let may_read = self.stopping.is_none() && self.context.invalid.is_none();
        let Some(owned) = self.owned.get_mut(&key).filter(|_| may_read) else { return };
        let (events, bytes) = owned.core.room();
        let config = owned.core.config();
        if events < config.buffer_events_max / 4 || bytes < config.buffer_bytes_max / 4 {
            return;
        }
        let Some(reader) = owned.reader.take() else { return };
        let failures = owned.read_failures;
        let reading = Reading {
            partition: owned.partition.clone(),
            session: owned.session,
            log: owned.log,
            retries: owned.retries,
            hasher: self.hasher.clone(),
            reader,
            position: owned.core.position(),
            limits: ReadLimits {
                records_max: events.min(READ_RECORDS_MAX),
                bytes_max: bytes.min(READ_BYTES_MAX),
                wait_max: self.context.config.read_wait,
            },
            failures,
            delay: if failures == 0 { Duration::ZERO } else { backoff(failures) },
        };
        self.reads.spawn(reading::read(self.context.clone(), reading));
    }

    /// Takes back what was not decided in time.
    fn lapse(&mut self) {
        let now = self.context.now();
        while let Some((at, key)) = self.timeouts.first().copied()
            && at <= now
        {
            self.timeouts.pop_first();
            if let Some(owned) = self.owned.get_mut(&key) {
                owned.timeout = None;
                owned.core.tick(self.context.both());
            }
            self.touch(key);
        }
    }

    // ---- progress ----

    fn commit_if_due(&mut self) {
        let due = self.commit_due.is_some_and(|due| due <= self.context.now());
        if due && !self.committing.is_some() {
            let dirty = std::mem::take(&mut self.dirty);
            self.commit_due = None;
            self.begin_commit(&dirty);
        }
        let now = self.context.now();
        if !self.unmirrored.is_empty()
            && self.mirroring.is_empty()
            && self.mirror_at.is_none_or(|at| at <= now)
        {
            self.mirror_at = Some(now + self.context.config.mirror_interval);
            self.mirror();
        }
    }

    /// Begins to mirror the positions that were committed since the last time. A failure is no harm: they are
    /// mirrored with the next commit, or the group still has them.
    fn mirror(&mut self) {
        let keys = std::mem::take(&mut self.unmirrored);
        let positions: Vec<_> = keys
            .iter()
            .filter_map(|key| self.owned.get(key))
            .filter_map(|owned| {
                let next = owned.committed?.next();
                Some((owned.partition.clone(), Mirrored { log: owned.log, next, epoch: owned.epoch }))
            })
            .collect();
        // What waited and is done is needed no more.
        let mut done: BTreeMap<TopicName, Vec<_>> = BTreeMap::new();
        for (TopicPartition { topic, partition }, Mirrored { next, .. }) in &positions {
            if self.context.retry_topics.contains(topic) {
                done.entry(topic.clone()).or_default().push((*partition, *next));
            }
        }
        let context = self.context.clone();
        self.mirroring.push(Box::pin(async move {
            let name = &context.definition.name;
            if let Err(error) = mirror::write(context.jobs(), &context.definition, &positions).await {
                tracing::warn!(subscription = %name, %error, "positions could not be mirrored");
            }
            for (topic, before) in done {
                if let Err(error) = context.topics.trim(&topic, &before).await {
                    tracing::warn!(subscription = %name, %topic, %error, "a retry topic could not be trimmed");
                }
            }
        }));
    }

    fn begin_commit(&mut self, keys: &BTreeSet<PartitionKey>) {
        let bytes_max = self.context.config.metadata_bytes_max;
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(owned) = self.owned.get_mut(key).filter(|owned| !owned.fenced) {
                let part = Part::of(*key, owned, bytes_max);
                owned.set_progress_full(part.full);
                parts.push(part);
            }
        }
        self.decided = 0;
        if !parts.is_empty() {
            self.committing.begin(self.context.clone(), parts);
        }
        keys.iter().for_each(|key| self.touch_ready(*key));
    }

    fn committed(&mut self, outcome: Vec<Committed>) {
        let mut failed = None;
        let mut fenced = Vec::new();
        for Committed { key, session, mark, outcome } in outcome {
            let Some(owned) = self.owned.get_mut(&key).filter(|owned| owned.session == session) else {
                continue;
            };
            match outcome {
                Ok(()) => {
                    owned.committed = Some(mark);
                    self.unmirrored.insert(key);
                    if mark != Mark::of(&owned.core) {
                        self.dirty.insert(key);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    tracing::warn!(
                        subscription = %self.context.definition.name, partition = %owned.partition, %error,
                        "another member owns the partition; its progress here is not committed",
                    );
                    // Delivering on would only repeat what the other one delivers.
                    owned.fenced = true;
                    let unused = owned.core.revoke();
                    fenced.push((key, unused));
                }
                Err(error) => {
                    self.dirty.insert(key);
                    failed = Some(error);
                }
            }
        }
        for (key, unused) in fenced {
            self.release(unused);
            self.touch(key);
        }
        let mut wait = self.context.config.commit_interval;
        if let Some(error) = failed {
            self.commit_failures += 1;
            wait = wait.max(backoff(self.commit_failures));
            if self.commit_trouble.is_none() {
                tracing::warn!(subscription = %self.context.definition.name, %error, "progress cannot be committed");
                self.commit_trouble = Some(self.context.cause("committing", error.to_string()));
            }
        } else {
            self.commit_failures = 0;
            self.commit_trouble = None;
        }
        if !self.dirty.is_empty() {
            self.commit_due.get_or_insert(self.context.now() + wait);
        }
    }

    /// Commits the progress of some partitions, as well as that goes in a short time.
    async fn commit_now(&mut self, keys: &BTreeSet<PartitionKey>) {
        let clock = self.context.ports.clock.clone();
        let until = clock.monotonic() + LAST_COMMIT_WITHIN;
        // Twice: what is under way first, as an older commit must not come after a newer one.
        for begin in [false, true] {
            if begin {
                let dirty: BTreeSet<_> = keys.intersection(&self.dirty).copied().collect();
                self.dirty.retain(|key| !dirty.contains(key));
                self.begin_commit(&dirty);
            }
            if self.committing.is_some() {
                tokio::select! {
                    outcome = self.committing.outcome() => self.committed(outcome),
                    () = clock.sleep_until(until) => {
                        let name = &self.context.definition.name;
                        tracing::warn!(subscription = %name, "the last commit was not answered in time: what was done since the one before comes again");
                        return;
                    }
                }
            }
        }
    }

    // ---- the end ----

    fn stop(&mut self, drain_until: Option<Monotonic>, reply: Option<oneshot::Sender<()>>) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.reply.send(nothing());
        }
        let stopping = self.stopping.get_or_insert(Stopping { drain_until, replies: Vec::new(), then: None });
        stopping.drain_until = stopping.drain_until.min(drain_until);
        stopping.replies.extend(reply);
        stopping.then = None;
    }

    /// As [`Self::stop`], to go on as another; those who wait wait on.
    fn redefine(&mut self, definition: Arc<Definition>, drain_until: Monotonic) {
        match &mut self.stopping {
            // It ends, or waits for what is out already: what is new goes on from there.
            Some(stopping) => stopping.then = stopping.then.take().map(|_| definition),
            None => {
                let (drain_until, then) = (Some(drain_until), Some(definition));
                self.stopping = Some(Stopping { drain_until, replies: Vec::new(), then });
            }
        }
    }

    /// Whether nobody is to be given anything any more.
    pub(super) fn is_ending(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.then.is_none())
    }

    fn is_over(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            let drained = stopping.drain_until.is_none_or(|until| until <= self.context.now());
            drained || self.in_flight == 0
        })
    }

    async fn finish(mut self) -> Option<Self> {
        let keys = self.owned.keys().copied().collect();
        self.commit_now(&keys).await;
        if !self.unmirrored.is_empty() {
            self.mirror();
        }
        let keys: Vec<_> = self.owned.keys().copied().collect();
        keys.into_iter().for_each(|key| self.drop_partition(key));
        self.let_claims_go().await;
        self.member.leave().await;
        let Stopping { replies, then, .. } = self.stopping.take()?;
        for reply in replies {
            let _ = reply.send(());
        }
        let context = Arc::new(self.context.with(then?));
        let mut next = Self::new(context, self.inbox, self.waiters_max);
        (next.waiters, next.paused) = (self.waiters, self.paused);
        (next.returned, next.back) = (self.returned, self.back);
        next.left = self.left;
        Some(next)
    }

    /// Lets claims go that are not needed any more, as well as that goes in a short time: what was reserved
    /// and not sent, and what waits to be tried again. What does not work ends by itself.
    async fn let_claims_go(&mut self) {
        let clock = self.context.ports.clock.clone();
        let until = clock.monotonic() + LAST_COMMIT_WITHIN;
        loop {
            self.settle_if_due();
            let idle = self.claiming.is_empty() && self.settles.is_empty() && self.mirroring.is_empty();
            if idle {
                return;
            }
            tokio::select! {
                Some(claimed) = self.claiming.next(), if !self.claiming.is_empty() => self.claimed(claimed),
                Some(settled) = self.settles.next(), if !self.settles.is_empty() => self.settled(settled),
                Some(()) = self.mirroring.next(), if !self.mirroring.is_empty() => {}
                () = clock.sleep_until(until) => return,
            }
        }
    }
}
