//! The segmented log.
//!
//! The way of an append: [`append`] makes one frame for each partition of the request and hands them to
//! the [`committer`]s; the [`writer`] of a partition writes all frames that wait with one call and one sync,
//! publishes them to its [`partition`]'s view and reports to the [`call`]s. Readers ([`reader`]) see the
//! view alone: the latest frames out of memory, older ones out of [`segment`]s by way of their [`index`].
//! [`recovery`] makes a view out of what lies in a directory; the [`catalog`] keeps the topics.
//!
//! Files are reached through [`file`] only, whose test double loses power.

mod admin;
mod append;
mod call;
mod catalog;
mod committer;
mod dir_lock;
mod fault;
mod file;
mod frame;
mod index;
mod locate;
mod meta;
mod partition;
mod reader;
mod recovery;
mod segment;
mod settings;
mod topic;
mod writer;

#[cfg(test)]
mod tests;

pub use dir_lock::DirLock;

use catalog::Catalog;
use committer::Committers;
use file::{FileSystem, OsFileSystem};
use parking_lot::{Condvar, Mutex};
use partition::Surroundings;
use ports::{Clock, ErrorKind, PortError, Result};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::Semaphore;

const OPERATION: &str = "disk.open";

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// The directory that holds everything. It is made where it does not exist.
    pub data_dir: PathBuf,
    /// The bounds.
    pub limits: DiskLimits,
}

impl DiskConfig {
    /// A log in `data_dir` with the default bounds.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), limits: DiskLimits::default() }
    }
}

/// The bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// The most partitions that a topic may have.
    pub partitions_max: u32,
    /// The most bytes that wait to be written; who brings more waits, and is `Throttled` when its time is
    /// up. At most `u32::MAX`.
    pub queue_bytes_max: usize,
    /// The most bytes that one append may bring for one partition, and so the most that `max.message.bytes`
    /// may be set to. At most 1 GiB.
    pub frame_bytes_max: usize,
    /// The memory for the latest records of all partitions together, from which readers at the end are
    /// served.
    pub tail_bytes_max: usize,
    /// How many partitions are written and synced side by side, at least 1. More help where a disk syncs files
    /// in parallel and the load is spread over many partitions; else they make each sync cover less.
    pub committers: usize,
    /// How often retention is enforced.
    pub retention_interval: Duration,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self {
            partitions_max: 1024,
            queue_bytes_max: 16 << 20,
            frame_bytes_max: 16 << 20,
            tail_bytes_max: 8 << 20,
            committers: 1,
            retention_interval: Duration::from_secs(30),
        }
    }
}

/// A durable log in a directory of its own; `EventLog` and `TopicAdmin` of the embedded backend.
///
/// Clones are handles on the same log. When the last one is dropped, what was handed over is written, the
/// threads end, and the directory is free for the next. Its port calls need a Tokio runtime.
#[derive(Clone)]
pub struct DiskLog(Arc<Inner>);

struct Inner {
    catalog: Arc<Catalog>,
    committers: Arc<Committers>,
    /// Bytes that may still be queued.
    room: Arc<Semaphore>,
    limits: DiskLimits,
    data_dir: PathBuf,
    housekeeping: Arc<Housekeeping>,
    threads: Vec<JoinHandle<()>>,
    /// Given back last.
    lock: Option<Arc<DirLock>>,
}

impl DiskLog {
    /// Takes the lock on the data directory and opens the log in it.
    ///
    /// Returns once every partition's last segment is read and, after a crash, cut behind its last whole
    /// frame. A topic or partition that is damaged otherwise answers `Corrupt`; the others serve. Blocks
    /// while it reads.
    ///
    /// # Errors
    /// What [`DirLock::acquire`] gives; `Invalid` for bounds that make no sense; `Corrupt` or `Unavailable`
    /// where the directory itself cannot be read.
    #[allow(clippy::needless_pass_by_value, reason = "a configuration is made for one log")]
    pub fn open(config: DiskConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let lock = DirLock::acquire(&config.data_dir)?;
        Self::open_locked(lock, config.limits, clock)
    }

