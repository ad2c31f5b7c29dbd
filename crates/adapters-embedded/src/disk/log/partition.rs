//! One partition: what waits to be written, and what readers may see.
//!
//! Invariants:
//! - `view` holds only what is synced. It grows when a group commit is durable, before anyone is told.
//! - The segments of `view` are in order, the last one is written to, and each but the last ends where the
//!   next begins. `start` may lie inside the first.
//! - Whoever writes files of the partition holds `writer`. Locks are taken in the order `writer`, `view`;
//!   `queue` is taken alone.

use super::{
    call::Share,
    fault::Fault,
    file::FileSystem,
    frame::Records,
    index::{Entry, Index},
    segment::Segment,
    settings::Settings,
    writer::Writer,
};
use parking_lot::{Mutex, RwLock};
use ports::{Clock, ErrorKind, Offset, TopicPartition};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// What all partitions of a log share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How many bytes of its latest frames each partition keeps in memory.
    pub(crate) tail_bytes_max: AtomicUsize,
}

/// One partition of one topic.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) dir: PathBuf,
    pub(crate) around: Arc<Surroundings>,
    /// Those of its topic.
    pub(crate) settings: Arc<RwLock<Settings>>,
    queue: Mutex<Queue>,
    pub(super) writer: Mutex<Writer>,
    pub(super) view: Mutex<View>,
    progress: watch::Sender<Progress>,
}

/// What readers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) end: Offset,
    pub(crate) closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    shares: VecDeque<Share>,
    /// A committer has it, or will come for it.
    scheduled: bool,
    closed: bool,
}

/// What readers may see.
#[derive(Debug)]
pub(crate) struct View {
    /// The first offset that may be read.
    pub(super) start: Offset,
    /// Never empty.
    pub(super) segments: Vec<Held>,
    /// The index of the last segment. Its summary says where the log ends.
    pub(super) index: Index,
    tail: VecDeque<Records>,
    tail_bytes: usize,
    closed: bool,
}

/// A segment, and how much of it is there.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) segment: Arc<Segment>,
    pub(crate) len: u64,
}

/// Where to find an offset.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) segment: Arc<Segment>,
    /// The bytes of it that may be read.
    pub(crate) len: u64,
    /// The offset behind its last record that may be read.
    pub(crate) end: Offset,
    /// Where to begin, where the index is in memory.
    pub(crate) entry: Option<Entry>,
}

/// What a new partition object begins with: the outcome of a recovery.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) start: Offset,
    pub(crate) segments: Vec<Held>,
    pub(crate) index: Index,
}

/// The topic is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed;

impl Closed {
    /// As the answer about `partition`.
    #[allow(clippy::unused_self, reason = "reads as what it is: being closed, told of a partition")]
    pub(crate) fn fault(self, partition: &TopicPartition) -> Fault {
        Fault::new(ErrorKind::NotFound, format!("topic {} does not exist (any more)", partition.topic))
    }
}

impl Partition {
    /// The partition of `dir` as `recovered`, of which the last segment is synced and ends with its last
    /// whole frame.
    pub(crate) fn new(
        name: TopicPartition,
        dir: PathBuf,
        around: Arc<Surroundings>,
        settings: Arc<RwLock<Settings>>,
        recovered: Recovered,
    ) -> Self {
        let Recovered { start, segments, index } = recovered;
        let last =
            segments.last().map_or_else(|| Arc::new(Segment::new(&dir, start)), |held| held.segment.clone());
        let end = index.summary.end;
        Self {
            name,
            dir,
            around,
            settings,
            queue: Mutex::default(),
            writer: Mutex::new(Writer::new(last, index.summary.len, end)),
            view: Mutex::new(View {
                start,
                segments,
                index,
                tail: VecDeque::new(),
                tail_bytes: 0,
                closed: false,
            }),
            progress: watch::Sender::new(Progress { end, closed: false }),
        }
    }

