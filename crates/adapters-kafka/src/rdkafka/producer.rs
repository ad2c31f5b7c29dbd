//! Appending: one idempotent producer, batches that form while others are on their way, and a bound in
//! bytes of our own.
//!
//! Invariants, beside those of `batch` and `gate`:
//! 1. `Effect::None` is said only of a record that was never queued, or that a leader refused.
//! 2. What a caller stops waiting for is still heard.
//! 3. Handing over never waits on behalf of another caller: who meets a full queue or a client that must be
//!    asked or mended goes on by itself.

use super::{
    batch::{Batch, Done, Told},
    error,
    gate::{Gate, Group, HOLD_MAX, Ticket},
    janitor,
    leaders::Leaders,
    metadata::{Metadata, Shape},
    producer_config,
};
use crate::config::KafkaConfig;
use parking_lot::{Mutex, RwLock};
use ports::{AppendRequest, AppendResult, ErrorKind, LateReports, PartitionId, PortError, Record, Result};
use rdkafka::{
    ClientContext, Message as _,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until, timeout_at},
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

/// Where the report of a record goes. One small box a record: librdkafka gives back a pointer, and copies the
/// record anyway.
struct Place {
    batch: Arc<Batch>,
    index: u32,
    /// Its partition's leader is not known yet.
    first: bool,
}

