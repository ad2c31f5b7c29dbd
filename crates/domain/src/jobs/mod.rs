//! Jobs: what takes long, survives the process that does it, and can be watched, paused and ended.
//!
//! A job is a document in the store that all replicas share. One replica runs it under a lease; when that lapses,
//! because its process died, another takes it, and goes on where it was kept. A replay, or a redrive of dead letters
//! ([`redrive`]), reads spans of a topic's
//! partitions ([`source`]), takes out what is wanted ([`sieve`]), and writes it ([`sink`]) at its pace ([`pace`]),
//! batch by batch ([`run`]).
//!
//! Invariants:
//! 1. What is kept of a partition never passes an event of the range that is wanted and was not written: a job that
//!    is completed has written all of them, whatever died in between.
//! 2. A batch is written only after the one before it was kept, so that after a crash at most one is written twice.
//! 3. How far a job has come is changed by the holder of its lease alone, and what it is to do by everybody else
//!    alone, both by compare-and-set: neither undoes the other. Who lost the lease is fenced at the next batch.
//! 4. The range is fixed when the job is made.
//! 5. Memory has a bound, whatever the size of the range.

mod job;
mod pace;
mod redrive;
mod request;
mod run;
mod sieve;
mod sink;
pub(crate) mod source;
mod store;
mod trial;

pub use job::{Job, Kind, Outlook, Progress, Span, State, Target, Task};
pub use redrive::NewRedrive;
pub use request::{Bound, NewReplay};
pub use sink::header;
pub use trial::Trial;

use crate::{
    dead_letters::DeadLetters,
    error::{Error, ErrorCode, Result},
    event_schemas::EventSchemas,
    limits::Limits,
    publish::Publisher,
    subscriptions::Subscriptions,
    topics::Topics,
};
use parking_lot::Mutex;
use ports::{Clock, EventLog, JobStore, Monotonic, Timestamp};
use run::{LEASE, Runner};
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::Kept;
use tokio::{sync::Notify, task::JoinSet};
use uuid::Uuid;

/// How often it is looked for jobs that nobody runs.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often somebody who waits for a job looks at it.
const WAIT_EVERY: Duration = Duration::from_millis(100);

/// What jobs need of the outside.
#[derive(Clone, Debug)]
pub struct JobPorts {
    /// Reads and writes events.
    pub log: Arc<dyn EventLog>,
    /// Keeps jobs.
    pub jobs: Arc<dyn JobStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What jobs talk to within the service.
#[derive(Clone, Debug)]
pub struct JobServices {
    /// Knows which partition an event of a topic goes to.
    pub publisher: Arc<Publisher>,
    /// Knows topics.
    pub topics: Arc<Topics>,
    /// Have queues.
    pub subscriptions: Arc<Subscriptions>,
    /// Knows dead letters, and what became of them.
    pub dead_letters: Arc<DeadLetters>,
    /// Reads values by their schemas.
    pub schemas: Option<Arc<EventSchemas>>,
}

/// How jobs work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsConfig {
    /// How long a job that came to its end is kept.
    pub keep_finished: Duration,
    /// The most jobs that have not come to their end.
    pub open_max: usize,
    /// Whether other replicas share the store: a job that somebody runs is left to them until its lease lapses.
    pub shared: bool,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self { keep_finished: Duration::from_secs(7 * 24 * 3600), open_max: 100, shared: false }
    }
}

