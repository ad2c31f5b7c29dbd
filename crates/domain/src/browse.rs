//! Browse: a page of what lies in a topic, and its live tail; by cursor, without a group.

use crate::{
    error::{Error, ErrorCode, Result},
    limits::Limits,
    topics::{Topics, topic_name},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use ports::{
    Clock, ErrorKind, EventLog, Fetched, LogReader, Monotonic, Offset, PartitionId, PortError, Position,
    ReadLimits, StoredRecord, TopicName, TopicPartition,
};
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

/// How long a page waits for a read that should find something at once.
const PAGE_WAIT: Duration = Duration::from_secs(2);

/// A place in a topic: the next offset of each partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub BTreeMap<PartitionId, Offset>);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (partition, offset)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{partition}:{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::invalid("cursor", "must look like `0:220,1:17`, one `partition:offset` a partition");
        let mut places = BTreeMap::new();
        for place in text.split(',') {
            let (partition, offset) = place.split_once(':').ok_or_else(wrong)?;
            let partition = partition.parse().map_err(|_| wrong())?;
            let offset: Offset = offset.parse().map_err(|_| wrong())?;
            if offset > i64::MAX as u64 || places.insert(partition, offset).is_some() {
                return Err(wrong());
            }
        }
        Ok(Self(places))
    }
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At an offset of one partition, and only there.
    Partition {
        /// The partition.
        partition: i64,
        /// The offset.
        offset: i64,
    },
    /// At a place of every partition.
    From(Position),
    /// Where an earlier page or event ended. Partitions that it does not name begin at their earliest.
    Cursor(Cursor),
}

/// One record of a page or tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsed {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// The record.
    pub record: StoredRecord,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What was found: within a partition in order, among partitions by time.
    pub events: Vec<Browsed>,
    /// Where the next page begins.
    pub next: Cursor,
}

/// What a tail brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailBatch {
    /// The records, each with the cursor that goes on behind it.
    pub events: Vec<(Browsed, Cursor)>,
}

/// Reads topics without a group.
#[derive(Debug)]
pub struct Browser {
    log: Arc<dyn EventLog>,
    topics: Arc<Topics>,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
}

