//! Reading by cursor, over a few consumers that many cursors share.
//!
//! A consumer reads a partition once at a time, so a second cursor on the same partition goes to the next
//! consumer. Each partition has a queue of its own, which is not polled while its reader is busy: that is the
//! back-pressure (pausing would throw away what was fetched).
//!
//! A gap at the end of a partition (an aborted transaction, a marker) shows no record to move the cursor by.
//! Where the end was reached and lies beyond the cursor, the reader takes down the last stable offset, fetches
//! from its cursor once more, and when that reaches the end without a record the gap is passed.

use super::{error, ffi, janitor, metadata::Metadata, reader_config};
use crate::config::KafkaConfig;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use parking_lot::Mutex;
use ports::{
    Fetched, Header, LogReader, Offset, PortError, Position, ReadLimits, Record, Result, StoredRecord,
    Timestamp, TopicPartition,
};
use rdkafka::{
    ClientContext, Message as _, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, base_consumer::PartitionQueue},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::HashSet,
    ffi::CString,
    fmt,
    ops::Range,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

const OPERATION: &str = "event_log.next";
/// How often the main queue is served.
const POLL: Duration = Duration::from_millis(50);
/// A wake-up that was missed costs so much at most.
const WATCHDOG: Duration = Duration::from_secs(1);

struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        // Brokers come and go; a partition that cannot be read says so on its own queue.
        tracing::debug!(%error, reason, "kafka reader");
    }
}

impl ConsumerContext for Quiet {}

type Client = BaseConsumer<Quiet>;

/// One consumer and what it reads.
struct Shared {
    client: Arc<Client>,
    taken: Mutex<HashSet<TopicPartition>>,
}

/// The consumers of a cluster.
pub(super) struct Readers {
    config: Arc<KafkaConfig>,
    metadata: Arc<Metadata>,
    shared: Mutex<Vec<Arc<Shared>>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("consumers", &self.shared.lock().len()).finish_non_exhaustive()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let shared = std::mem::take(&mut *self.shared.lock());
        janitor::later(move || drop(shared));
    }
}

impl Readers {
    pub(super) fn new(config: Arc<KafkaConfig>, metadata: Arc<Metadata>) -> Self {
        Self { config, metadata, shared: Mutex::default() }
    }

    /// A cursor on a partition that is known to be there.
    pub(super) fn open(&self, partition: TopicPartition, from: Offset) -> Result<Reader> {
        let shared = self.place(&partition)?;
        let news = Arc::new(Notify::new());
        let queue = shared.client.split_partition_queue(partition.topic.as_str(), partition.partition as i32);
        let Some(mut queue) = queue else {
            shared.taken.lock().remove(&partition);
            let what = format!("{partition} has no queue");
            return Err(PortError::new(ports::ErrorKind::Unexpected, OPERATION, what));
        };
        let wake = news.clone();
        queue.set_nonempty_callback(move || wake.notify_one());
        let topic = CString::new(partition.topic.as_str()).unwrap_or_default();
        let mut reader = Reader {
            shared,
            metadata: self.metadata.clone(),
            queue: Some(queue),
            partition,
            topic,
            next: from,
            assigned: false,
            at_end: false,
            probe: None,
            held: None,
            took: 0,
            news,
        };
        reader.assign()?;
        Ok(reader)
    }

    /// A consumer on which the partition is free, and is now taken.
    fn place(&self, partition: &TopicPartition) -> Result<Arc<Shared>> {
        let mut all = self.shared.lock();
        for shared in all.iter() {
            if shared.taken.lock().insert(partition.clone()) {
                return Ok(shared.clone());
            }
        }
        let client = reader_config(&self.config).create_with_context(Quiet);
        let client: Arc<Client> = Arc::new(client.map_err(|e| error::of(&e, OPERATION, "a reader"))?);
        serve(Arc::downgrade(&client))?;
        let shared = Arc::new(Shared { client, taken: Mutex::new([partition.clone()].into()) });
        all.push(shared.clone());
        Ok(shared)
    }
}

/// Serves a consumer's main queue, without which nothing moves, for as long as it lives.
fn serve(client: Weak<Client>) -> Result<()> {
    let run = move || {
        while let Some(client) = client.upgrade() {
            if let Some(Err(error)) = client.poll(POLL) {
                tracing::debug!(%error, "kafka reader");
            }
        }
    };
    let thread = thread::Builder::new().name("kafka-reader".to_owned()).spawn(run);
    let failed = |e: std::io::Error| PortError::new(ports::ErrorKind::Unavailable, OPERATION, e.to_string());
    thread.map(drop).map_err(failed)
}

