//! Appending: one idempotent producer, a counter and a waker a batch, and a bound in bytes of our own.
//!
//! Invariants:
//! 1. A record has one outcome: refused before it was queued, or what its delivery report says.
//! 2. `Effect::None` is said only of a record that was never queued, or that a leader refused.
//! 3. What a caller stops waiting for is still heard: the batch lives until its last report.

use super::{
    error, janitor,
    metadata::{Metadata, Shape},
    producer_config,
};
use crate::config::KafkaConfig;
use parking_lot::{Mutex, RwLock};
use ports::{
    AppendRequest, AppendResult, Appended, ErrorKind, LateReports, PartitionId, PortError, Record, Result,
    Timestamp,
};
use rdkafka::{
    ClientContext, Message as _,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

const OPERATION: &str = "event_log.append";
/// The buffer is counted in units of so many bytes, as a semaphore counts in 32 bits.
const UNIT: usize = 256;
/// After so many records the thread is given up for a moment.
const YIELD_AFTER: usize = 1_000;
/// So often a client that does not know a partition is made to ask.
const STALE_MAX: usize = 5;
/// What a record takes beside its bytes.
const RECORD_OVERHEAD: usize = 128;

/// librdkafka's own batches.
const BATCH_BYTES: usize = 1_000_000;
/// What a batch of one record takes beside its key, value and headers (record batch format 2).
const BATCH_OVERHEAD: usize = 61 + 32;

/// No report yet.
const OPEN: i64 = i64::MIN;
/// Reported as failed.
const FAILED: i64 = -1;

/// The reports of one append.
struct Batch {
    slots: Box<[Slot]>,
    failures: Mutex<Vec<(u32, Code)>>,
    /// Records that are not reported, and one for the call that still hands over.
    left: AtomicUsize,
    done: Mutex<Option<Done>>,
}

struct Slot {
    offset: AtomicI64,
    timestamp: AtomicI64,
}

struct Done {
    tell: oneshot::Sender<()>,
    /// What the batch holds of the buffer.
    room: OwnedSemaphorePermit,
    /// Those who met a full queue.
    moved: Arc<Notify>,
}

impl Batch {
    fn new(count: usize, done: Done) -> Arc<Self> {
        let slot = || Slot { offset: AtomicI64::new(OPEN), timestamp: AtomicI64::new(0) };
        Arc::new(Self {
            slots: (0..count).map(|_| slot()).collect(),
            failures: Mutex::default(),
            left: AtomicUsize::new(count + 1),
            done: Mutex::new(Some(done)),
        })
    }

    fn delivered(&self, index: u32, offset: i64, timestamp: i64) {
        let slot = &self.slots[index as usize];
        slot.timestamp.store(timestamp, Ordering::Relaxed);
        slot.offset.store(offset.max(0), Ordering::Release);
        self.settled(1);
    }

    fn failed(&self, index: u32, code: Code) {
        self.failures.lock().push((index, code));
        self.slots[index as usize].offset.store(FAILED, Ordering::Release);
        self.settled(1);
    }

    fn settled(&self, count: usize) {
        if self.left.fetch_sub(count, Ordering::AcqRel) == count
            && let Some(Done { tell, room, moved }) = self.done.lock().take()
        {
            drop(room);
            moved.notify_waiters();
            // Nobody waits where the call was dropped.
            let _ = tell.send(());
        }
    }

    /// The outcome of a record, `None` where it was not reported.
    fn outcome(&self, index: usize) -> Option<Result<Appended>> {
        let slot = &self.slots[index];
        match slot.offset.load(Ordering::Acquire) {
            OPEN => None,
            FAILED => {
                let failures = self.failures.lock();
                let code = failures
                    .iter()
                    .find(|(at, _)| *at as usize == index)
                    .map_or(Code::Fail, |(_, code)| *code);
                Some(Err(error::of_delivery(code)))
            }
            offset => {
                let timestamp = Timestamp(slot.timestamp.load(Ordering::Relaxed));
                Some(Ok(Appended { offset: offset as u64, timestamp }))
            }
        }
    }
}

/// A record's place in its batch. One small box a record: librdkafka gives back a pointer, and copies the
/// record anyway.
type Place = Box<(Arc<Batch>, u32)>;

struct Reports;

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Place;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (batch, index) = *opaque;
        match result {
            Ok(message) => {
                batch.delivered(index, message.offset(), message.timestamp().to_millis().unwrap_or_default());
            }
            Err((error, _)) => batch.failed(index, error.rdkafka_error_code().unwrap_or(Code::Fail)),
        }
    }
}

