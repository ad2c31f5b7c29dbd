//! A job as it is kept, and as it is shown.

use crate::error::{Error, ErrorCode, Result};
use bytes::Bytes;
use ports::{Offset, PartitionId, Timestamp, TopicName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Events of a topic are written once more.
    Replay,
    /// Dead letters are given back to their subscription.
    Redrive,
}

impl Kind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Redrive => "redrive",
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It goes on, at the replica that has its lease; where none has, at the first that takes it.
    Running,
    /// Somebody paused it.
    Paused,
    /// It came to its end.
    Completed,
    /// It cannot go on, for the reason in its error; once that is mended it can be resumed.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl State {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it never changes again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Where events are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A topic: each event to the partition that it has where it is the topic that it is read from, else to the
    /// one that the topic's own rule gives.
    Topic(String),
    /// One subscription, whose handlers are given the events beside its own, however often they were given them
    /// before; its own progress stays as it is.
    Subscription {
        /// Its name.
        name: String,
        /// What tells it from another one that is given its name.
        uid: Uuid,
    },
}

impl Target {
    /// The topic, where it is one.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(topic) => Some(topic),
            Self::Subscription { .. } => None,
        }
    }

    /// The subscription, where it is one.
    pub fn subscription(&self) -> Option<&str> {
        match self {
            Self::Topic(_) => None,
            Self::Subscription { name, .. } => Some(name),
        }
    }
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The topic that is read.
    pub topic: String,
    /// What tells it from another one that is given its name.
    pub topic_id: String,
    /// Events before this time, in epoch milliseconds, are left out.
    pub since: Option<i64>,
    /// Events of this time or later are left out.
    pub until: Option<i64>,
    /// Which of the others are wanted: all of them where nothing is said.
    pub filter: Option<String>,
    /// The filter of the subscription that they go to, as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_filter: Option<String>,
    /// The offsets of those that are meant, where not all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeMap<PartitionId, BTreeSet<Offset>>>,
    /// Where they go.
    pub target: Target,
    /// The most events of a second.
    pub rate_per_second: Option<u64>,
    /// The most bytes of a second.
    pub bytes_per_second: Option<u64>,
    /// At the pace at which they were made, so many times as fast.
    pub speed: Option<f64>,
    /// The most events that are written at once, and so the most that are written twice after a crash.
    pub batch_size: usize,
}

/// The part of a partition that a job reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its first offset.
    pub from: Offset,
    /// The offset behind its last one.
    pub to: Offset,
    /// Everything before it is done.
    pub next: Offset,
    /// Offsets of what was asked for that retention had deleted, or the log had lost.
    #[serde(default)]
    pub gone: u64,
}

/// How far a job has come. Only its runner changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Events that were read.
    pub read: u64,
    /// Those of them that were wanted.
    pub matched: u64,
    /// Those of them that were written.
    pub written: u64,
    /// Events of which the filter could not tell whether they are wanted; they are not.
    #[serde(default)]
    pub filter_errors: u64,
    /// By partition.
    pub partitions: BTreeMap<PartitionId, Span>,
}

impl Progress {
    /// How many offsets there are to read in all.
    pub fn total(&self) -> u64 {
        self.partitions.values().map(|span| span.to.saturating_sub(span.from)).sum()
    }
}

/// Who runs a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    /// The replica.
    pub(super) owner: Uuid,
    /// Until when others leave it alone, in epoch milliseconds.
    pub(super) until: i64,
}

/// How a job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Offsets read in a second, since it was begun.
    pub per_second: u64,
    /// When it ends, if it goes on so.
    pub ends_at: Timestamp,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub kind: Kind,
    /// What it does.
    pub task: Task,
    /// Where it stands.
    pub state: State,
    /// How far it has come.
    pub progress: Progress,
    pub(super) started_at: i64,
    pub(super) finished_at: Option<i64>,
    /// Why it failed; while it runs, what it waits for.
    pub error: Option<String>,
    pub(super) runner: Option<Lease>,
}

impl Job {
    /// When it was made.
    pub fn started_at(&self) -> Timestamp {
        Timestamp(self.started_at)
    }

    /// When it came to its end.
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.finished_at.map(Timestamp)
    }

    /// How fast a job that runs reads, on the whole, and when it ends if it goes on so. `None` where that is not
    /// known.
    pub fn outlook(&self, now: Timestamp) -> Option<Outlook> {
        let seconds = now.0.checked_sub(self.started_at).filter(|millis| *millis > 0)? as f64 / 1000.0;
        let per_offset =
            |span: &Span| (span.next.saturating_sub(span.from), span.to.saturating_sub(span.next));
        let (done, left) =
            self.progress.partitions.values().map(per_offset).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        if self.state != State::Running || done == 0 {
            return None;
        }
        let rate = done as f64 / seconds;
        let ends_at = Timestamp(now.0.saturating_add((left as f64 / rate * 1000.0) as i64));
        Some(Outlook { per_second: rate.round() as u64, ends_at })
    }

    /// The topic that is read.
    ///
    /// # Errors
    /// What is kept is not what was written.
    pub(super) fn topic(&self) -> Result<TopicName> {
        TopicName::new(&self.task.topic).map_err(|error| damaged(&self.id.to_string(), error))
    }

    pub(super) fn encode(&self) -> Result<Bytes> {
        let bytes = serde_json::to_vec(self);
        bytes
            .map(Bytes::from)
            .map_err(|error| Error::new(ErrorCode::Internal, format!("a job cannot be written: {error}")))
    }

    pub(super) fn decode(name: &str, value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|error| damaged(name, error))
    }
}

fn damaged(name: &str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::Internal, format!("the stored job `{name}` cannot be read: {error}"))
}