/// A cursor over one partition.
pub(super) struct Reader {
    shared: Arc<Shared>,
    metadata: Arc<Metadata>,
    queue: Option<PartitionQueue<Quiet>>,
    partition: TopicPartition,
    topic: CString,
    next: Offset,
    /// Whether the consumer fetches the partition. It stops at an offset that is not in the log.
    assigned: bool,
    /// Whether the end was reached since the cursor last moved.
    at_end: bool,
    /// Everything before it is read once the end is reached again without a record.
    probe: Option<Offset>,
    /// Fetched, and too large for the read before.
    held: Option<StoredRecord>,
    /// The bytes of the read before: in a backlog the next takes as many.
    took: usize,
    news: Arc<Notify>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("partition", &self.partition)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Reader {
    fn assign(&mut self) -> Result<()> {
        let mut list = self.list();
        let at = KafkaOffset::Offset(i64::try_from(self.next).unwrap_or(i64::MAX));
        let assigned = list
            .set_partition_offset(self.partition.topic.as_str(), self.partition.partition as i32, at)
            .and_then(|()| self.shared.client.incremental_assign(&list));
        assigned.map_err(|e| error::of(&e, OPERATION, "the partition"))?;
        self.assigned = true;
        Ok(())
    }

    fn unassign(&mut self) -> Result<()> {
        if std::mem::take(&mut self.assigned) {
            let unassigned = self.shared.client.incremental_unassign(&self.list());
            unassigned.map_err(|e| error::of(&e, OPERATION, "the partition"))?;
        }
        Ok(())
    }

    fn list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(self.partition.topic.as_str(), self.partition.partition as i32);
        list
    }

    fn end(&self) -> Offset {
        let partition = self.partition.partition as i32;
        ffi::known_end(self.shared.client.client(), &self.topic, partition).unwrap_or_default().max(self.next)
    }

    /// What has been fetched already.
    fn drain(&mut self, limits: ReadLimits) -> Result<Vec<StoredRecord>> {
        let Some(queue) = &self.queue else { return Ok(Vec::new()) };
        let mut arena = Arena::with_capacity(self.took.min(limits.bytes_max));
        let mut next = self.next;
        let held = self.held.take();
        if let Some(held) = &held {
            next = held.offset + 1;
            arena.bytes = held.record.size();
        }
        let bytes_max = limits.bytes_max;
        let count = |arena: &Arena| arena.records.len() + usize::from(held.is_some());
        while count(&arena) < limits.records_max.max(1) && (arena.bytes < bytes_max || count(&arena) == 0) {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let offset = message.offset() as u64;
                    // Before the cursor: the rest of a batch that was fetched for it.
                    if offset >= next {
                        let is_first = count(&arena) == 0;
                        arena.take(&message);
                        if arena.bytes > bytes_max && !is_first {
                            arena.records.pop();
                            let mut own = Arena::default();
                            own.take(&message);
                            self.held = own.into_records().pop();
                            break;
                        }
                        next = offset + 1;
                    }
                    (self.at_end, self.probe) = (false, None);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    next = self.probe.take().map_or(next, |stable| stable.max(next));
                    self.at_end = true;
                }
                // What came before it is given first; the error comes again, or is for nobody.
                Some(Err(error)) if count(&arena) == 0 => {
                    return self.failed(&error).map(|()| Vec::new());
                }
                Some(Err(error)) => {
                    tracing::debug!(partition = %self.partition, %error, "reading again");
                    self.next = next;
                    self.unassign()?;
                    self.assign()?;
                    break;
                }
            }
        }
        self.next = next;
        self.took = arena.buffer.len();
        let records = arena.into_records();
        Ok(match held {
            Some(held) => std::iter::once(held).chain(records).collect(),
            None => records,
        })
    }

    /// Reads once more from the cursor, where the log goes on behind it and shows nothing.
    async fn look_into_the_gap(&mut self) -> Result<()> {
        self.at_end = false;
        if self.probe.is_some() || self.end() <= self.next {
            return Ok(());
        }
        let TopicPartition { topic, partition } = &self.partition;
        let stable = self.metadata.locate(topic, &[(*partition, Position::Latest)]).await?;
        // An open transaction holds the stable end back.
        if let Some(stable) = stable.first().copied().filter(|stable| *stable > self.next) {
            self.unassign()?;
            self.probe = Some(stable);
            self.assign()?;
        }
        Ok(())
    }

    fn failed(&mut self, error: &KafkaError) -> Result<()> {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        // It has stopped fetching, or fetches something else: the next read begins anew.
        self.unassign()?;
        Err(error::of_code(code, OPERATION, &format!("{} at {}", self.partition, self.next)))
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self, limits: ReadLimits) -> Result<Fetched> {
        let deadline = Instant::now() + limits.wait_max;
        if !self.assigned {
            self.assign()?;
        }
        loop {
            let before = self.next;
            let records = self.drain(limits)?;
            if self.at_end && records.is_empty() {
                if self.next > before {
                    return Ok(Fetched { records, next: self.next, end: self.end() });
                }
                self.look_into_the_gap().await?;
            }
            if !records.is_empty() || Instant::now() >= deadline {
                return Ok(Fetched { records, next: self.next, end: self.end() });
            }
            let _ = timeout_at(deadline.min(Instant::now() + WATCHDOG), self.news.notified()).await;
        }
    }

    async fn seek(&mut self, to: Offset) -> Result<()> {
        self.unassign()?;
        (self.next, self.at_end, self.probe, self.held) = (to, false, None, None);
        self.assign()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (shared, queue, partition, assigned) =
            (self.shared.clone(), self.queue.take(), self.partition.clone(), self.assigned);
        let list = self.list();
        janitor::later(move || {
            if assigned && let Err(error) = shared.client.incremental_unassign(&list) {
                tracing::debug!(%partition, %error, "not unassigned");
            }
            // It holds the consumer: dropped before the partition is free again.
            drop(queue);
            shared.taken.lock().remove(&partition);
        });
    }
}