type Client = ThreadedProducer<Reports>;

/// The producer of a cluster.
pub(super) struct Producer {
    config: Arc<KafkaConfig>,
    metadata: Arc<Metadata>,
    /// By the size of their batches: one that is larger than its topic takes is refused as a whole, with all
    /// the records that are small enough.
    clients: RwLock<BTreeMap<usize, Arc<Client>>>,
    room: Arc<Semaphore>,
    units: u32,
    moved: Arc<Notify>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let clients = std::mem::take(&mut *self.clients.write());
        janitor::later(move || drop(clients));
    }
}

fn create(config: &KafkaConfig, batch_bytes: usize) -> Result<Arc<Client>> {
    let mut settings = producer_config(config);
    if batch_bytes < BATCH_BYTES {
        settings.set("batch.size", batch_bytes.to_string());
    }
    let client = settings.create_with_context(Reports);
    client.map(Arc::new).map_err(|e| error::of(&e, "kafka.open", "the producer"))
}

/// The size of batches for a topic: a power of two below what it takes, so that there are few producers.
fn batch_bytes(shape: Shape) -> usize {
    match shape.batch_bytes_max {
        enough if enough > BATCH_BYTES => BATCH_BYTES,
        less => (less.max(2048) / 2 + 1).next_power_of_two(),
    }
}

/// Why handing over stopped.
enum Stopped {
    /// All were handed over or refused.
    AtEnd,
    /// For now: let others run.
    ToYield,
    /// The queue is full.
    Full,
    /// The client has not heard yet of a partition that is there.
    Stale,
    /// The client is broken for good.
    Fatal,
}

impl Producer {
    pub(super) fn new(config: Arc<KafkaConfig>, metadata: Arc<Metadata>) -> Result<Self> {
        let units = (config.producer_buffer_bytes / UNIT).clamp(1, u32::MAX as usize >> 1) as u32;
        Ok(Self {
            clients: RwLock::new([(BATCH_BYTES, create(&config, BATCH_BYTES)?)].into()),
            config,
            metadata,
            room: Arc::new(Semaphore::new(units as usize)),
            units,
            moved: Arc::default(),
        })
    }

    pub(super) async fn append(&self, request: AppendRequest) -> AppendResult {
        let deadline = Instant::now() + request.timeout;
        let count = request.records.len();
        let all =
            |error: &PortError| AppendResult::complete((0..count).map(|_| Err(error.duplicate())).collect());
        if count == 0 {
            return AppendResult::complete(Vec::new());
        }
        let shape = match timeout_at(deadline, self.shape(&request)).await {
            Ok(Ok(shape)) => shape,
            Ok(Err(error)) => return all(&error),
            Err(_late) => {
                return all(&PortError::new(
                    ErrorKind::Timeout,
                    OPERATION,
                    "the cluster did not say where the topic is",
                ));
            }
        };
        let bytes: usize = request.records.iter().map(|(_, record)| record.size() + RECORD_OVERHEAD).sum();
        let units = (bytes / UNIT + 1).min(self.units as usize) as u32;
        let Ok(Ok(room)) = timeout_at(deadline, self.room.clone().acquire_many_owned(units)).await else {
            return all(&throttled());
        };
        let (tell, told) = oneshot::channel();
        let batch = Batch::new(count, Done { tell, room, moved: self.moved.clone() });
        let refused = self.hand_over(&request, shape, &batch, deadline).await;
        self.wait(batch, refused, told, deadline).await
    }

