//! Consumers that are processes of their own: the bare client, and an application with the service inside.
//! Each says a line when it has everything, and then waits to be killed, so that it can be looked at.

use crate::{
    Outcome, events,
    measure::{Run, Tally, Window},
    rows::Dedup,
    session::address,
};
use adapters_redis::{Redis, RedisConfig};
use bytes::Bytes;
use event_streaming::{
    Delivered, Event, Handler, HandlerError, HandlerOptions, KafkaConfig, NewDedup, NewSubscription, Raw,
    Service, each,
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// What stands before the figures in the line that says that it is done.
pub(crate) const DONE: &str = "consumed:";
/// Calls of a handler at once: what it does is nothing, so that more are under way than of one that works.
const CONCURRENCY: usize = 256;
/// How long nothing may come.
const STALL: Duration = Duration::from_secs(20);
/// Partitions of a topic on the embedded log.
const PARTITIONS: u32 = 3;

/// All of a topic by the client library itself, with automatic commits as often as the service's.
pub(crate) fn bare(brokers: &str, topic: &str, events: u64) -> Outcome<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-bare-{}", std::process::id()))
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("auto.commit.interval.ms", "100")
        .set("fetch.wait.max.ms", "50")
        .create()
        .map_err(|e| format!("no consumer: {e}"))?;
    consumer.subscribe(&[topic]).map_err(|e| format!("no subscription: {e}"))?;
    let mut first = None;
    let mut bytes = 0;
    for number in 0..events {
        bytes += next(&consumer)?.ok_or_else(|| format!("nothing more came behind {number}"))?;
        first.get_or_insert_with(Instant::now);
    }
    consumer.commit_consumer_state(CommitMode::Sync).map_err(|e| format!("no commit: {e}"))?;
    let seconds = first.map_or(0.0, |first: Instant| first.elapsed().as_secs_f64());
    println!("{DONE} seconds={seconds} bytes={bytes}");
    wait_for_the_end()
}

/// The size of the next value; none where nothing comes for too long. A poll also ends for what concerns the
/// group alone.
fn next(consumer: &BaseConsumer) -> Outcome<Option<usize>> {
    let poll = || consumer.poll(Duration::from_secs(1));
    let Some(message) = poll().or_else(|| {
        let deadline = Instant::now() + STALL;
        std::iter::repeat_with(poll).take_while(|_| Instant::now() < deadline).find_map(|message| message)
    }) else {
        return Ok(None);
    };
    message.map(|message| Some(message.payload_len())).map_err(|e| format!("the consumer failed: {e}"))
}

/// All of a topic of Kafka by a handler that does nothing but count.
pub(crate) fn handler(
    brokers: &str,
    topic: &str,
    events: u64,
    data: &Path,
    dedup: Dedup,
    redis: Option<&str>,
) -> Outcome<()> {
    runtime()?.block_on(async {
        let kafka = KafkaConfig { bootstrap_servers: brokers.to_owned(), ..KafkaConfig::default() };
        let mut builder = Service::builder().kafka(kafka, data);
        if let Some(redis) = redis {
            let (host, port) = address(redis)?;
            let config = RedisConfig { host: host.to_owned(), port, ..RedisConfig::default() };
            builder = builder.claims(Redis::open(&config).map_err(|e| e.to_string())?.idempotency());
        }
        let service = builder.start().await.map_err(said)?;
        let counting = Arc::new(Counting { left: AtomicU64::new(events), ..Counting::default() });
        let name = format!("{topic}-handler-{}", std::process::id());
        let options = HandlerOptions { concurrency: CONCURRENCY, ..HandlerOptions::default() };
        let handler = each(Raw, counting.clone());
        service
            .handle_with(subscription(&name, topic, dedup != Dedup::Off), handler, options)
            .await
            .map_err(said)?;
        counting.done.notified().await;
        committed(&service, &name).await?;
        let seconds = counting.first.get().map_or(0.0, |first| first.elapsed().as_secs_f64());
        println!("{DONE} seconds={seconds}");
        Ok::<_, String>(())
    })?;
    wait_for_the_end()
}

