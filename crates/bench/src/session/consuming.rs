//! Consuming: a topic is filled, and all of it is taken and acknowledged.

use super::{PATIENCE, SAMPLE, Session, finished};
use crate::{
    Outcome, consumer, events, http, load,
    measure::{Run, Tally, Window},
    process::{self, Server},
    rows::{Contender, Dedup, On, Way},
};
use serde_json::{Value, json};
use std::{ffi::OsString, time::Duration};
use tokio::time::sleep;

/// How a topic is filled: not a part of what is measured.
const FILL_STREAMS: usize = 8;
const FILL_BATCH: usize = 100;
const FILL_IN_FLIGHT: usize = 4;
/// The longest that a topic of Kafka is filled for.
const FILL_MAX: Duration = Duration::from_secs(3);
/// How long a consumer in a process of its own may take beyond its window.
const SLACK: Duration = Duration::from_secs(120);

/// A topic that contenders on Kafka share, each in a group of its own.
#[derive(Clone, Debug)]
pub(super) struct Filled {
    pub(super) topic: String,
    pub(super) events: u64,
}

impl Session<'_> {
    /// Measures how long all of a topic takes to be consumed: one that is filled for this run on the embedded
    /// log, and the one that all share on Kafka.
    pub(super) async fn consume(&mut self, contender: &Contender, topic: &str) -> Outcome<Run> {
        match contender.way {
            Way::Subscribe { server: On::Embedded, dedup, .. } => {
                let events = self.fill(On::Embedded, topic, self.options.window()).await?;
                let run = self.by_client(contender, On::Embedded, topic, events, dedup).await?;
                let base = self.server(On::Embedded)?.word("http=")?;
                self.account(On::Embedded, &base, topic, events).await?;
                Ok(run)
            }
            Way::Subscribe { server, dedup, .. } | Way::Pull { server, dedup, .. } => {
                let Filled { topic, events } = self.filled().await?;
                self.by_client(contender, server, &topic, events, dedup).await
            }
            Way::RawConsume => {
                let Filled { topic, events } = self.filled().await?;
                let brokers = self.kafka()?.brokers.clone();
                let arguments = ["bare-consumer".into(), brokers, topic, events.to_string()];
                let mut run = self.by_process(&arguments.map(OsString::from), events).await?;
                // Its memory says nothing about anybody's server.
                run.rss_mb = None;
                Ok(run)
            }
            Way::Handler { dedup } => {
                let Filled { topic, events } = self.filled().await?;
                let brokers = self.kafka()?.brokers.clone();
                let mut arguments: Vec<OsString> =
                    ["handler".into(), brokers, topic, events.to_string()].map(OsString::from).into();
                arguments.push(self.new_folder()?);
                match dedup {
                    Dedup::Off => {}
                    Dedup::Embedded => arguments.extend(["--dedup", "embedded"].map(OsString::from)),
                    Dedup::Redis => {
                        let redis = self.redis()?.into();
                        arguments.extend(["--dedup".into(), "redis".into(), "--redis".into(), redis]);
                    }
                }
                self.by_process(&arguments, events).await
            }
            _ => Err("this is no way to consume".to_owned()),
        }
    }

    /// Single events at a rate, to a handler or to their receipts, on the embedded log in one process.
    pub(super) async fn paced_handler(&mut self, rate: u32, to: consumer::To) -> Outcome<Run> {
        let (warm_up, window) = (self.options.warm_up(), self.options.window());
        let millis = |of: Duration| OsString::from(of.as_millis().to_string());
        let mut arguments: Vec<OsString> = vec!["paced-handler".into(), self.new_folder()?];
        arguments.extend([OsString::from(rate.to_string()), millis(warm_up), millis(window)]);
        match to {
            consumer::To::Receipt => arguments.push("--receipts".into()),
            consumer::To::Handler { dedup: true } => arguments.push("--dedup".into()),
            consumer::To::Handler { dedup: false } => {}
        }
        let server = self.process(&arguments).await?;
        let figure = |name| server.word(name)?.parse::<f64>().map_err(|e| format!("{name} {e}"));
        let rate = figure("rate=")?;
        let cpu = process::cpu_seconds(server.pid)? / (warm_up + window).as_secs_f64();
        Ok(Run {
            events_per_second: rate,
            p50_ms: Some(figure("p50=")?),
            p99_ms: Some(figure("p99=")?),
            cpu_seconds_per_million: Some(cpu * 1e6 / rate),
            rss_mb: Some(process::memory_mb(server.pid, "VmHWM")?),
        })
    }

    /// Deletes the topic that was shared on Kafka.
    pub(super) async fn empty(&mut self) -> Outcome<()> {
        let Some(Filled { topic, .. }) = self.filled.take() else { return Ok(()) };
        self.kafka()?.delete(&topic).await
    }

    async fn filled(&mut self) -> Outcome<Filled> {
        if let Some(filled) = &self.filled {
            return Ok(filled.clone());
        }
        let topic = format!("bench-{}-filled", self.topics);
        let events = self.fill(On::Kafka, &topic, self.options.window().min(FILL_MAX)).await?;
        let filled = Filled { topic, events };
        self.filled = Some(filled.clone());
        Ok(filled)
    }

    async fn fill(&mut self, on: On, topic: &str, length: Duration) -> Outcome<u64> {
        self.serve(on).await?;
        let server = self.server(on)?;
        let (base, grpc) = (server.word("http=")?, server.word("grpc=")?);
        self.create(on, &base, topic).await?;
        let window = Window::after(Duration::ZERO, length);
        let messages = events::messages(topic, FILL_BATCH);
        let filled = load::grpc::streams(&grpc, messages, FILL_BATCH, (FILL_STREAMS, FILL_IN_FLIGHT), window);
        Ok(filled.await?.all)
    }

    /// A client of the service takes everything.
    async fn by_client(
        &mut self,
        contender: &Contender,
        on: On,
        topic: &str,
        events: u64,
        dedup: Dedup,
    ) -> Outcome<Run> {
        self.serve(on).await?;
        let server = self.server(on)?;
        let (pid, base, grpc) = (server.pid, server.word("http=")?, server.word("grpc=")?);
        self.topics = self.topics.wrapping_add(1);
        let name = format!("{topic}-all-{}", self.topics);
        let body =
            json!({"name": name, "topics": [topic], "dedup": {"enabled": dedup != Dedup::Off}}).to_string();
        let (status, answer) = http::call(&base, "POST", "/v1/subscriptions", &body).await?;
        if status != 201 {
            return Err(format!("a subscription cannot be made: {status} {answer}"));
        }
        let before = process::cpu_seconds(pid)?;
        let consumed = async {
            match contender.way {
                Way::Subscribe { credits, acks, .. } => {
                    load::consume::all(&grpc, &name, credits, acks, events).await
                }
                Way::Pull { max, connections, .. } => {
                    load::pull::all(&base, &name, max, connections, events).await
                }
                _ => Err("this is no client of the service".to_owned()),
            }
        };
        let (consumed, rss) = with_memory(pid, consumed).await?;
        let cpu = process::cpu_seconds(pid)? - before;
        let span = consumed.map_err(|why| match self.server(on) {
            Ok(server) => format!("{why}\nthe end of the server's log:\n{}", server.log()),
            Err(_) => why,
        })?;
        let window = Window { begin: span.first, end: span.last };
        let mut tally = Tally::new();
        (tally.counted, tally.all) = (events, events);
        let run = finished(&tally, &window, (cpu, rss))?;
        drained(&base, &name).await?;
        http::call(&base, "DELETE", &format!("/v1/subscriptions/{name}"), "").await?;
        let log = if on == On::Embedded { "on the embedded log" } else { "on Kafka" };
        self.peaks.insert(log, process::memory_mb(pid, "VmHWM")?);
        Ok(run)
    }

    /// A consumer in a process of its own takes everything. Its CPU is counted from its start.
    async fn by_process(&mut self, arguments: &[OsString], events: u64) -> Outcome<Run> {
        let server = self.process(arguments).await?;
        let seconds = server.word("seconds=")?.parse::<f64>().map_err(|e| format!("seconds: {e}"))?;
        Ok(Run {
            events_per_second: events as f64 / seconds,
            cpu_seconds_per_million: Some(process::cpu_seconds(server.pid)? * 1e6 / events as f64),
            rss_mb: Some(process::memory_mb(server.pid, "VmHWM")?),
            ..Run::default()
        })
    }

    /// Runs this program as a consumer until it says that it is done.
    async fn process(&mut self, arguments: &[OsString]) -> Outcome<Server> {
        let this = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        let log = self.folder.path().join("consumer.log");
        let patience = self.options.warm_up() + self.options.window() + SLACK;
        Server::start_within(patience, &this, arguments, consumer::DONE, &log).await
    }

    /// A folder that nobody has written to.
    fn new_folder(&mut self) -> Outcome<OsString> {
        self.topics = self.topics.wrapping_add(1);
        let folder = self.folder.path().join(format!("application-{}", self.topics));
        std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder.into())
    }
}

/// What a load gives, and the most memory that a process was seen with while it ran.
async fn with_memory<T>(pid: u32, load: impl Future<Output = T>) -> Outcome<(T, f64)> {
    let mut load = std::pin::pin!(load);
    let mut highest: f64 = 0.0;
    loop {
        tokio::select! {
            done = &mut load => return Ok((done, highest.max(process::memory_mb(pid, "VmRSS")?))),
            () = sleep(SAMPLE) => highest = highest.max(process::memory_mb(pid, "VmRSS")?),
        }
    }
}

/// Looks whether everything comes to be committed.
async fn drained(base: &str, name: &str) -> Outcome<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, answer) = http::call(base, "GET", &format!("/v1/subscriptions/{name}"), "").await?;
        let seen: Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        if seen["lag"] == 0 && seen["inFlight"] == 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(format!("all was acknowledged, and yet: {answer}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}