/// The records of one read, with all their bytes in one allocation.
#[derive(Default)]
struct Arena {
    buffer: BytesMut,
    records: Vec<Place>,
    /// Those of all records, one after the other.
    headers: Vec<(Name, Option<Range<usize>>)>,
    bytes: usize,
}

struct Place {
    offset: Offset,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

/// A header's name.
enum Name {
    Known(&'static str),
    Other(Range<usize>),
}

impl Arena {
    fn with_capacity(bytes: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let first = self.headers.len();
        let key = message.key().map(|key| self.put(key));
        let value = message.payload().map(|value| self.put(value));
        // As `Record::size` counts.
        self.bytes += message.key_len() + message.payload_len() + 32;
        ffi::headers(message, |name, value| {
            self.bytes += name.len() + value.map_or(0, <[u8]>::len) + 2;
            let name = known(name).map_or_else(|| Name::Other(self.put(name)), Name::Known);
            let value = value.map(|value| self.put(value));
            self.headers.push((name, value));
        });
        let timestamp = message.timestamp().to_millis().unwrap_or_default();
        let headers = first..self.headers.len();
        self.records.push(Place { offset: message.offset() as u64, timestamp, key, value, headers });
    }

    fn into_records(self) -> Vec<StoredRecord> {
        // What was set aside and not needed is not to be held for as long as one of the records is.
        let is_loose = self.buffer.capacity() > 2 * self.buffer.len();
        let bytes = if is_loose { Bytes::copy_from_slice(&self.buffer) } else { self.buffer.freeze() };
        let of = |range: &Range<usize>| bytes.slice(range.clone());
        let header = |(name, value): &(Name, Option<Range<usize>>)| Header {
            name: match name {
                Name::Known(name) => ByteString::from_static(name),
                Name::Other(range) => name_of(&of(range)),
            },
            value: value.as_ref().map(of),
        };
        let record = |place: &Place| StoredRecord {
            offset: place.offset,
            record: Record {
                key: place.key.as_ref().map(of),
                value: place.value.as_ref().map(of),
                headers: self.headers[place.headers.clone()].iter().map(header).collect(),
                timestamp: Timestamp(place.timestamp),
            },
        };
        self.records.iter().map(record).collect()
    }
}

/// The names that CloudEvents' binding for Kafka gives the attributes that most events have, and those of W3C
/// trace contexts. They are not copied, nor counted by whom they are used.
fn known(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"ce_specversion" => "ce_specversion",
        b"ce_id" => "ce_id",
        b"ce_source" => "ce_source",
        b"ce_type" => "ce_type",
        b"ce_time" => "ce_time",
        b"ce_subject" => "ce_subject",
        b"ce_dataschema" => "ce_dataschema",
        b"content-type" => "content-type",
        b"traceparent" => "traceparent",
        b"tracestate" => "tracestate",
        _ => return None,
    })
}

/// A header's name, which another producer may have written in any encoding.
fn name_of(bytes: &Bytes) -> ByteString {
    ByteString::try_from(bytes.clone()).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}