/// Single events at a rate a second from their publisher to a handler in one process on the embedded log, or
/// to their receipts alone.
pub(crate) fn paced(data: &Path, rate: u32, window: Window, to: To) -> Outcome<()> {
    let runtime = runtime()?;
    let timed = Arc::new(Timed { begin: Instant::now(), rate, window, seen: Mutex::new(Tally::new()) });
    let topic = "bench";
    let service = runtime.block_on(async {
        let service = Service::builder().embedded(data).start().await.map_err(said)?;
        service.ensure_topic(topic, PARTITIONS).await.map_err(said)?;
        if let To::Handler { dedup } = to {
            let handler = each(Raw, timed.clone());
            service.handle(subscription("bench", topic, dedup), handler).await.map_err(said)?;
        }
        Ok::<_, String>(Arc::new(service))
    })?;
    let events = events::events();
    for (number, event) in (0_u32..).zip(events.iter().cycle()) {
        let due = timed.due(number);
        if due >= window.end {
            break;
        }
        let data = format!("{number:010}{}", &event.value[10..]);
        let event = Event {
            key: Some(Bytes::copy_from_slice(event.key.as_bytes())),
            data: Some(data.into()),
            ..Event::default()
        };
        sleep_until(due);
        let (service, timed) = (service.clone(), timed.clone());
        runtime.spawn(async move {
            let published = service.publish(topic, [event]).await;
            let is_receipt = published.is_ok_and(|receipts| receipts.iter().all(Result::is_ok));
            if is_receipt && to == To::Receipt {
                timed.came(number);
            }
        });
    }
    // What was due in the window may come a moment after it.
    let expected = (window.seconds() * f64::from(rate)) as u64;
    let patience = Instant::now() + STALL;
    while timed.seen.lock().counted + 1 < expected && Instant::now() < patience {
        sleep_until(Instant::now() + Duration::from_millis(20));
    }
    let run = Run::new(&timed.seen.lock(), &window);
    let (p50, p99) = (run.p50_ms.unwrap_or(f64::NAN), run.p99_ms.unwrap_or(f64::NAN));
    println!("{DONE} rate={} p50={p50} p99={p99}", run.events_per_second);
    wait_for_the_end()
}

/// Until when a paced event is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// It is at its handler.
    Handler {
        /// Whether it was claimed first.
        dedup: bool,
    },
    /// It is durable.
    Receipt,
}

#[derive(Default)]
struct Counting {
    left: AtomicU64,
    first: OnceLock<Instant>,
    done: Notify,
}

impl Handler for Counting {
    type Event = Bytes;

    async fn handle(&self, _event: Delivered<Bytes>) -> Result<(), HandlerError> {
        self.first.get_or_init(Instant::now);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
        Ok(())
    }
}

struct Timed {
    begin: Instant,
    rate: u32,
    window: Window,
    seen: Mutex<Tally>,
}

impl Timed {
    fn due(&self, number: u32) -> Instant {
        self.begin + Duration::from_secs(1) * number / self.rate
    }

    fn came(&self, number: u32) {
        self.seen.lock().due(&self.window, 1, self.due(number), Instant::now());
    }
}

impl Handler for Timed {
    type Event = Bytes;

    async fn handle(&self, event: Delivered<Bytes>) -> Result<(), HandlerError> {
        let number = event
            .data
            .get(..10)
            .map(std::str::from_utf8)
            .ok_or("too short")
            .map_err(HandlerError::reject)??;
        self.came(number.parse()?);
        Ok(())
    }
}

fn subscription(name: &str, topic: &str, dedup: bool) -> NewSubscription {
    NewSubscription {
        name: name.to_owned(),
        topics: vec![topic.to_owned()],
        dedup: NewDedup { enabled: Some(dedup), ..NewDedup::default() },
        ..NewSubscription::default()
    }
}

async fn committed(service: &Service, name: &str) -> Outcome<()> {
    let deadline = Instant::now() + STALL;
    while service.subscriptions().get(name).await.map_err(said)?.lag > 0 {
        if Instant::now() > deadline {
            return Err("everything was handled, and is not committed".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| format!("the runtime cannot be started: {e}"))
}

#[allow(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn said(error: event_streaming::Error) -> String {
    format!("the service says: {error}")
}

#[allow(clippy::disallowed_methods, reason = "the pace of a load is real time, to the microsecond")]
fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}