/// What all runs of a replica share.
#[derive(Debug)]
struct Shared {
    ports: JobPorts,
    services: JobServices,
    limits: Arc<Limits>,
    config: JobsConfig,
    /// This replica, as long as it lives.
    me: Uuid,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Running {
    nudges: HashMap<Uuid, Arc<Notify>>,
    tasks: JoinSet<()>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// The jobs of all replicas, and those that this one runs. Dropping it cuts these off where they are.
#[derive(Debug)]
pub struct Jobs {
    shared: Arc<Shared>,
    running: Arc<Mutex<Running>>,
}

impl Jobs {
    /// Jobs that read and write the log of `ports`.
    pub fn new(ports: JobPorts, services: JobServices, limits: Arc<Limits>, config: JobsConfig) -> Arc<Self> {
        let shared =
            Shared { ports, services, limits, config, me: Uuid::new_v4(), stopping: AtomicBool::new(false) };
        Arc::new(Self { shared: Arc::new(shared), running: Arc::default() })
    }

    /// Takes up what a process of before left, and goes on to look for what nobody runs, as long as this is there.
    ///
    /// # Errors
    /// What the store of documents says: nothing runs then.
    pub async fn start(self: &Arc<Self>) -> Result<()> {
        self.look(true).await?;
        tokio::spawn(watch(Arc::downgrade(self), self.shared.ports.clock.clone()));
        Ok(())
    }

    /// Makes a replay and begins it.
    ///
    /// # Errors
    /// `invalid_request` with the field; `topic_not_found`; `conflict` where the same replay is under way already,
    /// or too many jobs are.
    pub async fn replay(&self, new: NewReplay) -> Result<Job> {
        let shared = &self.shared;
        let (task, progress) = new.decide(&shared.ports, &shared.services, &shared.limits).await?;
        self.begin(Kind::Replay, task, progress).await
    }

    /// Reads what a replay would, writes nothing, and says what it would write.
    ///
    /// # Errors
    /// As [`Self::replay`]; `Unavailable` where the log, or the registry of schemas, does not serve.
    pub async fn try_replay(&self, new: NewReplay) -> Result<Trial> {
        let shared = &self.shared;
        let (task, progress) = new.decide(&shared.ports, &shared.services, &shared.limits).await?;
        trial::run(shared, Kind::Replay, &task, &progress).await
    }

    /// Begins to redrive dead letters of a subscription.
    ///
    /// # Errors
    /// `invalid_request` with the field; `subscription_not_found`; `dead_letter_not_found` with the id as its field;
    /// `conflict` where the same is under way already, or too many jobs are.
    pub async fn redrive(&self, subscription: &str, new: NewRedrive) -> Result<Job> {
        let services = &self.shared.services;
        let decided = new.decide(subscription, &services.dead_letters, &services.subscriptions).await?;
        self.begin(Kind::Redrive, decided.0, decided.1).await
    }

    /// Reads what a redrive would, queues nothing, and says what it would queue.
    ///
    /// # Errors
    /// As [`Self::redrive`]; `Unavailable` where the log, or the registry of schemas, does not serve.
    pub async fn try_redrive(&self, subscription: &str, new: NewRedrive) -> Result<Trial> {
        let services = &self.shared.services;
        let (task, progress) =
            new.decide(subscription, &services.dead_letters, &services.subscriptions).await?;
        trial::run(&self.shared, Kind::Redrive, &task, &progress).await
    }

    async fn begin(&self, kind: Kind, task: Task, progress: Progress) -> Result<Job> {
        let shared = &self.shared;
        if shared.is_stopping() {
            return Err(Error::new(ErrorCode::Unavailable, "the service stops"));
        }
        let open: Vec<_> = store::list(&*shared.ports.jobs)
            .await?
            .into_iter()
            .filter(|kept| !kept.job.state.is_over())
            .collect();
        if let Some(same) = open.iter().find(|kept| is_same(&kept.job, kind, &task, &progress)) {
            let (id, state) = (same.job.id, same.job.state.as_str());
            let detail = format!("job `{id}` does the same and is {state}; wait for it, or cancel it first");
            return Err(Error::new(ErrorCode::Conflict, detail));
        }
        if open.len() >= shared.config.open_max {
            let most = shared.config.open_max;
            let detail =
                format!("{most} jobs have not come to their end, which is the most there may be; cancel one");
            return Err(Error::new(ErrorCode::Conflict, detail));
        }
        let job = Job {
            id: new_id(shared.ports.clock.wall()),
            kind,
            task,
            state: State::Running,
            progress,
            started_at: shared.ports.clock.wall().0,
            finished_at: None,
            error: None,
            runner: Some(shared.lease()),
        };
        let kept = store::create(&*shared.ports.jobs, job).await?;
        let job = kept.job.clone();
        self.run(kept);
        Ok(job)
    }

    /// The time by which jobs are made and come to their end.
    pub fn now(&self) -> Timestamp {
        self.shared.ports.clock.wall()
    }

    /// All jobs, the latest first.
    pub async fn list(&self) -> Result<Vec<Job>> {
        let mut jobs: Vec<Job> =
            store::list(&*self.shared.ports.jobs).await?.into_iter().map(|kept| kept.job).collect();
        jobs.sort_by_key(|job| (std::cmp::Reverse(job.started_at), job.id));
        Ok(jobs)
    }

    /// One job.
    ///
    /// # Errors
    /// `replay_not_found`.
    pub async fn get(&self, id: &str) -> Result<Job> {
        Ok(store::get(&*self.shared.ports.jobs, read_id(id)?).await?.job)
    }

    /// Waits until a job does not run any more, but not longer than `patience`, and shows it.
    ///
    /// # Errors
    /// `replay_not_found`.
    pub async fn wait(&self, id: &str, patience: Duration) -> Result<Job> {
        let clock = &self.shared.ports.clock;
        let until = clock.monotonic() + patience;
        loop {
            let job = self.get(id).await?;
            let now = clock.monotonic();
            if job.state != State::Running || now >= until {
                return Ok(job);
            }
            clock.sleep_until((now + WAIT_EVERY).min(until)).await;
        }
    }

    /// Has a job rest. What it is writing is written to its end. A job that rests already stays as it is.
    ///
    /// # Errors
    /// `replay_not_found`; `conflict` where it has come to its end.
    pub async fn pause(&self, id: &str) -> Result<Job> {
        self.tell(id, State::Paused, |state| matches!(state, State::Running)).await
    }

    /// Has a job that rests, or failed, go on where it was.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn resume(&self, id: &str) -> Result<Job> {
        let job =
            self.tell(id, State::Running, |state| matches!(state, State::Paused | State::Failed)).await?;
        self.look(false).await?;
        Ok(job)
    }

    /// Ends a job. What it wrote stays.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn cancel(&self, id: &str) -> Result<Job> {
        self.tell(id, State::Cancelled, |state| !state.is_over()).await
    }

