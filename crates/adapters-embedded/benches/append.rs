//! Appends of 1 KiB to the durable log, beside a bare file with the same group commit: one thread that writes
//! what waits and syncs it, and nothing else. The two take turns in one run; figures are medians of rounds.
//!
//! `cargo bench -p event-streaming-adapters-embedded --bench append [-- --seconds N] [--rounds N] [--json FILE]`
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time, prints, and ends where something cannot be done"
)]

use adapters_embedded::disk::{DiskConfig, DiskLog};
use bytes::Bytes;
use ports::{AppendRequest, EventLog, Record, TopicAdmin, TopicName, TopicSpec};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use testkit::SystemLikeClock;
use tokio::sync::oneshot;

const RECORD_BYTES: usize = 1024;
const CASES: [(usize, usize); 6] = [(1, 1), (1, 100), (1, 1000), (64, 1), (64, 100), (64, 1000)];
/// The least that a batch of 100 or 1000 is to reach of the bare file.
const TARGET: f64 = 0.5;

struct Arguments {
    seconds: f64,
    rounds: usize,
    json: Option<String>,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { seconds: 1.5, rounds: 3, json: None };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--seconds" => {
                arguments.seconds = given.next().and_then(|v| v.parse().ok()).expect("--seconds N")
            }
            "--rounds" => arguments.rounds = given.next().and_then(|v| v.parse().ok()).expect("--rounds N"),
            "--json" => arguments.json = given.next(),
            // Cargo's own.
            _ => {}
        }
    }
    arguments
}

fn main() {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "appends of {RECORD_BYTES} B, durable at each answer; records/s, median of {} rounds\n",
        arguments.rounds
    );
    println!("{:>8} {:>6} {:>12} {:>12} {:>7}  target", "writers", "batch", "log", "bare file", "ratio");
    let mut rows = Vec::new();
    for (writers, batch) in CASES {
        let (mut log, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            let dir = tempfile::tempdir_in(".").expect("a directory on the disk");
            let one = runtime.block_on(append_to_log(dir.path(), writers, batch, arguments.seconds));
            let other = runtime.block_on(append_to_file(dir.path(), writers, batch, arguments.seconds));
            log.push(one);
            bare.push(other);
            ratios.push(one / other);
        }
        let (log, bare, ratio) = (median(log), median(bare), median(ratios));
        let target = match batch {
            1 => "-".to_owned(),
            _ if ratio >= TARGET => format!(">= {TARGET} met"),
            _ => format!(">= {TARGET} MISSED"),
        };
        println!("{writers:>8} {batch:>6} {log:>12.0} {bare:>12.0} {ratio:>7.2}  {target}");
        rows.push(format!(
            "{{\"writers\":{writers},\"batch\":{batch},\"log\":{log:.0},\"bareFile\":{bare:.0},\"ratio\":{ratio:.3}}}"
        ));
    }
    if let Some(path) = arguments.json {
        let json = format!(
            "{{\"bench\":\"append\",\"recordBytes\":{RECORD_BYTES},\"rows\":[{}]}}\n",
            rows.join(",")
        );
        std::fs::write(path, json).expect("the file can be written");
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Runs writers for a while and gives the records a second; `append` writes one batch and returns once it is
/// durable.
async fn measure<F>(writers: usize, batch: usize, seconds: f64, append: impl Fn(usize) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let appended = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let writer = |writer: usize| {
        let (appended, append) = (&appended, &append);
        async move {
            while Instant::now() < until {
                append(writer).await;
                appended.fetch_add(batch as u64, Ordering::Relaxed);
            }
        }
    };
    let tasks: Vec<_> = (0..writers).map(writer).collect();
    futures::future::join_all(tasks).await;
    appended.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

fn payload() -> Bytes {
    testkit::fixtures::payload(&mut testkit::fixtures::rng(1), RECORD_BYTES)
}

async fn append_to_log(dir: &Path, writers: usize, batch: usize, seconds: f64) -> f64 {
    let clock = Arc::new(SystemLikeClock::new());
    let log = Arc::new(DiskLog::open(DiskConfig::new(dir.join("log")), clock).expect("the log opens"));
    let topic = TopicName::new("bench").expect("a name");
    let spec =
        TopicSpec { name: topic.clone(), partitions: 1, replication_factor: None, config: BTreeMap::new() };
    log.create(spec).await.expect("a topic");
    let value = payload();
    measure(writers, batch, seconds, |_| {
        let (log, topic, value) = (log.clone(), topic.clone(), value.clone());
        async move {
            let record = || (0, Record { value: Some(value.clone()), ..Record::default() });
            let records = (0..batch).map(|_| record()).collect();
            let request = AppendRequest { topic, records, timeout: Duration::from_secs(60) };
            let answer = log.append(request).await;
            assert!(answer.outcomes.iter().all(Result::is_ok), "an append failed");
        }
    })
    .await
}

type Job = (Arc<Vec<u8>>, oneshot::Sender<()>);

async fn append_to_file(dir: &Path, writers: usize, batch: usize, seconds: f64) -> f64 {
    let mut file = File::create(dir.join("bare")).expect("a file");
    let (jobs, waiting) = mpsc::channel::<Job>();
    let committer = std::thread::spawn(move || {
        while let Ok(first) = waiting.recv() {
            let group: Vec<Job> = std::iter::once(first).chain(waiting.try_iter()).collect();
            let slices: Vec<_> = group.iter().map(|(bytes, _)| bytes.as_slice()).collect();
            // At most so many slices go in one call of the system.
            for slices in slices.chunks(1000) {
                let slices: Vec<_> = slices.iter().map(|bytes| std::io::IoSlice::new(bytes)).collect();
                write_all(&mut file, slices);
            }
            file.sync_data().expect("it is synced");
            for (_, done) in group {
                let _ = done.send(());
            }
        }
    });
    let bytes = Arc::new(payload().repeat(batch));
    let rate = {
        let jobs = jobs.clone();
        measure(writers, batch, seconds, move |_| {
            let (jobs, bytes) = (jobs.clone(), bytes.clone());
            async move {
                let (tell, told) = oneshot::channel();
                jobs.send((bytes, tell)).expect("the committer runs");
                told.await.expect("it is answered");
            }
        })
        .await
    };
    drop(jobs);
    committer.join().expect("the committer ends");
    rate
}

fn write_all(file: &mut File, mut slices: Vec<std::io::IoSlice<'_>>) {
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let written = file.write_vectored(left).expect("it is written");
        std::io::IoSlice::advance_slices(&mut left, written);
    }
}
