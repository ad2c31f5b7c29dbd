//! The task that owns a subscription's partitions.

use super::{
    Command, Context, Handed, Item, Offer, PartitionKey, Progress, Returned, Snapshot, backoff,
    commits::{self, Committed, Mark, Part},
    member::{Member, News},
    name_hash, nothing,
    opening::{self, Assigned, Opened, Opening},
    reading::{self, Found, Reading},
};
use crate::{
    delivery::{CoreConfig, PartitionCore, Status},
    subscriptions::Cause,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use ports::{
    ErrorKind, Generation, Handover, LogReader, MembershipEvent, Monotonic, Offset, ReadLimits,
    TopicPartition,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// The most records and bytes of one read: enough to make reading cheap, little enough to spread memory
/// over partitions.
const READ_RECORDS_MAX: usize = 1_000;
const READ_BYTES_MAX: usize = 1 << 20;
/// The least that a partition's buffer may hold.
const BUFFER_BYTES_MIN: usize = 1 << 20;
/// How long the last commit before a hand-over or the end may take. Shorter than a backend's patience.
const LAST_COMMIT_WITHIN: Duration = Duration::from_secs(3);
/// How long a loss of events is shown.
const LOSS_SHOWN_FOR: Duration = Duration::from_secs(3600);

/// A partition in one session of ownership.
struct Owned {
    partition: TopicPartition,
    generation: Generation,
    session: u32,
    /// Names the subscription and the log in commits.
    log: u64,
    core: PartitionCore,
    /// Here while no read is under way.
    reader: Option<Box<dyn LogReader>>,
    read_failures: u32,
    trouble: Option<Cause>,
    /// The partition's end as last read.
    end: Offset,
    /// What is committed, as far as it is known.
    committed: Option<Mark>,
    /// Another member owns it already; nothing is committed any more.
    fenced: bool,
    /// What the engine's sums and queues know of the core.
    in_flight: usize,
    queued: bool,
    timeout: Option<Monotonic>,
}

struct Waiter {
    max: usize,
    bytes_max: usize,
    reply: oneshot::Sender<Offer>,
}

struct Stopping {
    drain_until: Option<Monotonic>,
    replies: Vec<oneshot::Sender<()>>,
}

enum Wake {
    Command(Option<Command>),
    Returned(Returned),
    News(News),
    Opened(Opening),
    Read(Box<(Reading, Found)>),
    Committed(Vec<Committed>),
    Time,
}

pub(super) struct Actor {
    context: Arc<Context>,
    inbox: mpsc::Receiver<Command>,
    returned: mpsc::UnboundedReceiver<Returned>,
    back: mpsc::UnboundedSender<Returned>,
    member: Member,
    /// What the group gave, owned or still being opened.
    assigned: HashMap<TopicPartition, Generation>,
    openings: FuturesUnordered<BoxFuture<'static, Opening>>,
    owned: HashMap<PartitionKey, Owned>,
    reads: FuturesUnordered<BoxFuture<'static, (Reading, Found)>>,
    committing: commits::UnderWay,
    commit_due: Option<Monotonic>,
    commit_failures: u32,
    /// Decisions since the last commit began.
    decided: usize,
    dirty: BTreeSet<PartitionKey>,
    waiters: VecDeque<Waiter>,
    waiters_max: usize,
    /// Partitions that have something to deliver, in the order in which they are asked.
    ready: VecDeque<PartitionKey>,
    timeouts: BTreeSet<(Monotonic, PartitionKey)>,
    /// Deliveries that are out.
    in_flight: usize,
    group_trouble: Option<Cause>,
    opening_trouble: Option<Cause>,
    commit_trouble: Option<Cause>,
    loss: Option<(Cause, Monotonic)>,
    lost_events: u64,
    stopping: Option<Stopping>,
}

impl Actor {
    pub(super) fn new(context: Arc<Context>, inbox: mpsc::Receiver<Command>, waiters_max: usize) -> Self {
        let (back, returned) = mpsc::unbounded_channel();
        Self {
            member: Member::new(context.clone()),
            context,
            inbox,
            returned,
            back,
            assigned: HashMap::new(),
            openings: FuturesUnordered::new(),
            owned: HashMap::new(),
            reads: FuturesUnordered::new(),
            committing: commits::UnderWay::default(),
            commit_due: None,
            commit_failures: 0,
            decided: 0,
            dirty: BTreeSet::new(),
            waiters: VecDeque::new(),
            waiters_max,
            ready: VecDeque::new(),
            timeouts: BTreeSet::new(),
            in_flight: 0,
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
        while !self.is_over() {
            match self.wake().await {
                Wake::Command(command) => self.command(command),
                Wake::Returned(leases) => self.give_back(&leases),
                Wake::News(news) => self.news(news).await,
                Wake::Opened(opening) => self.opened(opening),
                Wake::Read(read) => self.found(read.0, read.1),
                Wake::Committed(outcome) => self.committed(outcome),
                Wake::Time => {}
            }
            self.lapse();
            self.serve();
            self.commit_if_due();
        }
        self.finish().await;
    }

    async fn wake(&mut self) -> Wake {
        let timer = self.timer();
        let clock = &*self.context.ports.clock;
        tokio::select! {
            command = self.inbox.recv() => Wake::Command(command),
            Some(leases) = self.returned.recv() => Wake::Returned(leases),
            news = self.member.next() => Wake::News(news),
            Some(opening) = self.openings.next(), if !self.openings.is_empty() => Wake::Opened(opening),
            Some(read) = self.reads.next(), if !self.reads.is_empty() => Wake::Read(Box::new(read)),
            outcome = self.committing.outcome() => Wake::Committed(outcome),
            () = async { match timer {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }} => Wake::Time,
        }
    }

    /// When something is to be done that nobody else wakes the task for.
    fn timer(&self) -> Option<Monotonic> {
        let lapse = self.timeouts.first().map(|(at, _)| *at);
        let commit = self.commit_due.filter(|_| !self.committing.is_some());
        let drained = self.stopping.as_ref().and_then(|stopping| stopping.drain_until);
        [lapse, commit, drained].into_iter().flatten().min()
    }

    // ---- what clients ask for ----

    fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Pull { max, bytes_max, wait, reply }) => {
                self.pull(Waiter { max, bytes_max, reply }, wait)
            }
            Some(Command::Decide { items, reply }) => {
                let _ = reply.send(self.decide(items));
            }
            Some(Command::Look { reply }) => {
                let _ = reply.send(self.snapshot());
            }
            Some(Command::Stop { drain_until, reply }) => self.stop(drain_until, Some(reply)),
            None => self.stop(None, None),
        }
    }

    fn pull(&mut self, waiter: Waiter, wait: bool) {
        if self.stopping.is_some() {
            let _ = waiter.reply.send(nothing());
            return;
        }
        if self.waiters.len() >= self.waiters_max {
            self.waiters.retain(|waiter| !waiter.reply.is_closed());
            if self.waiters.len() >= self.waiters_max {
                // The dropped reply says so.
                return;
            }
        }
        if wait {
            self.waiters.push_back(waiter);
        } else if self.waiters.is_empty() {
            let offer = self.take(&waiter);
            // An offer that nobody takes gives itself back.
            let _ = waiter.reply.send(offer);
        } else {
            // Those who wait come first; there is nothing for them, so there is nothing for this one.
            let _ = waiter.reply.send(nothing());
        }
    }

    fn decide(&mut self, mut items: Vec<Item>) -> Vec<(usize, Status)> {
        let now = self.context.now();
        // Decisions of one request apply in offset order, whichever list they stand in.
        items.sort_by_key(|item| (item.key, item.lease.offset));
        self.decided += items.len();
        let mut statuses = Vec::with_capacity(items.len());
        let mut touched = Vec::new();
        for item in items {
            let status = match self.owned.get_mut(&item.key) {
                Some(owned) => owned.core.decide(now, item.lease, item.decision),
                // Owned by nobody here: what was out comes again where it is owned.
                None => Status::Expired,
            };
            statuses.push((item.index, status));
            if touched.last() != Some(&item.key) {
                touched.push(item.key);
            }
        }
        touched.into_iter().for_each(|key| self.touch(key));
        statuses
    }

    fn give_back(&mut self, leases: &Returned) {
        let now = self.context.now();
        let mut touched = BTreeSet::new();
        for (key, lease) in leases {
            if let Some(owned) = self.owned.get_mut(key) {
                owned.core.give_back(now, *lease);
                touched.insert(*key);
            }
        }
        touched.into_iter().for_each(|key| self.touch(key));
    }

    /// Gives what is ready to those who wait, first come first served.
    fn serve(&mut self) {
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.reply.is_closed() {
                continue;
            }
            let offer = self.take(&waiter);
            if offer.handed.is_empty() {
                self.waiters.push_front(waiter);
                return;
            }
            let _ = waiter.reply.send(offer);
        }
    }

    /// Takes for one pull, a fair share from each partition that has something.
    fn take(&mut self, waiter: &Waiter) -> Offer {
        let now = self.context.now();
        let room = (self.context.definition.max_in_flight as usize).saturating_sub(self.in_flight);
        let mut left = waiter.max.min(room);
        let mut bytes_left = waiter.bytes_max;
        let mut handed = Vec::new();
        let mut taken = Vec::new();
        while left > 0 && bytes_left > 0 {
            let Some(key) = self.ready.pop_front() else { break };
            let share = left.div_ceil(self.ready.len() + 1);
            let Some(owned) = self.owned.get_mut(&key) else { continue };
            owned.queued = false;
            owned.core.take(now, share, bytes_left, &mut taken);
            left -= taken.len().min(left);
            for delivery in taken.drain(..) {
                bytes_left = bytes_left.saturating_sub(delivery.record.record.size());
                handed.push(Handed { key, topic: owned.partition.topic.clone(), delivery });
            }
            self.touch(key);
        }
        Offer { handed, back: self.back.clone() }
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
        let causes = [&self.group_trouble, &self.opening_trouble, &self.commit_trouble]
            .into_iter()
            .filter_map(Option::as_ref)
            .chain(loss)
            .chain(self.owned.values().filter_map(|owned| owned.trouble.as_ref()));
        Snapshot {
            joined: self.member.is_joined(),
            in_flight: self.in_flight,
            causes: causes.cloned().collect(),
            progress,
        }
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
        handover.release();
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.drop_partition(key_of(partition));
        }
    }

    fn drop_partition(&mut self, key: PartitionKey) {
        if let Some(owned) = self.owned.remove(&key) {
            self.in_flight -= owned.in_flight;
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
        let Opened { assigned: Assigned { partition, generation }, from, done, log, reader } = opened;
        let definition = &self.context.definition;
        let config = CoreConfig {
            ordering: definition.ordering,
            ack_timeout: definition.ack_timeout,
            buffer_events_max: self
                .context
                .config
                .buffer_events_max
                .max(2 * definition.max_in_flight as usize),
            buffer_bytes_max,
        };
        let session = rand::random();
        let mut core = PartitionCore::new(config, session, from);
        let committed = Some(Mark::of(&core));
        core.with_done(done);
        let key = key_of(&partition);
        let owned = Owned {
            partition,
            generation,
            session,
            log,
            core,
            reader: Some(reader),
            read_failures: 0,
            trouble: None,
            end: from,
            committed,
            fenced: false,
            in_flight: 0,
            queued: false,
            timeout: None,
        };
        self.owned.insert(key, owned);
        self.touch(key);
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
            Found::Records(fetched) => {
                owned.trouble = None;
                owned.end = fetched.end;
                owned.core.fetched(fetched.records, fetched.next);
            }
            Found::Overtaken { earliest } => {
                let lost = owned.core.skip_to(self.context.now(), earliest);
                self.lost_events += lost;
                let detail =
                    format!("retention deleted {} events before they were delivered", self.lost_events);
                tracing::error!(subscription = %name, %partition, lost, earliest, "retention deleted events before they were delivered");
                self.loss = Some((self.context.cause("events-lost", detail), self.context.now()));
            }
            Found::OtherLog { from, log } => {
                tracing::error!(subscription = %name, %partition, from, "the log was cut or made again; going on from another place");
                let config = owned.core.config().clone();
                owned.session = rand::random();
                owned.log = log;
                owned.core = PartitionCore::new(config, owned.session, from);
                owned.committed = None;
                let detail =
                    format!("the log of {partition} was cut or made again; it is read from offset {from}");
                self.loss = Some((self.context.cause("log-changed", detail), self.context.now()));
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
    fn touch(&mut self, key: PartitionKey) {
        let Some(owned) = self.owned.get_mut(&key) else { return };
        let in_flight = owned.core.in_flight();
        self.in_flight = self.in_flight + in_flight - owned.in_flight;
        owned.in_flight = in_flight;
        if owned.core.has_ready() && !owned.queued {
            owned.queued = true;
            self.ready.push_back(key);
        }
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

    /// Reads on where no read is under way and a good part of the buffer is free.
    fn read(&mut self, key: PartitionKey) {
        let Some(owned) = self.owned.get_mut(&key).filter(|_| self.stopping.is_none()) else { return };
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
        self.reads.push(Box::pin(reading::read(self.context.clone(), reading)));
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
                owned.core.tick(now);
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
    }

    fn begin_commit(&mut self, keys: &BTreeSet<PartitionKey>) {
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(owned) = self.owned.get(key).filter(|owned| !owned.fenced) {
                let Owned { session, partition, generation, log, core, .. } = owned;
                parts.push(Part::of(*key, *session, partition, *generation, *log, core));
            }
        }
        self.decided = 0;
        if !parts.is_empty() {
            self.committing.begin(self.context.clone(), parts);
        }
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
                    owned.core.revoke();
                    fenced.push(key);
                }
                Err(error) => {
                    self.dirty.insert(key);
                    failed = Some(error);
                }
            }
        }
        fenced.into_iter().for_each(|key| self.touch(key));
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
        let stopping = self.stopping.get_or_insert(Stopping { drain_until, replies: Vec::new() });
        stopping.drain_until = stopping.drain_until.min(drain_until);
        stopping.replies.extend(reply);
    }

    fn is_over(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            let drained = stopping.drain_until.is_none_or(|until| until <= self.context.now());
            drained || self.in_flight == 0
        })
    }

    async fn finish(mut self) {
        let keys = self.owned.keys().copied().collect();
        self.commit_now(&keys).await;
        self.member.leave().await;
        for reply in self.stopping.into_iter().flat_map(|stopping| stopping.replies) {
            let _ = reply.send(());
        }
    }
}

fn key_of(partition: &TopicPartition) -> PartitionKey {
    PartitionKey { topic: name_hash(partition.topic.as_str()), partition: partition.partition }
}