    async fn tell(&self, id: &str, to: State, from: impl Fn(State) -> bool) -> Result<Job> {
        let id = read_id(id)?;
        let now = self.shared.ports.clock.wall().0;
        let kept = store::change(&*self.shared.ports.jobs, id, |job| {
            if job.state == to {
                return Ok(());
            }
            if !from(job.state) {
                let (is, wanted) = (job.state.as_str(), to.as_str());
                let detail = format!("the job is {is}, and cannot become {wanted} from there");
                return Err(Error::new(ErrorCode::Conflict, detail));
            }
            job.state = to;
            job.finished_at = (to == State::Cancelled).then_some(now);
            if to == State::Running {
                job.error = None;
            }
            Ok(())
        })
        .await?;
        if let Some(nudge) = self.running.lock().nudges.get(&id) {
            nudge.notify_one();
        }
        Ok(kept.job)
    }

    /// Stops running jobs: each writes its batch to the end, and is left for whoever takes it next. What has not
    /// come so far by `deadline` is cut off, and loses nothing but its place in the batch.
    pub async fn shutdown(&self, deadline: Monotonic) {
        self.shared.stopping.store(true, Ordering::Release);
        let mut tasks = {
            let mut running = self.running.lock();
            running.nudges.values().for_each(|nudge| nudge.notify_one());
            std::mem::take(&mut running.tasks)
        };
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = self.shared.ports.clock.sleep_until(deadline) => {}
        }
    }

    /// Runs what nobody runs, and forgets what has been kept long enough. `first`: this process has just begun.
    async fn look(&self, first: bool) -> Result<()> {
        let shared = &self.shared;
        for kept in store::list(&*shared.ports.jobs).await? {
            let now = shared.ports.clock.wall().0;
            let Kept { job, .. } = &kept;
            if job.state.is_over() {
                let keep = shared.config.keep_finished.as_millis() as i64;
                if job.finished_at.is_some_and(|at| at.saturating_add(keep) < now) {
                    store::forget(&*shared.ports.jobs, &kept).await?;
                }
                continue;
            }
            let is_ours = self.running.lock().nudges.contains_key(&job.id);
            let is_free = match job.runner {
                None => true,
                // Where nobody else is, whoever had it is dead.
                Some(_) if !shared.config.shared && first => true,
                Some(lease) => lease.until < now && (lease.owner != shared.me || !is_ours),
            };
            if job.state == State::Running && is_free && !is_ours && !shared.is_stopping() {
                let lease = shared.lease();
                if let Some(kept) = store::claim(&*shared.ports.jobs, kept, lease).await? {
                    self.run(kept);
                }
            }
        }
        Ok(())
    }

    fn run(&self, kept: Kept) {
        let (id, nudge) = (kept.job.id, Arc::new(Notify::new()));
        let runner = Runner::new(self.shared.clone(), kept, nudge.clone());
        let of = Arc::downgrade(&self.running);
        let mut running = self.running.lock();
        running.nudges.insert(id, nudge);
        while running.tasks.try_join_next().is_some() {}
        running.tasks.spawn(async move {
            runner.run().await;
            if let Some(running) = of.upgrade() {
                running.lock().nudges.remove(&id);
            }
        });
    }
}

/// Whether an open job does what is asked for.
fn is_same(job: &Job, kind: Kind, task: &Task, progress: &Progress) -> bool {
    let spans = |of: &Progress| -> Vec<_> {
        of.partitions.iter().map(|(p, span)| (*p, span.from, span.to)).collect()
    };
    job.kind == kind && job.task == *task && spans(&job.progress) == spans(progress)
}

/// An id that sorts by when it was made.
fn new_id(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.0).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

fn read_id(id: &str) -> Result<Uuid> {
    let not_found = |_| {
        let shown = crate::error::short(id);
        Error::new(ErrorCode::ReplayNotFound, format!("there is no job `{shown}`"))
    };
    Uuid::parse_str(id).map_err(not_found)
}

async fn watch(jobs: Weak<Jobs>, clock: Arc<dyn Clock>) {
    debug_assert!(LOOK_EVERY < LEASE, "what a dead replica ran is found soon");
    let mut readable = true;
    loop {
        clock.sleep_until(clock.monotonic() + LOOK_EVERY).await;
        let Some(jobs) = jobs.upgrade() else { return };
        if jobs.shared.is_stopping() {
            return;
        }
        let looked = jobs.look(false).await;
        // Said when it changes, not every time.
        if let Err(error) = &looked
            && readable
        {
            tracing::warn!(%error, "the jobs cannot be read for now");
        }
        readable = looked.is_ok();
    }
}
