//! A log whose appends do what a test scripts.

use async_trait::async_trait;
use ports::{
    AppendRequest, AppendResult, Capabilities, ErrorKind, EventLog, Header, LogReader, Offset, PartitionId,
    PortError, Position, Result, Retry, TopicName, TopicPartition,
};
use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::oneshot;

/// What becomes of one append.
#[derive(Debug)]
pub(crate) enum Append {
    /// It waits for this, then is passed on.
    After(oneshot::Receiver<()>),
    /// It fails so, with no effect.
    Fail(ErrorKind),
    /// It is appended and answered as failed, the effect unknown, and nothing is told later.
    Unknown,
    /// The process dies before it.
    CrashBefore,
    /// The process dies after it.
    CrashAfter,
    /// So many others are appended to each of its partitions, then it is, then the process dies.
    CrashBehind(usize),
    /// A replay copies it, then the process dies. The original is not there.
    CrashBesideReplay,
    /// The deadline passes. It is appended once this says so, or never where it says no.
    Late(oneshot::Receiver<bool>),
}

#[derive(Debug)]
pub(crate) struct ScriptedLog {
    inner: Arc<dyn EventLog>,
    scripts: Mutex<HashMap<String, VecDeque<Append>>>,
    /// The sizes of the appends, by topic.
    appends: Mutex<Vec<(String, usize)>>,
    pub(crate) opened: AtomicUsize,
    pub(crate) located: AtomicUsize,
    pub(crate) opening_crashes: AtomicUsize,
}

impl ScriptedLog {
    pub(crate) fn new(inner: Arc<dyn EventLog>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            scripts: Mutex::default(),
            appends: Mutex::default(),
            opened: AtomicUsize::new(0),
            located: AtomicUsize::new(0),
            opening_crashes: AtomicUsize::new(0),
        })
    }

    /// What the next appends to a topic do; further ones pass.
    pub(crate) fn script(&self, topic: &str, appends: impl IntoIterator<Item = Append>) {
        self.scripts.lock().unwrap().entry(topic.to_owned()).or_default().extend(appends);
    }

    /// Forgets what was scripted and did not happen.
    pub(crate) fn clear(&self, topic: &str) {
        self.scripts.lock().unwrap().remove(topic);
    }

    /// How many records each append to a topic had.
    pub(crate) fn appends(&self, topic: &str) -> Vec<usize> {
        let appends = self.appends.lock().unwrap();
        appends.iter().filter(|(of, _)| of == topic).map(|(_, size)| *size).collect()
    }
}

fn fail(kind: ErrorKind) -> PortError {
    let error = PortError::new(kind, "event_log.append", "failed as scripted");
    error.with_source(std::io::Error::other("the cause of it"))
}

fn all(count: usize, error: &PortError) -> AppendResult {
    AppendResult::complete((0..count).map(|_| Err(error.duplicate())).collect())
}

#[async_trait]
impl EventLog for ScriptedLog {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, mut request: AppendRequest) -> AppendResult {
        let topic = request.topic.to_string();
        let count = request.records.len();
        self.appends.lock().unwrap().push((topic.clone(), count));
        let script = self.scripts.lock().unwrap().get_mut(&topic).and_then(VecDeque::pop_front);
        match script {
            None => self.inner.append(request).await,
            Some(Append::After(gate)) => {
                gate.await.unwrap();
                self.inner.append(request).await
            }
            Some(Append::Fail(kind)) => {
                let outcomes = (0..count).map(|_| Err(fail(kind))).collect();
                AppendResult::complete(outcomes)
            }
            Some(Append::Unknown) => {
                self.inner.append(request).await;
                all(count, &fail(ErrorKind::Unavailable).effect_unknown())
            }
            Some(Append::CrashBefore) => pending().await,
            Some(Append::CrashAfter) => {
                self.inner.append(request).await;
                pending().await
            }
            Some(Append::CrashBehind(others)) => {
                let fillers = request.records.iter().flat_map(|(partition, record)| {
                    let mut filler = record.clone();
                    filler.headers.clear();
                    std::iter::repeat_n((*partition, filler), others)
                });
                let records = fillers.collect();
                let (topic, timeout) = (request.topic.clone(), request.timeout);
                self.inner.append(AppendRequest { topic, records, timeout }).await;
                self.inner.append(request).await;
                pending().await
            }
            Some(Append::CrashBesideReplay) => {
                for (_, record) in &mut request.records {
                    record.headers.push(Header::new("es_replay_id", "r-1"));
                }
                self.inner.append(request).await;
                pending().await
            }
            Some(Append::Late(appended)) => {
                let error = PortError::new(ErrorKind::Timeout, "event_log.append", "no answer in time");
                let inner = self.inner.clone();
                let mut answer = all(count, &error.effect_unknown());
                answer.late = Some(Box::pin(async move {
                    let outcomes = if appended.await.unwrap() {
                        inner.append(request).await.outcomes
                    } else {
                        let error = fail(ErrorKind::Unavailable).with_retry(Retry::Exhausted);
                        all(count, &error).outcomes
                    };
                    outcomes.into_iter().enumerate().collect()
                }));
                answer
            }
        }
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let crash = |left: usize| left.checked_sub(1);
        if self.opening_crashes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, crash).is_ok() {
            return pending().await;
        }
        self.inner.open(partition, from).await
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        self.located.fetch_add(1, Ordering::Relaxed);
        self.inner.locate(topic, at).await
    }
}
