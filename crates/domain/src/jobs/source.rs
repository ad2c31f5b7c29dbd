//! Reads spans of a topic's partitions, a batch at a time.
//!
//! Invariants:
//! - What is taken of a partition is in order, and `next` moves behind it and behind gaps alone: nothing of a span is
//!   passed over but what the log does not hold any more, and that is counted.
//! - At most one read a partition lies in memory beside what was taken, and reads share [`BYTES_MAX`].

use super::job::Span;
use crate::error::Result;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use ports::{
    ErrorKind, EventLog, Fetched, LogReader, Offset, PartitionId, PortError, Position, ReadLimits,
    StoredRecord, Timestamp, TopicName, TopicPartition,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// So many partitions are read at a time where their order in time does not matter.
const OPEN_MAX: usize = 8;
/// What reads may bring in all, about.
const BYTES_MAX: usize = 16 << 20;
/// The least that one read may bring.
const READ_BYTES_MIN: usize = 64 << 10;
/// How long a read waits for what should be there. Then it is looked whether the log was cut.
const WAIT: Duration = Duration::from_secs(2);

/// What was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The events, in order within each partition.
    pub(crate) events: Vec<(PartitionId, StoredRecord)>,
    /// How far each partition that something was taken of has come.
    pub(crate) next: Vec<(PartitionId, Offset)>,
    /// What turned out to be gone, by partition.
    pub(crate) gone: Vec<(PartitionId, u64)>,
}

type Read = BoxFuture<'static, (PartitionId, Option<Box<dyn LogReader>>, Result<Outcome, PortError>)>;

enum Outcome {
    Fetched(Fetched),
    /// Retention was faster.
    Begins(Offset),
    /// The log ends before the span does.
    Ends(Offset),
}

struct Lane {
    /// Behind what was taken.
    next: Offset,
    to: Offset,
    /// Behind what was read.
    position: Offset,
    buffer: VecDeque<StoredRecord>,
    /// At rest while no read is under way.
    reader: Option<Box<dyn LogReader>>,
    reading: bool,
}

impl Lane {
    fn is_read(&self) -> bool {
        self.position >= self.to
    }
}

/// Reads a topic's spans.
pub(crate) struct Source {
    log: Arc<dyn EventLog>,
    topic: TopicName,
    in_time: bool,
    read_limits: ReadLimits,
    lanes: BTreeMap<PartitionId, Lane>,
    /// What is not read yet.
    waiting: VecDeque<(PartitionId, Span)>,
    reads: FuturesUnordered<Read>,
    gone: Vec<(PartitionId, u64)>,
    /// How far partitions have come of which nothing is left to take.
    passed: Vec<(PartitionId, Offset)>,
}