struct Reports {
    leaders: Leaders,
    moved: Arc<Notify>,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Place>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Self::DeliveryOpaque) {
        let Place { batch, index, first } = *place;
        let message = match result {
            Ok(message) | Err((_, message)) => message,
        };
        let accepted = result.is_ok() && message.offset() >= 0;
        if first || !accepted {
            self.leaders.reported(message.topic(), message.partition(), first, accepted);
            self.moved.notify_waiters();
        }
        match result {
            Ok(message) => {
                let timestamp = message.timestamp().to_millis().unwrap_or_default();
                batch.delivered(index as usize, message.offset(), timestamp);
            }
            Err((error, _)) => batch.failed(index as usize, error.rdkafka_error_code().unwrap_or(Code::Fail)),
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
    gate: Arc<Gate<Pending>>,
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

fn create(config: &KafkaConfig, batch_bytes: usize, moved: &Arc<Notify>) -> Result<Arc<Client>> {
    let mut settings = producer_config(config);
    if batch_bytes < BATCH_BYTES {
        settings.set("batch.size", batch_bytes.to_string());
    }
    let reports = Reports { leaders: Leaders::default(), moved: moved.clone() };
    let client = settings.create_with_context(reports);
    client.map(Arc::new).map_err(|e| error::of(&e, "kafka.open", "the producer"))
}

/// The size of batches for a topic: a power of two below what it takes, so that there are few producers.
fn batch_bytes(shape: Shape) -> usize {
    match shape.batch_bytes_max {
        enough if enough > BATCH_BYTES => BATCH_BYTES,
        less => (less.max(2048) / 2 + 1).next_power_of_two(),
    }
}

/// An append that waits for its turn.
struct Pending {
    request: AppendRequest,
    shape: Shape,
    batch: Arc<Batch>,
    /// What its batch begins with.
    start: Mutex<Option<(oneshot::Sender<Told>, OwnedSemaphorePermit)>>,
}

/// How far an append was handed over.
#[derive(Debug, Default)]
struct Progress {
    next: usize,
    /// Those from `next` on that went first to leaders that were not known.
    ahead: BTreeSet<usize>,
}

impl Pending {
    fn refuse_rest(&self, progress: &Progress, error: impl Fn() -> PortError) {
        let rest = (progress.next..self.batch.len()).filter(|index| !progress.ahead.contains(index));
        rest.for_each(|index| self.batch.refused(index, error()));
    }

    /// Hands over one record.
    fn send(&self, client: &Arc<Client>, index: usize, first: bool) -> Result<(), Stopped> {
        let (partition, record) = &self.request.records[index];
        let place = Box::new(Place { batch: self.batch.clone(), index: index as u32, first });
        match client.send(to_kafka(self.request.topic.as_str(), *partition, record, place)) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => Err(Stopped::Full),
            Err((KafkaError::MessageProduction(Code::UnknownPartition), _)) => {
                Err(Stopped::Stale(client.clone()))
            }
            Err((KafkaError::MessageProduction(Code::Fatal), _)) => Err(Stopped::Fatal(client.clone())),
            Err((e, _)) => Err(Stopped::Refused(error::of(&e, OPERATION, "the record was not taken"))),
        }
    }

    fn unfit(&self, index: usize) -> Option<PortError> {
        let (partition, record) = &self.request.records[index];
        unfit(self.request.topic.as_str(), *partition, record, self.shape)
    }
}

/// What became of an append's turn.
enum Turn {
    /// Every record has its outcome.
    Settled,
    /// The deadline passed after some were handed over.
    Late,
    /// The deadline passed before any was.
    TakenBack,
    /// Handing over goes on from `next`.
    Unfinished { next: usize, told: oneshot::Receiver<Told> },
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
    Stale(Arc<Client>),
    /// A leader is not known: records go to it one at a time.
    Unknown(Arc<Client>),
    /// The client is broken for good.
    Fatal(Arc<Client>),
    /// The record at hand.
    Refused(PortError),
}

impl Producer {
    pub(super) fn new(config: Arc<KafkaConfig>, metadata: Arc<Metadata>) -> Result<Self> {
        let units = (config.producer_buffer_bytes / UNIT).clamp(1, u32::MAX as usize >> 1) as u32;
        let moved = Arc::default();
        Ok(Self {
            clients: RwLock::new([(BATCH_BYTES, create(&config, BATCH_BYTES, &moved)?)].into()),
            config,
            metadata,
            room: Arc::new(Semaphore::new(units as usize)),
            units,
            moved,
            gate: Gate::new(),
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
        let batch = Batch::new(count);
        let (tell, mut told) = oneshot::channel();
        let start = Mutex::new(Some((tell, room)));
        let ticket = self.gate.enter(Pending { request, shape, batch: batch.clone(), start }, count);
        let late = match self.turn(&ticket, &mut told, deadline).await {
            Turn::Settled => None,
            Turn::Late => Some(told),
            Turn::TakenBack => return all(&throttled()),
            Turn::Unfinished { next, mut told } => {
                self.go_on(ticket.value(), next, deadline).await;
                timeout_at(deadline, &mut told).await.is_err().then_some(told)
            }
        };
        result(batch, late)
    }

    /// Until the append is settled, led by whoever's turn it is.
    async fn turn(
        &self,
        ticket: &Ticket<Pending>,
        told: &mut oneshot::Receiver<Told>,
        deadline: Instant,
    ) -> Turn {
        let of = |told| match told {
            Ok(Told::Unfinished { next, told }) => Turn::Unfinished { next, told },
            Ok(Told::Settled) | Err(_) => Turn::Settled,
        };
        let mut due = false;
        loop {
            // Also for others alone: who was woken has taken their turn.
            while let Some((group, token)) = self.gate.lead(due) {
                group.iter().for_each(|pending| self.hand_over(pending, &token));
                if !ticket.waits() {
                    break;
                }
            }
            if !ticket.waits() {
                return timeout_at(deadline, told).await.map_or(Turn::Late, of);
            }
            let patience = deadline.min(Instant::now() + HOLD_MAX);
            tokio::select! {
                biased;
                told = &mut *told => return of(told),
                () = self.gate.room() => {}
                () = sleep_until(patience) => {
                    if patience == deadline && ticket.take_back() {
                        return Turn::TakenBack;
                    }
                    due = ticket.waits();
                }
            }
        }
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
        let client = create(&self.config, batch_bytes, &self.moved)?;
        clients.insert(batch_bytes, client.clone());
        Ok(client)
    }

    /// Hands over what librdkafka takes at once; the rest is the owner's.
    fn hand_over(&self, pending: &Pending, group: &Group) {
        let Some((tell, room)) = pending.start.lock().take() else { return };
        let moved = self.moved.clone();
        pending.batch.begin(Done { tell, room, moved, group: group.clone() });
        let mut progress = Progress::default();
        if let Stopped::AtEnd = self.hand_over_some(pending, &mut progress) {
            pending.batch.handed_over();
            return;
        }
        let (tell, told) = oneshot::channel();
        if let Some(owner) = pending.batch.tell_instead(tell) {
            // Where the owner has gone, the rest goes with the batch.
            let _ = owner.send(Told::Unfinished { next: progress.next, told });
        }
    }

    /// Hands over from `next` on, however long it takes.
    async fn go_on(&self, pending: &Pending, next: usize, deadline: Instant) {
        let mut progress = Progress { next, ..Progress::default() };
        let mut asked = 0;
        loop {
            let moved = self.moved.notified();
            let mut stopped = self.hand_over_some(pending, &mut progress);
            if let Stopped::Unknown(client) = &stopped {
                stopped = introduce(pending, &mut progress, client);
            }
            match stopped {
                Stopped::AtEnd => break,
                Stopped::ToYield => tokio::task::yield_now().await,
                Stopped::Full | Stopped::Unknown(_) => {
                    // Something is on its way, as the queue is full or a leader was asked: wait for that.
                    let patience = deadline.min(Instant::now() + Duration::from_millis(50));
                    let _ = timeout_at(patience, moved).await;
                    if Instant::now() >= deadline {
                        let full = matches!(stopped, Stopped::Full);
                        pending.refuse_rest(&progress, if full { throttled } else { unanswered });
                        break;
                    }
                }
                Stopped::Stale(client) => {
                    let topic = pending.request.topic.clone();
                    let timeout = self.config.request_timeout;
                    let asking = tokio::task::spawn_blocking(move || {
                        client.client().fetch_metadata(Some(topic.as_str()), timeout).is_ok()
                    });
                    asked += 1;
                    let answer = timeout_at(deadline, asking).await;
                    if asked > STALE_MAX || !matches!(answer, Ok(Ok(true))) {
                        let what = "the client does not know the partition yet; try again";
                        let unknown = || PortError::new(ErrorKind::Unavailable, OPERATION, what);
                        pending.refuse_rest(&progress, unknown);
                        break;
                    }
                }
                Stopped::Fatal(client) => {
                    self.replace(batch_bytes(pending.shape), &client);
                    let what = "the producer broke and was made anew; try again";
                    pending
                        .refuse_rest(&progress, || PortError::new(ErrorKind::Unavailable, OPERATION, what));
                    break;
                }
                Stopped::Refused(error) => {
                    pending.refuse_rest(&progress, || error.duplicate());
                    break;
                }
            }
        }
        pending.batch.handed_over();
    }

    fn hand_over_some(&self, pending: &Pending, progress: &mut Progress) -> Stopped {
        let Pending { request, shape, batch, .. } = pending;
        let client = match self.client(batch_bytes(*shape)) {
            Ok(client) => client,
            Err(error) => return Stopped::Refused(error),
        };
        let leaders = client.context().leaders.of(request.topic.as_str(), shape.partitions);
        let until = (progress.next + YIELD_AFTER).min(batch.len());
        while progress.next < until {
            let index = progress.next;
            if !progress.ahead.remove(&index) {
                if let Some(error) = pending.unfit(index) {
                    batch.refused(index, error);
                } else if leaders[request.records[index].0 as usize].is_known() {
                    match pending.send(&client, index, false) {
                        Ok(()) => {}
                        Err(Stopped::Refused(error)) => batch.refused(index, error),
                        Err(stopped) => return stopped,
                    }
                } else {
                    return Stopped::Unknown(client);
                }
            }
            progress.next += 1;
        }
        if progress.next < batch.len() { Stopped::ToYield } else { Stopped::AtEnd }
    }

    /// Puts a new client in the place of a broken one. The old one is purged where it is dropped, which
    /// reports what it still held.
    fn replace(&self, batch_bytes: usize, broken: &Arc<Client>) {
        let mut clients = self.clients.write();
        if !clients.get(&batch_bytes).is_some_and(|client| Arc::ptr_eq(client, broken)) {
            return;
        }
        match create(&self.config, batch_bytes, &self.moved) {
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

fn unanswered() -> PortError {
    let what = "the partition's leader did not confirm the first record in time; this one was not sent";
    PortError::new(ErrorKind::Timeout, OPERATION, what)
}

/// Sends a first record to each leader that is not known and has none on its way.
fn introduce(pending: &Pending, progress: &mut Progress, client: &Arc<Client>) -> Stopped {
    let Pending { request, shape, batch, .. } = pending;
    let leaders = client.context().leaders.of(request.topic.as_str(), shape.partitions);
    let mut met = BTreeSet::new();
    for index in progress.next..batch.len() {
        let partition = request.records[index].0;
        if progress.ahead.contains(&index) || pending.unfit(index).is_some() || !met.insert(partition) {
            continue;
        }
        let leader = &leaders[partition as usize];
        if leader.is_known() || !leader.ask() {
            continue;
        }
        match pending.send(client, index, true) {
            Ok(()) => _ = progress.ahead.insert(index),
            Err(stopped) => {
                leader.answered(false);
                match stopped {
                    Stopped::Refused(error) => {
                        batch.refused(index, error);
                        progress.ahead.insert(index);
                    }
                    stopped => return stopped,
                }
            }
        }
    }
    Stopped::Unknown(client.clone())
}

/// Why a topic does not take a record.
fn unfit(topic: &str, partition: PartitionId, record: &Record, shape: Shape) -> Option<PortError> {
    if partition >= shape.partitions {
        let what = format!("topic `{topic}` has no partition {partition}");
        return Some(PortError::new(ErrorKind::NotFound, OPERATION, what));
    }
    // Said here, as a broker would refuse the whole batch that it is in.
    let (size, most) = (record.size(), shape.batch_bytes_max);
    (size + BATCH_OVERHEAD > most).then(|| {
        let what =
            format!("the record takes {size} bytes; topic `{topic}` takes {most} (`max.message.bytes`)");
        PortError::new(ErrorKind::TooLarge, OPERATION, what)
    })
}

/// What is known of the batch now, and what `late` tells of.
fn result(batch: Arc<Batch>, late: Option<oneshot::Receiver<Told>>) -> AppendResult {
    let mut open = Vec::new();
    let outcomes = (0..batch.len())
        .map(|index| {
            batch.outcome(index).unwrap_or_else(|| {
                open.push(index);
                let what = "the log did not confirm the record in time";
                Err(PortError::new(ErrorKind::Timeout, OPERATION, what).effect_unknown())
            })
        })
        .collect();
    let late = late.filter(|_| !open.is_empty()).map(|told| -> LateReports {
        Box::pin(async move {
            // Told when the last one is reported; dropped when the process ends first.
            let _ = told.await;
            open.into_iter().filter_map(|index| Some((index, batch.outcome(index)?))).collect()
        })
    });
    AppendResult { outcomes, late }
}

fn to_kafka<'a>(
    topic: &'a str,
    partition: PartitionId,
    record: &'a Record,
    place: Box<Place>,
) -> BaseRecord<'a, [u8], [u8], Box<Place>> {
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
