//! The task that owns a subscription's partitions.

mod ending;
mod group;
mod progress;

use super::{
    Command, Context, PartitionKey, Progress, Returned, Snapshot, backoff,
    claiming::{Claimed, Left, StoreState},
    commits::{self, Committed, Mark},
    deciding::{Reply, SettledBatch, Settling},
    leaving::{Leaving, Written},
    member::{Member, News},
    opening::Opening,
    owned::{Owned, key_of},
    reading::{self, Found, Reading},
    serving::Waiter,
    storm::Storm,
};
use crate::{
    delivery::{Effect, PartitionCore},
    subscriptions::{Cause, Definition, expressions::ExpressionErrors},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use ports::{Generation, Monotonic, ReadLimits, TopicPartition};
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
    /// Why values cannot be read by their schemas for now.
    pub(super) schema_trouble: Option<Cause>,
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
            schema_trouble: None,
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
            &self.schema_trouble,
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
}
