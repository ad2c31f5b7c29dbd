//! Asks the log itself whether an event is in it: reads a partition from an offset on for records that bear
//! the marks of given claims.
//!
//! Each search is bounded in records and in bytes from its own start on, all together in time. What lies
//! beyond a bound was not looked at, and the answer says so.

use super::codec::{Content, Mark};
use crate::event::header;
use bytestring::ByteString;
use futures::{StreamExt, stream};
use ports::{
    ClaimKey, Clock, ErrorKind, EventLog, Monotonic, Offset, PortError, Position, ReadLimits, Record, Result,
    StoredRecord, Timestamp, Token, TopicPartition,
};
use std::{collections::HashMap, time::Duration};

/// So many partitions are read at a time.
const READERS: usize = 8;
/// What one read brings at most.
const RECORDS: usize = 1000;
const BYTES: usize = 1 << 20;
/// How long one read waits: the records are there, or the log is slow.
const WAIT: Duration = Duration::from_millis(500);
/// The header of a copy that a replay made. It carries the original's mark and is not what was appended then.
const REPLAYED: &str = "es_replay_id";

/// The bounds of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) records_max: u64,
    pub(super) bytes_max: usize,
    pub(super) until: Monotonic,
}

/// What to look for, and where.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) at: TopicPartition,
    /// Where to begin; `None`: as far back from the end as the bound on records reaches.
    pub(super) from: Option<Offset>,
    pub(super) key: ClaimKey,
    /// The operation, where it is known.
    pub(super) operation: Option<Token>,
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: ByteString,
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
    pub(super) content: Content,
}

/// What came of a search.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is in the log.
    Found(Found),
    /// It is not in the log.
    Absent,
    /// It was not found before the search had to end.
    Beyond,
    /// The log could not be read.
    Failed(PortError),
}

/// Makes all searches and answers each, in order. The claim keys are distinct.
pub(super) async fn search(
    log: &dyn EventLog,
    clock: &dyn Clock,
    searches: &[Search],
    bounds: Bounds,
) -> Vec<Seen> {
    let mut by_partition: HashMap<&TopicPartition, Vec<usize>> = HashMap::new();
    for (index, search) in searches.iter().enumerate() {
        by_partition.entry(&search.at).or_default().push(index);
    }
    let mut seen: Vec<Seen> = searches.iter().map(|_| Seen::Beyond).collect();
    let mut passes = Vec::with_capacity(by_partition.len());
    for (at, indexes) in by_partition {
        passes.push(Box::pin(async move {
            let mut pass = Pass::default();
            let of_partition = indexes.iter().map(|index| &searches[*index]).collect();
            let outcome = pass.run(log, clock, at, of_partition, bounds).await;
            (indexes, pass, outcome)
        }));
    }
    let mut passes = stream::iter(passes).buffer_unordered(READERS);
    while let Some((indexes, mut pass, outcome)) = passes.next().await {
        for index in indexes {
            let key = searches[index].key;
            seen[index] = match (pass.answers.remove(&key), &outcome) {
                (Some(answer), _) => answer,
                (None, Ok(())) => Seen::Beyond,
                (None, Err(error)) => Seen::Failed(error.duplicate()),
            };
        }
    }
    seen
}

/// One way through a partition, for all that is looked for in it.
#[derive(Default)]
struct Pass {
    answers: HashMap<ClaimKey, Seen>,
    active: HashMap<ClaimKey, Active>,
    records: u64,
    bytes: usize,
}

struct Active {
    operation: Option<Token>,
    /// What had been read when it began.
    records: u64,
    bytes: usize,
}

impl Pass {
    async fn run(
        &mut self,
        log: &dyn EventLog,
        clock: &dyn Clock,
        at: &TopicPartition,
        searches: Vec<&Search>,
        bounds: Bounds,
    ) -> Result<()> {
        let ends = [(at.partition, Position::Earliest), (at.partition, Position::Latest)];
        let located = match log.locate(&at.topic, &ends).await {
            // What was in it is gone with it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.answers.extend(searches.iter().map(|search| (search.key, Seen::Absent)));
                return Ok(());
            }
            located => located?,
        };
        let [earliest, end] = located[..] else {
            return Err(PortError::new(ErrorKind::Unexpected, "event_log.locate", "gave too few offsets"));
        };
        let far_back = end.saturating_sub(bounds.records_max);
        // A log that lost its end since has given out the lost offsets anew, perhaps to what is looked for.
        let start = |from: Option<Offset>| from.filter(|from| *from <= end).unwrap_or(far_back).max(earliest);
        let mut waiting: Vec<(Offset, &Search)> =
            searches.into_iter().map(|search| (start(search.from), search)).collect();
        waiting.sort_by_key(|(from, _)| std::cmp::Reverse(*from));