impl Source {
    /// Reads what is left of `spans`; with `in_time`, so that the events of all partitions can be taken by their time.
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        topic: TopicName,
        spans: &BTreeMap<PartitionId, Span>,
        in_time: bool,
        batch_max: usize,
    ) -> Self {
        let waiting: VecDeque<_> =
            spans.iter().filter(|(_, span)| span.next < span.to).map(|(p, span)| (*p, *span)).collect();
        let at_once = if in_time { waiting.len() } else { waiting.len().min(OPEN_MAX) }.max(1);
        let read_limits = ReadLimits {
            records_max: batch_max,
            bytes_max: (BYTES_MAX / at_once).max(READ_BYTES_MIN),
            wait_max: WAIT,
        };
        Self {
            log,
            topic,
            in_time,
            read_limits,
            lanes: BTreeMap::new(),
            waiting,
            reads: FuturesUnordered::new(),
            gone: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Waits until something can be taken. False when all was taken.
    ///
    /// # Errors
    /// The log's. After a transient one the same call goes on.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(crate) async fn ready(&mut self) -> Result<bool, PortError> {
        loop {
            self.begin_reads();
            let lanes = self.lanes.values();
            let is_ready = if self.in_time {
                let mut lanes = lanes.peekable();
                lanes.peek().is_some() && lanes.all(|lane| !lane.buffer.is_empty())
            } else {
                lanes.into_iter().any(|lane| !lane.buffer.is_empty())
            };
            if is_ready {
                return Ok(true);
            }
            match self.reads.next().await {
                Some(read) => self.found(read)?,
                // What was passed over at the very end is to be known too.
                None => return Ok(!self.passed.is_empty() || !self.gone.is_empty()),
            }
        }
    }

    /// The time of the event that is to be taken first, in time.
    pub(crate) fn first_time(&self) -> Option<Timestamp> {
        self.lanes.values().filter_map(|lane| lane.buffer.front()).map(|of| of.record.timestamp).min()
    }

    /// Takes what is there, up to so many events and bytes, but at least one event. With `in_time` in the order of
    /// their times, as far as they are not later than `until`.
    pub(crate) fn take(&mut self, events_max: usize, bytes_max: usize, until: Timestamp) -> Taken {
        let mut taken = Taken { gone: std::mem::take(&mut self.gone), ..Taken::default() };
        taken.next.append(&mut self.passed);
        let mut bytes = 0;
        if self.in_time {
            self.take_in_time(&mut taken, events_max, bytes_max, until);
        } else {
            'lanes: for (partition, lane) in &mut self.lanes {
                while let Some(record) = lane.buffer.front() {
                    let size = record.record.size();
                    if !taken.events.is_empty()
                        && (taken.events.len() >= events_max || bytes + size > bytes_max)
                    {
                        break 'lanes;
                    }
                    bytes += size;
                    taken.events.extend(lane.buffer.pop_front().map(|record| (*partition, record)));
                }
            }
        }
        // Behind the last one of each partition.
        let behind: BTreeMap<PartitionId, Offset> =
            taken.events.iter().map(|(partition, record)| (*partition, record.offset + 1)).collect();
        self.lanes.retain(|partition, lane| {
            let was = lane.next;
            lane.next = lane.next.max(behind.get(partition).copied().unwrap_or_default());
            if lane.buffer.is_empty() {
                // Behind a gap as soon as all before it was taken.
                lane.next = lane.next.max(lane.position.min(lane.to));
            }
            if lane.next > was {
                taken.next.push((*partition, lane.next));
            }
            !(lane.buffer.is_empty() && lane.is_read())
        });
        taken
    }

    fn take_in_time(&mut self, taken: &mut Taken, events_max: usize, bytes_max: usize, until: Timestamp) {
        let mut bytes = 0;
        loop {
            // A lane that has nothing now may have an earlier event than the others in its next read.
            if self.lanes.values().any(|lane| lane.buffer.is_empty() && !lane.is_read()) {
                break;
            }
            let first = self.lanes.iter_mut().filter(|(_, lane)| !lane.buffer.is_empty());
            let Some((partition, lane)) =
                first.min_by_key(|(_, lane)| lane.buffer.front().map(|of| of.record.timestamp))
            else {
                break;
            };
            let Some(record) = lane.buffer.front() else { break };
            let size = record.record.size();
            let full = taken.events.len() >= events_max || bytes + size > bytes_max;
            if !taken.events.is_empty() && (full || record.record.timestamp > until) {
                break;
            }
            bytes += size;
            taken.events.extend(lane.buffer.pop_front().map(|record| (*partition, record)));
        }
    }

    fn begin_reads(&mut self) {
        while let Some((partition, span)) = self.waiting.front().copied() {
            if !self.in_time && self.lanes.len() >= OPEN_MAX {
                break;
            }
            self.waiting.pop_front();
            let lane = Lane {
                next: span.next,
                to: span.to,
                position: span.next,
                buffer: VecDeque::new(),
                reader: None,
                reading: false,
            };
            self.lanes.insert(partition, lane);
        }
        for (partition, lane) in &mut self.lanes {
            if lane.reading || !lane.buffer.is_empty() || lane.is_read() {
                continue;
            }
            lane.reading = true;
            let place = TopicPartition::new(self.topic.clone(), *partition);
            let (log, reader, limits) = (self.log.clone(), lane.reader.take(), self.read_limits);
            self.reads.push(read(log, place, reader, lane.position, lane.to, limits).boxed());
        }
    }

    fn found(
        &mut self,
        (partition, reader, outcome): (PartitionId, Option<Box<dyn LogReader>>, Result<Outcome, PortError>),
    ) -> Result<(), PortError> {
        let Some(lane) = self.lanes.get_mut(&partition) else { return Ok(()) };
        lane.reading = false;
        lane.reader = reader;
        match outcome? {
            Outcome::Fetched(fetched) => {
                let to = lane.to;
                lane.buffer.extend(fetched.records.into_iter().filter(|record| record.offset < to));
                lane.position = lane.position.max(fetched.next);
            }
            Outcome::Begins(earliest) => {
                let begins = earliest.min(lane.to);
                self.gone.push((partition, begins.saturating_sub(lane.position)));
                lane.position = lane.position.max(begins);
                lane.reader = None;
            }
            Outcome::Ends(end) => {
                self.gone.push((partition, lane.to - end.max(lane.position).min(lane.to)));
                lane.position = lane.to;
            }
        }
        if lane.buffer.is_empty() && lane.is_read() {
            self.passed.push((partition, lane.to));
            self.lanes.remove(&partition);
        }
        Ok(())
    }
}

/// One read of one partition, that gives its reader back.
async fn read(
    log: Arc<dyn EventLog>,
    place: TopicPartition,
    reader: Option<Box<dyn LogReader>>,
    from: Offset,
    to: Offset,
    limits: ReadLimits,
) -> (PartitionId, Option<Box<dyn LogReader>>, Result<Outcome, PortError>) {
    let partition = place.partition;
    let mut reader = match reader {
        Some(reader) => reader,
        None => match log.open(&place, from).await {
            Ok(reader) => reader,
            Err(error) => return (partition, None, Err(error)),
        },
    };
    let outcome = match reader.next(limits).await {
        Ok(fetched) if fetched.records.is_empty() && fetched.next < to => {
            // Nothing came where something should be. Only the log itself knows whether it was cut.
            match ends(&log, &place).await {
                Ok((_, latest)) if latest < to => Ok(Outcome::Ends(latest)),
                Ok(_) => Ok(Outcome::Fetched(fetched)),
                Err(error) => Err(error),
            }
        }
        Ok(fetched) => Ok(Outcome::Fetched(fetched)),
        Err(error) if error.kind() == ErrorKind::OutOfRange => match ends(&log, &place).await {
            Ok((earliest, _)) if earliest > from => Ok(Outcome::Begins(earliest)),
            Ok((_, latest)) => Ok(Outcome::Ends(latest)),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    (partition, Some(reader), outcome)
}

async fn ends(log: &Arc<dyn EventLog>, place: &TopicPartition) -> Result<(Offset, Offset), PortError> {
    let at = [(place.partition, Position::Earliest), (place.partition, Position::Latest)];
    let found = log.locate(&place.topic, &at).await?;
    Ok((found.first().copied().unwrap_or_default(), found.get(1).copied().unwrap_or_default()))
}