    /// What the topic looks like, asked anew where the request names a partition that is not known.
    async fn shape(&self, request: &AppendRequest) -> Result<Shape> {
        let shape = self.metadata.shape(&request.topic, OPERATION).await?;
        if request.records.iter().all(|(partition, _)| *partition < shape.partitions) {
            return Ok(shape);
        }
        self.metadata.look_up(&request.topic, OPERATION).await
    }

    /// The client for batches of that size.
    fn client(&self, batch_bytes: usize) -> Result<Arc<Client>> {
        if let Some(client) = self.clients.read().get(&batch_bytes) {
            return Ok(client.clone());
        }
        let mut clients = self.clients.write();
        if let Some(client) = clients.get(&batch_bytes) {
            return Ok(client.clone());
        }
        let client = create(&self.config, batch_bytes)?;
        clients.insert(batch_bytes, client.clone());
        Ok(client)
    }

    /// Hands the records to librdkafka. Gives the outcomes of those that it did not take, by index in order.
    async fn hand_over(
        &self,
        request: &AppendRequest,
        shape: Shape,
        batch: &Arc<Batch>,
        deadline: Instant,
    ) -> Vec<(usize, PortError)> {
        let mut refused = Vec::new();
        let mut next = 0;
        let mut stale = 0;
        loop {
            let client = match self.client(batch_bytes(shape)) {
                Ok(client) => client,
                Err(error) => {
                    refused.extend((next..request.records.len()).map(|index| (index, error.duplicate())));
                    break;
                }
            };
            let moved = self.moved.notified();
            match hand_over_some(&client, request, shape, batch, &mut next, &mut refused) {
                Stopped::AtEnd => break,
                Stopped::ToYield => tokio::task::yield_now().await,
                Stopped::Full => {
                    // Something is on its way, as the queue is full: wait for a part of it.
                    let patience = deadline.min(Instant::now() + Duration::from_millis(50));
                    let _ = timeout_at(patience, moved).await;
                    if Instant::now() >= deadline {
                        refused.extend((next..request.records.len()).map(|index| (index, throttled())));
                        break;
                    }
                }
                Stopped::Stale => {
                    let topic = request.topic.clone();
                    let timeout = self.config.request_timeout;
                    let asking = tokio::task::spawn_blocking(move || {
                        client.client().fetch_metadata(Some(topic.as_str()), timeout).is_ok()
                    });
                    stale += 1;
                    let asked = timeout_at(deadline, asking).await;
                    if stale > STALE_MAX || !matches!(asked, Ok(Ok(true))) {
                        let what = "the client does not know the partition yet; try again";
                        let unknown = || PortError::new(ErrorKind::Unavailable, OPERATION, what);
                        refused.extend((next..request.records.len()).map(|index| (index, unknown())));
                        break;
                    }
                }
                Stopped::Fatal => {
                    self.replace(batch_bytes(shape), &client);
                    let gone = || {
                        PortError::new(
                            ErrorKind::Unavailable,
                            OPERATION,
                            "the producer broke and was made anew; try again",
                        )
                    };
                    refused.extend((next..request.records.len()).map(|index| (index, gone())));
                    break;
                }
            }
        }
        // Those that were refused are settled, and so is the handing over.
        batch.settled(refused.len() + 1);
        refused
    }

    async fn wait(
        &self,
        batch: Arc<Batch>,
        refused: Vec<(usize, PortError)>,
        mut told: oneshot::Receiver<()>,
        deadline: Instant,
    ) -> AppendResult {
        let _ = timeout_at(deadline, &mut told).await;
        let mut refused = refused.into_iter().peekable();
        let mut open = Vec::new();
        let outcomes = (0..batch.slots.len())
            .map(|index| {
                if let Some((_, error)) = refused.next_if(|(at, _)| *at == index) {
                    return Err(error);
                }
                batch.outcome(index).unwrap_or_else(|| {
                    open.push(index);
                    let what = "the log did not confirm the record in time";
                    Err(PortError::new(ErrorKind::Timeout, OPERATION, what).effect_unknown())
                })
            })
            .collect();
        let late = (!open.is_empty()).then(|| -> LateReports {
            Box::pin(async move {
                // Told when the last one is reported; dropped when the process ends first.
                let _ = told.await;
                open.into_iter().filter_map(|index| Some((index, batch.outcome(index)?))).collect()
            })
        });
        AppendResult { outcomes, late }
    }

