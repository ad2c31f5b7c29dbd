//! Consuming: a topic is filled, and all of it is taken and acknowledged.

use super::{PATIENCE, SAMPLE, Session, finished};
use crate::{
    Outcome, events, http, load,
    measure::{Run, Tally, Window},
    process,
    rows::{Contender, On, Way},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How a topic is filled: not a part of what is measured.
const FILL_STREAMS: usize = 8;
const FILL_BATCH: usize = 100;
const FILL_IN_FLIGHT: usize = 4;

impl Session<'_> {
    /// Fills a topic for as long as a run is, and measures how long all of it takes to be consumed.
    pub(super) async fn consume(&mut self, contender: &Contender, topic: &str) -> Outcome<Run> {
        let Way::Subscribe { credits, acks, dedup } = contender.way else {
            return Err("this is no way to consume".to_owned());
        };
        self.serve(On::Embedded).await?;
        let server = self.server(On::Embedded)?;
        let (pid, base, grpc) = (server.pid, server.word("http=")?, server.word("grpc=")?);
        self.create(On::Embedded, &base, topic).await?;
        let fill = Window::after(Duration::ZERO, self.options.window());
        let messages = events::messages(topic, FILL_BATCH);
        let filled = load::grpc::streams(&grpc, messages, FILL_BATCH, (FILL_STREAMS, FILL_IN_FLIGHT), fill);
        let events = filled.await?.all;

        let name = format!("{topic}-all");
        let body = json!({"name": name, "topics": [topic], "dedup": {"enabled": dedup}}).to_string();
        let (status, answer) = http::call(&base, "POST", "/v1/subscriptions", &body).await?;
        if status != 201 {
            return Err(format!("a subscription cannot be made: {status} {answer}"));
        }
        let before = process::cpu_seconds(pid)?;
        let begin = Instant::now();
        let consumed = load::consume::all(&grpc, &name, credits, acks, events);
        let (consumed, rss) = with_memory(pid, consumed).await?;
        let window = Window { begin, end: Instant::now() };
        let cpu = process::cpu_seconds(pid)? - before;
        consumed.map_err(|why| match self.server(On::Embedded) {
            Ok(server) => format!("{why}\nthe end of the server's log:\n{}", server.log()),
            Err(_) => why,
        })?;
        let mut tally = Tally::new();
        (tally.counted, tally.all) = (events, events);
        let run = finished(&tally, &window, (cpu, rss))?;

        drained(&base, &name).await?;
        http::call(&base, "DELETE", &format!("/v1/subscriptions/{name}"), "").await?;
        self.account(On::Embedded, &base, topic, events).await?;
        self.peaks.insert("on the embedded log", process::memory_mb(pid, "VmHWM")?);
        Ok(run)
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
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, answer) = http::call(base, "GET", &format!("/v1/subscriptions/{name}"), "").await?;
        let seen: Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        if seen["lag"] == 0 && seen["inFlight"] == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("all was acknowledged, and yet: {answer}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}