    /// Puts a share into the queue. Says whether a committer has to be told, and gives the share back when
    /// the partition is closed.
    pub(crate) fn enqueue(&self, share: Share) -> Result<bool, Share> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(share);
        }
        queue.shares.push_back(share);
        Ok(!std::mem::replace(&mut queue.scheduled, true))
    }

    /// Takes what waits, up to about `bytes_max`.
    pub(crate) fn dequeue(&self, bytes_max: u64) -> VecDeque<Share> {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        let fits = queue.shares.iter().take_while(|share| {
            bytes += share.len();
            bytes <= bytes_max
        });
        let count = fits.count().max(1).min(queue.shares.len());
        if count == queue.shares.len() {
            return std::mem::take(&mut queue.shares);
        }
        queue.shares.drain(..count).collect()
    }

    /// Whether there is more, so that a committer must come again.
    pub(crate) fn reschedule(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.scheduled = !queue.shares.is_empty();
        queue.scheduled
    }

    /// The first offset that may be read, and the one behind the last.
    pub(crate) fn bounds(&self) -> Result<(Offset, Offset), Closed> {
        let view = self.view.lock();
        if view.closed { Err(Closed) } else { Ok((view.start, view.end())) }
    }

    /// Learns of new records and of the end of the topic.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Where the record of `offset` lies, which must be before the end.
    pub(crate) fn place(&self, offset: Offset) -> Result<Place, Fault> {
        let view = self.view.lock();
        let behind = view.segments.partition_point(|held| held.segment.base <= offset);
        let Some(held) = behind.checked_sub(1).and_then(|at| view.segments.get(at)) else {
            let missing = Segment::new(&self.dir, view.start);
            return Err(Fault::corrupt(
                &missing.path,
                0,
                &format!("the segment that holds offset {offset} is missing"),
            ));
        };
        let (segment, len) = (held.segment.clone(), held.len);
        Ok(match view.segments.get(behind) {
            Some(next) => Place { segment, len, end: next.segment.base, entry: None },
            None => Place { segment, len, end: view.end(), entry: view.index.at_offset(offset) },
        })
    }

    /// The segments that hold `start` and all that follows, and where to begin in the last one for a time.
    pub(crate) fn places_by_time(&self, timestamp: i64) -> Vec<Place> {
        let view = self.view.lock();
        let mut places = Vec::with_capacity(view.segments.len());
        for (at, held) in view.segments.iter().enumerate() {
            let (segment, len) = (held.segment.clone(), held.len);
            places.push(match view.segments.get(at + 1) {
                Some(next) => Place { segment, len, end: next.segment.base, entry: None },
                None => Place { segment, len, end: view.end(), entry: view.index.at_time(timestamp) },
            });
        }
        places
    }

    /// The records from `offset` on, up to about `bytes_max`, where they are still in memory.
    pub(crate) fn tail(&self, offset: Offset, bytes_max: usize) -> VecDeque<Records> {
        let view = self.view.lock();
        if view.tail.front().is_none_or(|first| first.next() > offset) {
            return VecDeque::new();
        }
        let first = view.tail.partition_point(|records| records.end() <= offset);
        let mut bytes = 0;
        let wanted = view.tail.iter().skip(first).take_while(|records| {
            let before = bytes;
            bytes += records.len();
            before < bytes_max
        });
        wanted.cloned().collect()
    }

    /// Makes what is synced visible and wakes who waits for it.
    pub(super) fn publish(&self, written: impl Iterator<Item = super::frame::Frame>) {
        let tail_bytes_max = self.around.tail_bytes_max.load(Ordering::Relaxed);
        let mut view = self.view.lock();
        for frame in written {
            view.index.push(&frame.header);
            let records = frame.into_records();
            view.tail_bytes += records.len();
            view.tail.push_back(records);
        }
        while view.tail_bytes > tail_bytes_max {
            let Some(oldest) = view.tail.pop_front() else { break };
            view.tail_bytes -= oldest.len();
        }
        let (len, end) = (view.index.summary.len, view.end());
        if let Some(last) = view.segments.last_mut() {
            last.len = len;
        }
        drop(view);
        self.progress.send_modify(|progress| progress.end = end);
    }

    /// Ends the partition: appends and reads answer that the topic does not exist. What is being written
    /// is awaited.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.shares)
        };
        for share in waiting {
            share.ticket.report(Err(Closed.fault(&self.name)));
        }
        let _writer = self.writer.lock();
        let mut view = self.view.lock();
        view.closed = true;
        view.tail.clear();
        view.tail_bytes = 0;
        drop(view);
        self.progress.send_modify(|progress| progress.closed = true);
    }
}

impl View {
    /// The offset behind the last record.
    pub(super) fn end(&self) -> Offset {
        self.index.summary.end
    }

    /// Moves the start and takes out the segments that end before it.
    pub(super) fn advance_start(&mut self, to: Offset) -> Vec<Held> {
        self.start = self.start.max(to);
        let gone = self.segments.windows(2).take_while(|pair| pair[1].segment.base <= to).count();
        while self.tail.front().is_some_and(|records| records.end() <= to) {
            if let Some(oldest) = self.tail.pop_front() {
                self.tail_bytes -= oldest.len();
            }
        }
        self.segments.drain(..gone).collect()
    }
}