    /// Puts a new client in the place of a broken one. The old one is purged where it is dropped, which
    /// reports what it still held.
    fn replace(&self, batch_bytes: usize, broken: &Arc<Client>) {
        let mut clients = self.clients.write();
        if !clients.get(&batch_bytes).is_some_and(|client| Arc::ptr_eq(client, broken)) {
            return;
        }
        match create(&self.config, batch_bytes) {
            Ok(new) => {
                tracing::error!(reason = ?broken.client().fatal_error(), "the kafka producer broke and was made anew");
                let old = clients.insert(batch_bytes, new);
                janitor::later(move || drop(old));
            }
            Err(error) => tracing::error!(%error, "the kafka producer broke and cannot be made anew"),
        }
    }

    /// Sends what is queued, for as long as `deadline` allows.
    pub(super) async fn flush(&self, deadline: Duration) {
        let clients: Vec<_> = self.clients.read().values().cloned().collect();
        let until = Instant::now() + deadline;
        let flushed = tokio::task::spawn_blocking(move || {
            clients
                .iter()
                .try_for_each(|client| client.flush(until.saturating_duration_since(Instant::now())))
        })
        .await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "not everything that was queued could be sent in time");
        }
    }
}

fn throttled() -> PortError {
    PortError::new(
        ErrorKind::Throttled,
        OPERATION,
        "the producer's buffer is full; the brokers do not keep up",
    )
}

fn hand_over_some(
    client: &Client,
    request: &AppendRequest,
    shape: Shape,
    batch: &Arc<Batch>,
    next: &mut usize,
    refused: &mut Vec<(usize, PortError)>,
) -> Stopped {
    let topic = request.topic.as_str();
    let until = (*next + YIELD_AFTER).min(request.records.len());
    while *next < until {
        let index = *next;
        let (partition, record) = &request.records[index];
        if *partition >= shape.partitions {
            let what = format!("topic `{topic}` has no partition {partition}");
            refused.push((index, PortError::new(ErrorKind::NotFound, OPERATION, what)));
            *next += 1;
            continue;
        }
        // Said here, as a broker would refuse the whole batch that it is in.
        if record.size() + BATCH_OVERHEAD > shape.batch_bytes_max {
            let (size, most) = (record.size(), shape.batch_bytes_max);
            let what =
                format!("the record takes {size} bytes; topic `{topic}` takes {most} (`max.message.bytes`)");
            refused.push((index, PortError::new(ErrorKind::TooLarge, OPERATION, what)));
            *next += 1;
            continue;
        }
        let opaque = Box::new((batch.clone(), index as u32));
        match client.send(to_kafka(topic, *partition, record, opaque)) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => return Stopped::Full,
            Err((KafkaError::MessageProduction(Code::UnknownPartition), _)) => return Stopped::Stale,
            Err((KafkaError::MessageProduction(Code::Fatal), _)) => return Stopped::Fatal,
            Err((e, _)) => refused.push((index, error::of(&e, OPERATION, "the record was not taken"))),
        }
        *next += 1;
    }
    if *next < request.records.len() { Stopped::ToYield } else { Stopped::AtEnd }
}

fn to_kafka<'a>(
    topic: &'a str,
    partition: PartitionId,
    record: &'a Record,
    place: Place,
) -> BaseRecord<'a, [u8], [u8], Place> {
    let mut to = BaseRecord::with_opaque_to(topic, place).partition(partition as i32);
    // librdkafka takes 0 for now, so that the very first millisecond cannot be kept.
    to = to.timestamp(record.timestamp.0.max(1));
    if let Some(key) = &record.key {
        to = to.key(&key[..]);
    }
    if let Some(value) = &record.value {
        to = to.payload(&value[..]);
    }
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        to = to.headers(record.headers.iter().fold(headers, |headers, header| {
            headers.insert(Header { key: &header.name, value: header.value.as_deref() })
        }));
    }
    to
}