    /// Opens the log in a directory of which the caller has the lock already.
    ///
    /// # Errors
    /// As [`DiskLog::open`].
    pub fn open_locked(lock: Arc<DirLock>, limits: DiskLimits, clock: Arc<dyn Clock>) -> Result<Self> {
        let data_dir = lock.data_dir().to_owned();
        Self::start(Arc::new(OsFileSystem), data_dir, limits, clock, Some(lock))
    }

    /// The directory that holds everything.
    pub fn data_dir(&self) -> &Path {
        &self.0.data_dir
    }

    /// The lock on the directory, for what else lies there.
    pub fn dir_lock(&self) -> Option<Arc<DirLock>> {
        self.0.lock.clone()
    }

    /// Removes what is older or more than the topics' settings let it be. The log does so by itself, every
    /// [`DiskLimits::retention_interval`]; this does not wait for that.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt`, the first of all partitions; it is enforced on the others nevertheless.
    ///
    /// # Cancellation
    /// Dropping the future lets it go on in the background.
    pub async fn enforce_retention(&self) -> Result<()> {
        let catalog = self.0.catalog.clone();
        match tokio::task::spawn_blocking(move || catalog.enforce_retention()).await {
            Ok(enforced) => enforced.map_err(|fault| fault.of("disk.enforce_retention")),
            Err(error) => {
                Err(PortError::new(ErrorKind::Unavailable, "disk.enforce_retention", error.to_string()))
            }
        }
    }

    fn start(
        fs: Arc<dyn FileSystem>,
        data_dir: PathBuf,
        limits: DiskLimits,
        clock: Arc<dyn Clock>,
        lock: Option<Arc<DirLock>>,
    ) -> Result<Self> {
        check(&limits)?;
        let around = Arc::new(Surroundings { fs, clock, tail_bytes_max: AtomicUsize::new(0) });
        let catalog = Catalog::open(around, &data_dir, limits).map_err(|fault| fault.of(OPERATION))?;
        let catalog = Arc::new(catalog);
        let committers = Arc::new(Committers::default());
        let housekeeping = Arc::new(Housekeeping::default());
        let mut log = Inner {
            catalog: catalog.clone(),
            committers: committers.clone(),
            room: Arc::new(Semaphore::new(limits.queue_bytes_max)),
            limits,
            data_dir,
            housekeeping: housekeeping.clone(),
            threads: Vec::new(),
            lock,
        };
        // From here on a failure drops `log`, which ends the threads that run already.
        for number in 0..limits.committers {
            let committers = committers.clone();
            log.threads.push(spawn(format!("log-commit-{number}"), move || committers.run())?);
        }
        let interval = limits.retention_interval;
        let keeper = spawn("log-retention".to_owned(), move || {
            while housekeeping.wait(interval) {
                // What went wrong is logged, and tried again.
                let _ = catalog.enforce_retention();
            }
        })?;
        log.threads.push(keeper);
        Ok(Self(Arc::new(log)))
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.catalog.around.clock
    }
}

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskLog").field("data_dir", &self.0.data_dir).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.housekeeping.stop();
        self.committers.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// Tells the thread that enforces retention to end.
#[derive(Debug, Default)]
struct Housekeeping {
    stopping: Mutex<bool>,
    wake: Condvar,
}

impl Housekeeping {
    /// Waits for the next time; false when it is to end.
    fn wait(&self, interval: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping {
            self.wake.wait_for(&mut stopping, interval);
        }
        !*stopping
    }

    fn stop(&self) {
        *self.stopping.lock() = true;
        self.wake.notify_all();
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(run).map_err(|error| {
        PortError::new(ErrorKind::Unavailable, OPERATION, "could not start a thread").with_source(error)
    })
}

fn check(limits: &DiskLimits) -> Result<()> {
    let wrong = |what: &str| Err(PortError::new(ErrorKind::Invalid, OPERATION, what));
    if limits.committers == 0 || limits.partitions_max == 0 {
        return wrong("committers and partitions_max must be at least 1");
    }
    if !(1..=u32::MAX as usize).contains(&limits.queue_bytes_max) {
        return wrong("queue_bytes_max must be from 1 to 4294967295");
    }
    if !(1..=1 << 30).contains(&limits.frame_bytes_max) {
        return wrong("frame_bytes_max must be from 1 to 1073741824");
    }
    Ok(())
}
