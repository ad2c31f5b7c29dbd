//! Runs one job at this replica.
//!
//! read → which of it is wanted → wait for its turn → write → keep how far it has come. A batch is written only when
//! the one before it is kept: what is written twice after a crash is one batch at most.

use super::{
    Shared,
    job::{Job, Kind, Lease, State},
    pace::{Pace, Rhythm},
    sieve::Sieve,
    sink::{Left, Moved, Sink},
    source::{Source, Taken},
    store::{self, Kept},
};
use crate::{
    error::{Error, ErrorCode},
    publish::ANONYMOUS,
};
use futures::future::{Either, select};
use ports::{ErrorKind, Monotonic, PartitionId, PortError, Retry, StoredRecord, Timestamp, TopicName};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// How long others leave a job alone that its runner does not keep.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How often a runner keeps its job at least.
const KEEP_EVERY: Duration = Duration::from_secs(4);
/// The most bytes of a batch.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What was read, each with its partition.
type Events = Vec<(PartitionId, StoredRecord)>;

/// What ends a run.
enum End {
    /// All was written.
    Done,
    /// Somebody paused or cancelled it. That is kept already, and how far it came.
    Told,
    /// The service stops.
    Stopped,
    /// Another one has it, or it is gone.
    Fenced,
    /// It cannot go on.
    Failed(String),
}

