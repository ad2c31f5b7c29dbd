//! librdkafka's producer, used directly: what the service stands on, with the settings that it has there.

use crate::{Outcome, measure::Tally, measure::Window};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    error::KafkaError,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// A producer whose reports are given to what was sent along with each record.
pub(crate) type Producer = Arc<ThreadedProducer<Reports>>;

/// Connects when it is used. `acks=all`, idempotent, no linger: as the service has it unless configured.
pub(crate) fn producer(brokers: &str) -> Outcome<Producer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "event-streaming-bench")
        .set("socket.keepalive.enable", "true")
        .set("linger.ms", "0")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "60000")
        .set("queue.buffering.max.kbytes", "131072")
        .set("queue.buffering.max.messages", "2000000")
        .set("message.max.bytes", "100000000")
        // As Java's, and as the service's.
        .set("partitioner", "murmur2_random");
    config.create_with_context(Reports).map(Arc::new).map_err(|e| format!("the producer cannot be made: {e}"))
}

/// Where a record went.
pub(crate) type Place = Result<(i32, i64), KafkaError>;

/// What waits for the report of one record.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// The record at this index of a batch that is answered together.
    Batch(Arc<Batch>, usize),
    /// A record of a load, counted from this time on.
    Load(Arc<Load>, Instant),
}

/// Gives each report to what waits for it.
#[derive(Debug)]
pub(crate) struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, report: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        let place = match report {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        match *waiting {
            Waiting::Batch(batch, index) => batch.reported(index, place),
            Waiting::Load(load, since) => load.reported(since, &place),
        }
    }
}

/// Records that are answered together: one waker for all.
#[derive(Debug)]
pub(crate) struct Batch {
    left: AtomicUsize,
    places: Mutex<Vec<Place>>,
    /// Taken by the last report.
    done: Mutex<Option<oneshot::Sender<Vec<Place>>>>,
}

impl Batch {
    /// Of this many records; the receiver gets their places in their order.
    pub(crate) fn of(records: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Place>>) {
        let (sender, receiver) = oneshot::channel();
        let places = vec![Ok((-1, -1)); records];
        let left = AtomicUsize::new(records);
        let (places, done) = (Mutex::new(places), Mutex::new(Some(sender)));
        (Arc::new(Self { left, places, done }), receiver)
    }

    /// Takes down one report; the last one wakes who waits.
    pub(crate) fn reported(&self, index: usize, place: Place) {
        self.places.lock()[index] = place;
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let places = std::mem::take(&mut *self.places.lock());
            if let Some(done) = self.done.lock().take() {
                // Who waited may have gone.
                let _ = done.send(places);
            }
        }
    }
}

/// A load of records that go out one after the other, with a bound on what is on its way.
#[derive(Debug)]
pub(crate) struct Load {
    window: Window,
    /// Whether records are due at a time, rather than sent as fast as they go.
    paced: bool,
    in_flight: AtomicUsize,
    /// At so many on their way the sender, which waits at its bound, is woken.
    wake_at: usize,
    sender: Thread,
    seen: Mutex<(Tally, Option<KafkaError>)>,
}

impl Load {
    /// One that this thread sends, which is to be woken when `wake_at` are left on their way.
    pub(crate) fn of_this_thread(window: Window, paced: bool, wake_at: usize) -> Arc<Self> {
        Arc::new(Self {
            window,
            paced,
            in_flight: AtomicUsize::new(0),
            wake_at,
            sender: std::thread::current(),
            seen: Mutex::new((Tally::new(), None)),
        })
    }

    /// Sends a record, counted from `since` on.
    pub(crate) fn send(
        self: &Arc<Self>,
        producer: &Producer,
        topic: &str,
        event: &crate::events::Event,
        since: Instant,
    ) -> Outcome<()> {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let waiting = Box::new(Waiting::Load(self.clone(), since));
        send(producer, topic, &event.key, event.value.as_bytes(), waiting)
            .map_err(|(error, _)| refused(&error))
    }

    /// How many are on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Waits for the last report, and gives what was seen.
    pub(crate) fn finish(self: Arc<Self>, producer: &Producer) -> Outcome<Tally> {
        producer
            .flush(Duration::from_secs(60))
            .map_err(|e| format!("the producer cannot be emptied: {e}"))?;
        let (tally, error) = std::mem::replace(&mut *self.seen.lock(), (Tally::new(), None));
        match error {
            None => Ok(tally),
            Some(error) => Err(refused(&error)),
        }
    }

    fn reported(&self, since: Instant, place: &Place) {
        let now = Instant::now();
        {
            let mut seen = self.seen.lock();
            match place {
                Ok(_) if self.paced => seen.0.due(&self.window, 1, since, now),
                Ok(_) => seen.0.acknowledged(&self.window, 1, since, now),
                Err(error) => seen.1 = Some(error.clone()),
            }
        }
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == self.wake_at + 1 {
            self.sender.unpark();
        }
    }
}

/// Hands one record to the producer; gives back what waits when that does not take it.
pub(crate) fn send(
    producer: &Producer,
    topic: &str,
    key: &str,
    value: &[u8],
    waiting: Box<Waiting>,
) -> Result<(), (KafkaError, Box<Waiting>)> {
    let record = BaseRecord::with_opaque_to(topic, waiting).key(key).payload(value);
    producer.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
}

pub(crate) fn refused(error: &KafkaError) -> String {
    format!("Kafka refused a record: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_answered_once_all_its_records_are_reported_in_their_order() {
        let (batch, mut receiver) = Batch::of(2);
        batch.reported(1, Ok((0, 7)));
        assert!(receiver.try_recv().is_err());
        batch.reported(0, Ok((2, 9)));
        assert_eq!(receiver.try_recv().unwrap(), [Ok((2, 9)), Ok((0, 7))]);
    }
}