        let mut next = waiting.last().map_or(end, |(from, _)| *from);
        let mut reader = log.open(at, next).await?;
        loop {
            if self.active.is_empty() {
                let Some((from, _)) = waiting.last() else { return Ok(()) };
                if *from > next {
                    next = *from;
                    reader.seek(next).await?;
                }
            }
            while let Some((_, search)) = waiting.pop_if(|(from, _)| *from <= next) {
                let Search { key, operation, .. } = *search;
                self.active.insert(key, Active { operation, records: self.records, bytes: self.bytes });
            }
            if next >= end {
                // All of it was read: what is not there yet will not come.
                let rest = self.active.drain().map(|(key, _)| key);
                self.answers.extend(rest.map(|key| (key, Seen::Absent)));
                continue;
            }
            let left = bounds.until.since(clock.monotonic());
            if left.is_zero() {
                return Ok(());
            }
            let limits = ReadLimits { wait_max: WAIT.min(left), ..self.read_limits(&waiting, next, bounds) };
            let fetched = match reader.next(limits).await {
                // Retention passed: what it deleted is not there.
                Err(error) if error.kind() == ErrorKind::OutOfRange => {
                    let earliest = log.locate(&at.topic, &[(at.partition, Position::Earliest)]).await?;
                    match earliest.first() {
                        Some(earliest) if *earliest > next => next = *earliest,
                        _ => return Err(error),
                    }
                    reader.seek(next).await?;
                    continue;
                }
                fetched => fetched?,
            };
            for stored in fetched.records {
                self.records += 1;
                self.bytes += stored.record.size();
                self.look_at(stored);
            }
            next = next.max(fetched.next);
            let (records, bytes) = (self.records, self.bytes);
            let answers = &mut self.answers;
            self.active.retain(|key, active| {
                let within = records - active.records < bounds.records_max
                    && bytes - active.bytes < bounds.bytes_max
                    || next >= end;
                if !within {
                    answers.insert(*key, Seen::Beyond);
                }
                within
            });
        }
    }

    /// What may be read at once: no further than to where the next search begins, so that each is counted
    /// from its own start, and not beyond what is left of any search's bounds.
    fn read_limits(&self, waiting: &[(Offset, &Search)], next: Offset, bounds: Bounds) -> ReadLimits {
        let to_next = waiting.last().map_or(u64::MAX, |(from, _)| from.saturating_sub(next));
        let records = self.active.values().map(|active| self.records - active.records).max();
        let bytes = self.active.values().map(|active| self.bytes - active.bytes).max();
        let records_left = bounds.records_max.saturating_sub(records.unwrap_or_default());
        let bytes_left = bounds.bytes_max.saturating_sub(bytes.unwrap_or_default());
        ReadLimits {
            records_max: usize::try_from(to_next.min(records_left)).unwrap_or(RECORDS).clamp(1, RECORDS),
            bytes_max: bytes_left.clamp(1, BYTES),
            wait_max: WAIT,
        }
    }

    fn look_at(&mut self, stored: StoredRecord) {
        let Some(mark) = mark(&stored.record) else { return };
        let is_it = |active: &Active| active.operation.is_none_or(|operation| operation == mark.operation);
        if !self.active.get(&mark.key).is_some_and(is_it) {
            return;
        }
        self.active.remove(&mark.key);
        let StoredRecord { offset, record } = stored;
        let timestamp = record.timestamp;
        let id = crate::event::Event::from_record(&record).id.unwrap_or_default();
        let found = Found { id, offset, timestamp, content: mark.content };
        self.answers.insert(mark.key, Seen::Found(found));
    }
}

/// The mark of a record, unless it is a replay's copy.
fn mark(record: &Record) -> Option<Mark> {
    let marked = record.headers.iter().find(|header| header.name == header::IDEMPOTENCY_KEY)?;
    let mark = Mark::decode(marked.value.as_deref()?)?;
    let is_copy = record.headers.iter().any(|header| header.name == REPLAYED);
    (!is_copy).then_some(mark)
}