impl Browser {
    /// Reads `log`.
    pub fn new(
        log: Arc<dyn EventLog>,
        topics: Arc<Topics>,
        limits: Arc<Limits>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, topics, limits, clock }
    }

    /// Up to `limit` records (default 100) from `start` on, up to the end as it is now.
    ///
    /// # Errors
    /// `invalid_request` for a partition that is not there, an offset beyond the end or a bad limit;
    /// an offset that retention has passed goes on at the earliest.
    pub async fn page(&self, topic: &str, start: Start, limit: Option<i64>) -> Result<Page> {
        let topic = topic_name("topic", topic)?;
        let most = self.limits.browse_events_max as i64;
        let limit = match limit {
            None => 100,
            Some(limit) if (1..=most).contains(&limit) => limit as usize,
            Some(limit) => {
                return Err(Error::invalid(
                    "limit",
                    format!("must lie between 1 and {most} (given: {limit})"),
                ));
            }
        };
        let ends: BTreeMap<PartitionId, Offset> = self.ends(&topic, &start).await?;
        let mut next = self.resolve(&topic, start, &ends, true).await?;
        let deadline = self.clock.monotonic() + PAGE_WAIT;
        let share = (self.limits.response_bytes_max / ends.len().max(1)).max(64 << 10);
        let reads =
            next.iter().filter(|(partition, from)| **from < ends[partition]).map(|(partition, from)| {
                let place = TopicPartition::new(topic.clone(), *partition);
                let end = ends[partition];
                self.read_range(place, *from, end, limit, share, deadline)
            });
        let mut found: Vec<Vec<StoredRecord>> = Vec::new();
        let mut owners = Vec::new();
        for read in futures::future::join_all(reads).await {
            let (partition, records, after) = read?;
            // Behind what was scanned; what does not fit the page is taken back below.
            next.insert(partition, after);
            owners.push(partition);
            found.push(records);
        }
        let events = merge(&topic, &owners, found, limit, self.limits.response_bytes_max, &mut next);
        Ok(Page { events, next: Cursor(next) })
    }

    /// The live tail of a topic from `start` on.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub async fn tail(&self, topic: &str, start: Start) -> Result<Tail> {
        let topic = topic_name("topic", topic)?;
        let ends = self.ends(&topic, &start).await?;
        let next = self.resolve(&topic, start, &ends, false).await?;
        let reads = FuturesUnordered::new();
        for (partition, from) in &next {
            let place = TopicPartition::new(topic.clone(), *partition);
            let reader =
                self.log.open(&place, *from).await.map_err(|error| self.read_error(&topic, &error))?;
            reads.push(tail_read(*partition, *from, reader));
        }
        Ok(Tail { topic, log: self.log.clone(), clock: self.clock.clone(), next: Cursor(next), reads })
    }

    async fn ends(&self, topic: &TopicName, start: &Start) -> Result<BTreeMap<PartitionId, Offset>> {
        let meta = self.topics.meta(topic).await?.ok_or_else(|| Error::topic_not_found(topic))?;
        let all: Vec<(PartitionId, Position)> = match start {
            Start::Partition { partition, .. } => {
                if !(0..i64::from(meta.partitions)).contains(partition) {
                    return Err(Error::invalid(
                        "partition",
                        format!("must lie between 0 and {} (given: {partition})", meta.partitions - 1),
                    ));
                }
                vec![(*partition as PartitionId, Position::Latest)]
            }
            _ => (0..meta.partitions).map(|partition| (partition, Position::Latest)).collect(),
        };
        let offsets = self.log.locate(topic, &all).await.map_err(|error| self.read_error(topic, &error))?;
        Ok(all.into_iter().map(|(partition, _)| partition).zip(offsets).collect())
    }

    /// The offset to begin at, for each partition of `ends`.
    async fn resolve(
        &self,
        topic: &TopicName,
        start: Start,
        ends: &BTreeMap<PartitionId, Offset>,
        bounded: bool,
    ) -> Result<BTreeMap<PartitionId, Offset>> {
        let at = |position| ends.keys().map(|partition| (*partition, position)).collect::<Vec<_>>();
        let locate = async |position| -> Result<BTreeMap<PartitionId, Offset>> {
            let at = at(position);
            let offsets =
                self.log.locate(topic, &at).await.map_err(|error| self.read_error(topic, &error))?;
            Ok(at.into_iter().map(|(partition, _)| partition).zip(offsets).collect())
        };
        match start {
            Start::From(Position::Latest) => Ok(ends.clone()),
            Start::From(position) => locate(position).await,
            Start::Partition { partition, offset } => {
                let partition = partition as PartitionId;
                let end = ends[&partition];
                if offset < 0 || (bounded && offset as u64 > end) {
                    return Err(Error::invalid(
                        "offset",
                        format!("must lie between 0 and the partition's end {end} (given: {offset})"),
                    ));
                }
                let earliest = locate(Position::Earliest).await?;
                Ok(BTreeMap::from([(partition, (offset as u64).max(earliest[&partition]).min(end))]))
            }
            Start::Cursor(cursor) => {
                let mut places = locate(Position::Earliest).await?;
                for (partition, offset) in cursor.0 {
                    let Some(place) = places.get_mut(&partition) else {
                        return Err(Error::invalid(
                            "cursor",
                            format!("names partition {partition}, which is not there"),
                        ));
                    };
                    // A cursor from before a topic was made anew may lie beyond its end.
                    *place = offset.max(*place).min(ends[&partition]);
                }
                Ok(places)
            }
        }
    }

    async fn read_range(
        &self,
        place: TopicPartition,
        from: Offset,
        end: Offset,
        limit: usize,
        bytes_max: usize,
        deadline: Monotonic,
    ) -> Result<(PartitionId, Vec<StoredRecord>, Offset)> {
        let mut reader =
            self.log.open(&place, from).await.map_err(|error| self.read_error(&place.topic, &error))?;
        let mut records: Vec<StoredRecord> = Vec::new();
        let mut next = from;
        let mut bytes = 0;
        while next < end && records.len() < limit && bytes < bytes_max {
            let left = deadline.since(self.clock.monotonic());
            if left.is_zero() {
                break;
            }
            let limits = ReadLimits {
                records_max: limit - records.len(),
                bytes_max: bytes_max - bytes,
                wait_max: left,
            };
            match reader.next(limits).await {
                Ok(fetched) => {
                    next = fetched.next;
                    bytes += fetched.records.iter().map(|record| record.record.size()).sum::<usize>();
                    records.extend(fetched.records);
                }
                Err(error) if error.kind() == ErrorKind::OutOfRange => {
                    next = self.earliest(&place).await?.max(next);
                    reader.seek(next).await.map_err(|error| self.read_error(&place.topic, &error))?;
                }
                Err(error) => return Err(self.read_error(&place.topic, &error)),
            }
        }
        // What was appended since the page began belongs to the next one.
        while records.last().is_some_and(|record| record.offset >= end) {
            records.pop();
            next = end;
        }
        Ok((place.partition, records, next))
    }

    async fn earliest(&self, place: &TopicPartition) -> Result<Offset> {
        let at = [(place.partition, Position::Earliest)];
        let offsets = self
            .log
            .locate(&place.topic, &at)
            .await
            .map_err(|error| self.read_error(&place.topic, &error))?;
        Ok(offsets.first().copied().unwrap_or_default())
    }

    fn read_error(&self, topic: &TopicName, error: &PortError) -> Error {
        if error.kind() == ErrorKind::NotFound {
            self.topics.forget(topic);
            return Error::topic_not_found(topic);
        }
        Error::from(error)
    }
}

