//! A process that appends is killed, 200 times, at any moment, on one and the same data directory: everything
//! that it had said to be acknowledged is there, in its place, and the log goes on from there.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test with a main of its own: it prints, and what cannot be done fails it"
)]

use adapters_embedded::disk::{DiskConfig, DiskLog};
use ports::{
    AppendRequest, EventLog, Position, ReadLimits, Record, TopicAdmin, TopicName, TopicPartition, TopicSpec,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use testkit::SystemLikeClock;

const CYCLES: usize = 200;
const PARTITIONS: u32 = 3;
const WRITERS: u64 = 4;
/// Names the data directory to the process that is to be killed.
const DATA_DIR: &str = "KILL_TEST_DATA_DIR";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if let Some(dir) = std::env::var_os(DATA_DIR) {
        runtime.block_on(append_until_killed(Path::new(&dir)));
        return;
    }
    println!("\nrunning 1 test");
    runtime.block_on(kill_again_and_again());
    println!("test nothing_acknowledged_is_lost_in_{CYCLES}_kills ... ok\n");
}

fn open(dir: &Path) -> DiskLog {
    DiskLog::open(DiskConfig::new(dir), Arc::new(SystemLikeClock::new())).expect("the log opens after a kill")
}

fn topic() -> TopicName {
    TopicName::new("kill").expect("a name")
}

/// Appends batches of random sizes from several tasks, and says on standard output what was acknowledged.
async fn append_until_killed(dir: &Path) {
    let log = open(dir);
    let number = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 32));
    let writers = (0..WRITERS).map(|_| {
        let (log, number) = (log.clone(), number.clone());
        tokio::spawn(async move {
            let mut rng: StdRng = StdRng::from_rng(&mut rand::rng());
            loop {
                let numbers: Vec<u64> =
                    (0..rng.random_range(1..20)).map(|_| number.fetch_add(1, Ordering::Relaxed)).collect();
                let record = |n: &u64| {
                    let mut value = n.to_be_bytes().to_vec();
                    value.resize(8 + (*n % 300) as usize, *n as u8);
                    (
                        (*n % u64::from(PARTITIONS)) as u32,
                        Record { value: Some(value.into()), ..Record::default() },
                    )
                };
                let records = numbers.iter().map(record).collect();
                let request = AppendRequest { topic: topic(), records, timeout: Duration::from_secs(60) };
                let outcomes = log.append(request).await.outcomes;
                let mut said = String::new();
                for (n, outcome) in numbers.iter().zip(outcomes) {
                    let appended = outcome.expect("it is appended");
                    let _ = writeln!(said, "{} {} {n}", n % u64::from(PARTITIONS), appended.offset);
                }
                // One write, so that lines of two tasks are not mixed.
                io::Write::write_all(&mut io::stdout().lock(), said.as_bytes()).expect("the other end reads");
            }
        })
    });
    futures::future::join_all(writers).await;
}

async fn kill_again_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    {
        let log = open(&data);
        // Small segments, so that kills meet their turn too.
        let config = BTreeMap::from([("segment.bytes".to_owned(), "65536".to_owned())]);
        let spec = TopicSpec { name: topic(), partitions: PARTITIONS, replication_factor: None, config };
        log.create(spec).await.expect("a topic");
    }
    let mut rng = StdRng::seed_from_u64(1);
    let mut acknowledged: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let mut checked: BTreeMap<u32, u64> = BTreeMap::new();
    for cycle in 0..CYCLES {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(DATA_DIR, &data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut said = BufReader::new(child.stdout.take().expect("its output")).lines();
        // Killed after any number of acknowledgements, at any point of the next.
        let mut new = Vec::new();
        for line in said.by_ref().take(rng.random_range(1..400)) {
            new.push(line.expect("it can be read"));
        }
        child.kill().expect("it is killed");
        // What it had said before, and we had not read yet; the last line may be cut.
        new.extend(said.map_while(Result::ok));
        child.wait().expect("it is gone");
        for line in &new {
            let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
            if let [partition, offset, number] = fields[..]
                && number % u64::from(PARTITIONS) == partition
                && number >> 32 == u64::from(child.id())
            {
                acknowledged.insert((partition as u32, offset), number);
            }
        }
        let log = open(&data);
        for partition in 0..PARTITIONS {
            let from = checked.entry(partition).or_default();
            *from = check(&log, partition, *from, &acknowledged, cycle).await;
        }
    }
    let log = open(&data);
    for partition in 0..PARTITIONS {
        check(&log, partition, 0, &acknowledged, CYCLES).await;
    }
    assert!(acknowledged.len() > 10 * CYCLES, "only {} were acknowledged", acknowledged.len());
}

/// Reads a partition from `from` to its end and compares it with what was acknowledged. Gives the end.
async fn check(
    log: &DiskLog,
    partition: u32,
    from: u64,
    acknowledged: &BTreeMap<(u32, u64), u64>,
    cycle: usize,
) -> u64 {
    let place = TopicPartition::new(topic(), partition);
    let end = log.locate(&place.topic, &[(partition, Position::Latest)]).await.expect("the end")[0];
    let mut reader = log.open(&place, from).await.expect("a reader");
    let mut expected = acknowledged.range((partition, from)..(partition + 1, 0)).peekable();
    let mut at = from;
    while at < end {
        let limits =
            ReadLimits { records_max: 10_000, bytes_max: 8 << 20, wait_max: Duration::from_secs(10) };
        let fetched = reader.next(limits).await.expect("it can be read");
        for stored in fetched.records {
            assert_eq!(stored.offset, at, "offsets have no gap");
            at += 1;
            let value = stored.record.value.expect("a value");
            let number = u64::from_be_bytes(value[..8].try_into().expect("a number"));
            assert_eq!(
                value.len() as u64,
                8 + number % 300,
                "a torn record at {partition}-{}",
                stored.offset
            );
            if let Some((_, acknowledged)) = expected.next_if(|((_, offset), _)| *offset == stored.offset) {
                assert_eq!(*acknowledged, number, "another record lies at {partition}-{}", stored.offset);
            }
        }
        at = fetched.next.max(at);
    }
    assert_eq!(expected.next(), None, "acknowledged before kill {cycle} and lost");
    end
}