pub(super) struct Runner {
    shared: Arc<Shared>,
    kept: Kept,
    /// Woken when somebody changed the job, or the service stops.
    nudge: Arc<Notify>,
    kept_at: Monotonic,
    failures: u32,
    /// Something is on its way that nobody is to cut off: what came of it is kept first.
    writing: bool,
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>, kept: Kept, nudge: Arc<Notify>) -> Self {
        let kept_at = shared.ports.clock.monotonic();
        Self { shared, kept, nudge, kept_at, failures: 0, writing: false }
    }

    /// Runs until the job has come to an end, or is not this replica's any more.
    pub(super) async fn run(mut self) {
        let id = self.kept.job.id;
        tracing::info!(job = %id, topic = self.kept.job.task.topic, "running");
        let end = match self.work().await {
            Ok(()) => End::Done,
            Err(end) => end,
        };
        let state = match &end {
            End::Done => Some((State::Completed, None)),
            End::Failed(reason) => Some((State::Failed, Some(reason.clone()))),
            End::Stopped => Some((State::Running, None)),
            End::Told | End::Fenced => None,
        };
        match &end {
            End::Failed(reason) => tracing::error!(job = %id, reason, "failed"),
            End::Fenced => tracing::warn!(job = %id, "another replica has it, or it was forgotten"),
            End::Done => tracing::info!(job = %id, written = self.kept.job.progress.written, "completed"),
            End::Told | End::Stopped => tracing::info!(job = %id, "let go"),
        }
        if let Some((state, error)) = state {
            self.let_go(state, error).await;
        }
    }

    async fn work(&mut self) -> Result<(), End> {
        let shared = self.shared.clone();
        let job = self.kept.job.clone();
        let failed = |error: Error| End::Failed(error.detail().to_owned());
        let topic = job.topic().map_err(failed)?;
        let sink = Sink::new(shared.clone(), &job).map_err(failed)?;
        let limits = &shared.limits.expressions;
        let sieve =
            Sieve::new(&job.task, topic.clone(), limits, shared.services.schemas.clone()).map_err(failed)?;
        if job.progress.partitions.values().all(|span| span.next >= span.to) {
            return Ok(());
        }
        self.check_topic().await?;
        let clock = shared.ports.clock.clone();
        let task = &job.task;
        let mut rhythm = task.speed.map(Rhythm::new);
        let mut pace = Pace::new(task.rate_per_second, task.bytes_per_second, clock.monotonic());
        let spans = &job.progress.partitions;
        let log = shared.ports.log.clone();
        let mut source = Source::new(log, topic, spans, rhythm.is_some(), task.batch_size);
        loop {
            match self.alive(source.ready()).await? {
                Ok(false) => return Ok(()),
                Ok(true) => self.went_well(),
                Err(error) => {
                    self.trouble("read", &error).await?;
                    self.check_topic().await?;
                    continue;
                }
            }
            self.wait_until(pace.due()).await?;
            let until = match &mut rhythm {
                None => Timestamp(i64::MAX),
                Some(rhythm) => {
                    let first = source.first_time().unwrap_or_default();
                    let due = rhythm.due(clock.monotonic(), first);
                    self.wait_until(due).await?;
                    rhythm.reached(clock.monotonic()).max(first)
                }
            };
            let (events, bytes) = (pace.batch_max(task.batch_size), pace.bytes_max(BATCH_BYTES_MAX));
            let taken = source.take(events, bytes, until);
            self.batch(&sink, &sieve, &mut pace, taken).await?;
        }
    }

    /// Writes what is wanted of a batch, and keeps how far that is.
    async fn batch(&mut self, sink: &Sink, sieve: &Sieve, pace: &mut Pace, taken: Taken) -> Result<(), End> {
        let Taken { events, next, gone } = taken;
        let read = events.len() as u64;
        let (matched, errors) = match self.kept.job.kind {
            Kind::Replay => self.replay(sink, sieve, pace, events).await?,
            Kind::Redrive => self.redrive(sink, sieve, pace, events).await?,
        };
        let progress = &mut self.kept.job.progress;
        progress.read += read;
        progress.matched += matched;
        progress.written += matched;
        progress.filter_errors += errors;
        for (partition, count) in gone {
            progress.partitions.entry(partition).or_default().gone += count;
        }
        for (partition, offset) in next {
            let span = progress.partitions.entry(partition).or_default();
            span.next = span.next.max(offset);
        }
        // What had no effect can be read again: that it was is kept now and then.
        let now = self.shared.ports.clock.monotonic();
        if matched > 0 || now.since(self.kept_at) >= KEEP_EVERY { self.keep().await } else { Ok(()) }
    }

    /// Writes what is wanted of what was read, and answers how much, and of how many that could not be told.
    async fn replay(
        &mut self,
        sink: &Sink,
        sieve: &Sieve,
        pace: &mut Pace,
        events: Events,
    ) -> Result<(u64, u64), End> {
        let (events, errors) = self.sift(sieve, events).await?;
        let matched = events.len();
        if matched > 0 {
            let bytes = events.iter().map(|(_, stored)| stored.record.size()).sum();
            let (target, moved) = self.prepare(|| sink.prepare(events.clone())).await?;
            self.write(sink, &target, moved).await?;
            pace.spent(self.shared.ports.clock.monotonic(), matched, bytes);
        }
        Ok((matched as u64, errors))
    }

    /// Queues the dead letters of what was read that are to be, and then notes that they were.
    async fn redrive(
        &mut self,
        sink: &Sink,
        sieve: &Sieve,
        pace: &mut Pace,
        events: Events,
    ) -> Result<(u64, u64), End> {
        let shared = self.shared.clone();
        let letters = &shared.services.dead_letters;
        let Some(name) = self.kept.job.task.target.subscription().map(str::to_owned) else {
            return Err(End::Failed("dead letters go to a subscription".to_owned()));
        };
        let only = self.kept.job.task.only.clone();
        let is_meant = |(partition, stored): &(PartitionId, StoredRecord)| {
            only.as_ref().is_none_or(|only| only.get(partition).is_some_and(|of| of.contains(&stored.offset)))
        };
        let events: Events = events.into_iter().filter(is_meant).collect();
        if events.is_empty() {
            return Ok((0, 0));
        }
        let opened = self.prepare(|| letters.open(&name, events.clone())).await?;
        let (wanted, errors) = self.prepare(|| sieve.letters(letters, opened.clone())).await?;
        if !wanted.is_empty() {
            let bytes = wanted.iter().map(|letter| letter.event.record.record.size()).sum();
            let (target, moved) = self.prepare(|| sink.queued(&wanted)).await?;
            self.write(sink, &target, moved).await?;
            let ids: Vec<_> = wanted.iter().map(|letter| letter.id).collect();
            let job = self.kept.job.id.to_string();
            self.writing = true;
            let noted = self.prepare(|| letters.record_redriven(&name, &ids, ANONYMOUS, &job)).await;
            self.writing = false;
            noted?;
            pace.spent(shared.ports.clock.monotonic(), wanted.len(), bytes);
        }
        Ok((wanted.len() as u64, errors))
    }

    async fn sift(&mut self, sieve: &Sieve, events: Events) -> Result<(Events, u64), End> {
        loop {
            match self.alive(sieve.sift(events.clone())).await? {
                Ok(sifted) => return Ok((sifted.events, sifted.errors)),
                Err(error) => self.wait_out("read by its schema", error.detail()).await?,
            }
        }
    }

    /// Does what comes before or after a write, until it works.
    async fn prepare<T, F>(&mut self, work: impl Fn() -> F) -> Result<T, End>
    where
        F: Future<Output = crate::Result<T>>,
    {
        loop {
            match self.alive(work()).await? {
                Ok(done) => return Ok(done),
                Err(error) if matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Timeout) => {
                    self.wait_out("written", error.detail()).await?;
                }
                Err(error) => return Err(End::Failed(error.detail().to_owned())),
            }
        }
    }

    async fn write(&mut self, sink: &Sink, target: &TopicName, mut moved: Vec<Moved>) -> Result<(), End> {
        loop {
            self.writing = true;
            let left = self.alive(sink.write(target, moved)).await;
            self.writing = false;
            let Left { again, reason, refused } = left?;
            if let Some(reason) = refused {
                return Err(End::Failed(reason));
            }
            if again.is_empty() {
                self.went_well();
                return Ok(());
            }
            let why = reason.map_or_else(|| "the log gave no outcome".to_owned(), |error| error.to_string());
            self.wait_out("written", &why).await?;
            moved = again;
        }
    }

    /// Whether the topic is still the one that was asked for.
    async fn check_topic(&mut self) -> Result<(), End> {
        let topic = self.kept.job.topic().map_err(|error| End::Failed(error.detail().to_owned()))?;
        let shared = self.shared.clone();
        loop {
            match self.alive(shared.services.topics.meta_if_there(&topic)).await? {
                Ok(Some(meta)) if meta.id == self.kept.job.task.topic_id => return Ok(()),
                Ok(Some(_)) => {
                    let reason = format!("topic `{topic}` was deleted and made anew since the job began");
                    return Err(End::Failed(reason));
                }
                Ok(None) => return Err(End::Failed(format!("topic `{topic}` does not exist any more"))),
                Err(error) => self.wait_out("described", error.detail()).await?,
            }
        }
    }

    async fn trouble(&mut self, what: &str, error: &PortError) -> Result<(), End> {
        let passes = !matches!(error.retry(), Retry::Permanent) || error.kind() == ErrorKind::OutOfRange;
        if !passes && error.kind() != ErrorKind::NotFound {
            return Err(End::Failed(error.to_string()));
        }
        self.shared
            .services
            .topics
            .forget(&self.kept.job.topic().map_err(|e| End::Failed(e.detail().to_owned()))?);
        self.wait_out(what, &error.to_string()).await
    }

    /// Says what it waits for, and waits before the next try.
    async fn wait_out(&mut self, what: &str, why: &str) -> Result<(), End> {
        if self.failures == 0 {
            tracing::warn!(job = %self.kept.job.id, why, "cannot be {what} for now: trying on");
        }
        self.failures += 1;
        self.kept.job.error = Some(format!("cannot be {what} for now: {why}"));
        let pause = Duration::from_millis(100 << self.failures.min(7)).min(RETRY_MAX);
        self.wait_until(self.shared.ports.clock.monotonic() + pause).await
    }

    fn went_well(&mut self) {
        self.failures = 0;
        self.kept.job.error = None;
    }

    /// Waits, keeping the job meanwhile.
    async fn wait_until(&mut self, until: Monotonic) -> Result<(), End> {
        let clock = self.shared.ports.clock.clone();
        if until > clock.monotonic() {
            self.alive(clock.sleep_until(until)).await?;
        }
        if self.shared.is_stopping() { Err(End::Stopped) } else { Ok(()) }
    }

    /// Waits for what `work` gives, and keeps the job meanwhile. Ends where somebody says so, but for what is being
    /// written: dropping `work` is as if the process had died in it.
    async fn alive<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        let (clock, nudge) = (self.shared.ports.clock.clone(), self.nudge.clone());
        loop {
            if self.shared.is_stopping() && !self.writing {
                return Err(End::Stopped);
            }
            let look = clock.sleep_until(self.kept_at + KEEP_EVERY);
            let told = nudge.notified();
            match select(&mut work, pin!(select(look, pin!(told)))).await {
                Either::Left((done, _)) => return Ok(done),
                Either::Right(_) => self.keep().await?,
            }
        }
    }

    /// Keeps how far the job has come, and the lease. What somebody else changed meanwhile holds.
    async fn keep(&mut self) -> Result<(), End> {
        let shared = self.shared.clone();
        let mut failures = 0;
        loop {
            self.kept.job.runner = Some(shared.lease());
            let result = store::put(&*shared.ports.jobs, &self.kept).await;
            let error = match result {
                Ok(version) => {
                    self.kept.version = version;
                    self.kept_at = shared.ports.clock.monotonic();
                    return self.obey().await;
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Conflict {
                match store::get(&*shared.ports.jobs, self.kept.job.id).await {
                    Ok(there) => self.take_over(there).await?,
                    Err(error) if error.code() == ErrorCode::ReplayNotFound => return Err(End::Fenced),
                    Err(error) => tracing::warn!(job = %self.kept.job.id, %error, "cannot be kept for now"),
                }
            } else {
                tracing::warn!(job = %self.kept.job.id, %error, "cannot be kept for now");
            }
            if shared.is_stopping() {
                return Err(End::Stopped);
            }
            failures += 1;
            let pause = Duration::from_millis(20 << failures.min(6_u32));
            shared.ports.clock.sleep_until(shared.ports.clock.monotonic() + pause).await;
        }
    }

    /// Takes what is kept, with how far this run has come: that is the runner's alone.
    async fn take_over(&mut self, there: Kept) -> Result<(), End> {
        let mine = there.job.runner.is_some_and(|lease| lease.owner == self.shared.me);
        if !mine {
            return Err(End::Fenced);
        }
        let Job { progress, error, .. } = self.kept.job.clone();
        self.kept = Kept { job: Job { progress, error, ..there.job }, version: there.version };
        self.obey().await
    }

    /// Lets the job go where it is not to run any more, and nothing is being written.
    async fn obey(&mut self) -> Result<(), End> {
        if self.kept.job.state == State::Running || self.writing {
            return Ok(());
        }
        let (state, error) = (self.kept.job.state, self.kept.job.error.take());
        self.let_go(state, error.filter(|_| state == State::Paused)).await;
        Err(End::Told)
    }

    /// Writes the job for the last time in this run. Where that fails its lease lapses, and what is kept holds.
    async fn let_go(&mut self, state: State, error: Option<String>) {
        let shared = &self.shared;
        for _ in 0..5 {
            let job = &mut self.kept.job;
            job.state = state;
            job.error.clone_from(&error);
            job.runner = None;
            if state.is_over() || state == State::Failed {
                job.finished_at = job.finished_at.or(Some(shared.ports.clock.wall().0));
            }
            let put = store::put(&*shared.ports.jobs, &self.kept).await;
            let Err(failed) = put else { return };
            if failed.kind() == ErrorKind::Conflict {
                let Ok(there) = store::get(&*shared.ports.jobs, self.kept.job.id).await else { return };
                if there.job.runner.is_none_or(|lease| lease.owner != shared.me) {
                    return;
                }
                // Whatever somebody said meanwhile, all is written: there is nothing left to pause.
                let told = there.job.state != State::Running && !state.is_over();
                let progress = self.kept.job.progress.clone();
                let job = Job { progress, ..there.job };
                self.kept = Kept { version: there.version, job };
                if told {
                    let state = self.kept.job.state;
                    return Box::pin(self.let_go(state, None)).await;
                }
            } else {
                tracing::warn!(job = %self.kept.job.id, error = %failed, "cannot be kept for now");
                shared
                    .ports
                    .clock
                    .sleep_until(shared.ports.clock.monotonic() + Duration::from_millis(200))
                    .await;
            }
        }
    }
}

impl Shared {
    /// A lease of this replica, from now on.
    pub(super) fn lease(&self) -> Lease {
        let until = self.ports.clock.wall().0.saturating_add(LEASE.as_millis() as i64);
        Lease { owner: self.me, until }
    }
}