/// Merges partitions by time, each in its own order, up to the limits; `next` is set back to what did
/// not fit.
fn merge(
    topic: &TopicName,
    owners: &[PartitionId],
    found: Vec<Vec<StoredRecord>>,
    limit: usize,
    bytes_max: usize,
    next: &mut BTreeMap<PartitionId, Offset>,
) -> Vec<Browsed> {
    let mut sources: Vec<_> = found.into_iter().map(|records| records.into_iter().peekable()).collect();
    let mut events = Vec::new();
    let mut bytes = 0;
    while events.len() < limit && bytes < bytes_max {
        let earliest = sources
            .iter_mut()
            .enumerate()
            .filter_map(|(index, source)| source.peek().map(|record| (record.record.timestamp, index)))
            .min();
        let Some((_, index)) = earliest else { break };
        if let Some(record) = sources[index].next() {
            bytes += record.record.size();
            events.push(Browsed { topic: topic.clone(), partition: owners[index], record });
        }
    }
    for (index, source) in sources.iter_mut().enumerate() {
        if let Some(left) = source.peek() {
            next.insert(owners[index], left.offset);
        }
    }
    events
}

type TailRead = BoxFuture<'static, (PartitionId, Offset, Box<dyn LogReader>, ports::Result<Fetched>)>;

/// One read of one partition, that gives its reader back.
fn tail_read(partition: PartitionId, from: Offset, mut reader: Box<dyn LogReader>) -> TailRead {
    async move {
        let limits = ReadLimits { records_max: 500, bytes_max: 1 << 20, wait_max: Duration::from_secs(30) };
        let fetched = reader.next(limits).await;
        (partition, from, reader, fetched)
    }
    .boxed()
}

/// The live tail of a topic. Holds at most one read a partition; a slow reader is waited for.
pub struct Tail {
    topic: TopicName,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    next: Cursor,
    reads: FuturesUnordered<TailRead>,
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Tail {
    /// Where the tail goes on.
    pub fn cursor(&self) -> &Cursor {
        &self.next
    }

    /// The next records; none when nothing came within `wait`.
    ///
    /// # Errors
    /// The topic went, or the log fails for good. Transient errors are waited out.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self, wait: Duration) -> Result<TailBatch> {
        let until = self.clock.monotonic() + wait;
        let clock = self.clock.clone();
        let mut timeout = clock.sleep_until(until);
        loop {
            let (partition, from, mut reader, fetched) = tokio::select! {
                biased;
                Some(read) = self.reads.next() => read,
                () = &mut timeout => return Ok(TailBatch::default()),
            };
            match fetched {
                Ok(fetched) => {
                    let next = fetched.next;
                    self.reads.push(tail_read(partition, next, reader));
                    if fetched.records.is_empty() {
                        self.next.0.insert(partition, next);
                        continue;
                    }
                    let mut events = Vec::with_capacity(fetched.records.len());
                    for record in fetched.records {
                        self.next.0.insert(partition, record.offset + 1);
                        let browsed = Browsed { topic: self.topic.clone(), partition, record };
                        events.push((browsed, self.next.clone()));
                    }
                    return Ok(TailBatch { events });
                }
                Err(error) if error.kind() == ErrorKind::OutOfRange => {
                    let at = [(partition, Position::Earliest), (partition, Position::Latest)];
                    let bounds = self.log.locate(&self.topic, &at).await?;
                    let to = from.clamp(bounds[0], bounds[1].max(bounds[0]));
                    reader.seek(to).await?;
                    self.next.0.insert(partition, to);
                    self.reads.push(tail_read(partition, to, reader));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::new(
                        ErrorCode::TopicNotFound,
                        format!("topic `{}` is gone", self.topic),
                    ));
                }
                Err(error) if error.is_safe_to_retry() => {
                    let clock = self.clock.clone();
                    self.reads.push(
                        async move {
                            clock.sleep_until(clock.monotonic() + Duration::from_millis(200)).await;
                            tail_read(partition, from, reader).await
                        }
                        .boxed(),
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
