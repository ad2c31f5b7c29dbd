//! Claims and settlements of the tables, by the keys of a call, with one caller and with several at once.
//! Each answer is on disk. Beside them a bare database that writes rows of the same size under the same keys
//! and a queue of them, and asks nothing. Figures are medians of rounds.
//!
//! `cargo bench -p event-streaming-adapters-embedded --bench claims [-- --seconds N] [--rounds N] [--rows N] [--json FILE]`
//!
//! `--rows` lie in the tables before a round begins, as keys that were done.
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time, prints, and ends where something cannot be done"
)]

use adapters_embedded::tables::{FILE_NAME, TableClaims, Tables};
use bytes::Bytes;
use ports::{ClaimKey, ClaimRequest, Ground, IdempotencyStore, Settlement, Token};
use redb::{Database, TableDefinition};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use testkit::SystemLikeClock;

const CASES: [(usize, usize); 8] =
    [(1, 1), (1, 10), (1, 100), (1, 1000), (16, 1), (16, 10), (16, 100), (16, 1000)];
/// The length of the row of a lease without notes.
const ROW_BYTES: usize = 40;
/// Pages that the bare database keeps, as the tables do.
const CACHE_BYTES: usize = 8 << 20;
const LEASE: Duration = Duration::from_secs(35);
const KEEP: Duration = Duration::from_hours(1);

struct Arguments {
    seconds: f64,
    rounds: usize,
    rows: u64,
    json: Option<String>,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { seconds: 1.0, rounds: 3, rows: 100_000, json: None };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--seconds" => {
                arguments.seconds = given.next().and_then(|v| v.parse().ok()).expect("--seconds N");
            }
            "--rounds" => arguments.rounds = given.next().and_then(|v| v.parse().ok()).expect("--rounds N"),
            "--rows" => arguments.rows = given.next().and_then(|v| v.parse().ok()).expect("--rows N"),
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
    let dir = tempfile::tempdir_in(".").expect("a directory on the disk");
    let number = Numbers::default();
    {
        let claims = open(dir.path());
        runtime.block_on(fill(&claims, &number, arguments.rows));
    }
    println!(
        "claims over {} rows, on disk at each answer; keys/s, median of {} rounds\n",
        arguments.rows, arguments.rounds
    );
    println!("{:>8} {:>6} {:>12} {:>12} {:>12}", "callers", "batch", "claims", "settles", "bare rows");
    let bare = Bare::open(&dir.path().join("bare.redb"));
    bare.fill(arguments.rows);
    let mut rows = Vec::new();
    for (callers, batch) in CASES {
        let (mut claimed, mut settled, mut rows_bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            let claims = open(dir.path());
            let (one, other) = runtime.block_on(measure(&claims, &number, callers, batch, arguments.seconds));
            claimed.push(one);
            settled.push(other);
            // What callers bring at once is one batch for the one writer.
            rows_bare.push(bare.measure(callers * batch, arguments.seconds));
        }
        let (claimed, settled, bare) = (median(claimed), median(settled), median(rows_bare));
        println!("{callers:>8} {batch:>6} {claimed:>12.0} {settled:>12.0} {bare:>12.0}");
        rows.push(format!(
            "{{\"callers\":{callers},\"batch\":{batch},\"claims\":{claimed:.0},\"settles\":{settled:.0},\"bareRows\":{bare:.0}}}"
        ));
    }
    let bytes = std::fs::metadata(dir.path().join(FILE_NAME)).expect("the file").len();
    let (recovery, rows_now) = (reopen_after_crash(dir.path()), number.0.load(Ordering::Relaxed));
    println!(
        "\n{rows_now} rows in {:.0} MB; opened after a crash in {:.0} ms",
        bytes as f64 / 1e6,
        recovery.as_secs_f64() * 1e3
    );
    if let Some(path) = arguments.json {
        let json = format!(
            "{{\"bench\":\"claims\",\"rowsBefore\":{},\"crashOpenMs\":{:.0},\"rows\":[{}]}}\n",
            arguments.rows,
            recovery.as_secs_f64() * 1e3,
            rows.join(",")
        );
        std::fs::write(path, json).expect("the file can be written");
    }
}

/// Gives every claim a key of its own.
#[derive(Clone, Default)]
struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn requests(&self, count: usize) -> Vec<ClaimRequest> {
        let first = self.0.fetch_add(count as u64, Ordering::Relaxed);
        (first..first + count as u64)
            .map(|number| ClaimRequest {
                key: key(number),
                token: Token(number),
                lease: LEASE,
                keep: KEEP,
                ground: Ground::Free,
                note: Bytes::new(),
            })
            .collect()
    }
}

/// Scattered over the tree as hashes are.
fn key(number: u64) -> ClaimKey {
    let scattered = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    ClaimKey(scattered.to_be_bytes())
}

fn completions(requests: &[ClaimRequest]) -> Vec<(ClaimKey, Token, Settlement)> {
    let complete = || Settlement::Complete { outcome: Bytes::from_static(b"acknowledged"), keep: KEEP };
    requests.iter().map(|request| (request.key, request.token, complete())).collect()
}

fn open(dir: &Path) -> TableClaims {
    let tables = Tables::open(dir).expect("the tables open");
    tables.claims(Arc::new(SystemLikeClock::new())).expect("the claims open")
}

async fn fill(claims: &TableClaims, numbers: &Numbers, rows: u64) {
    while numbers.0.load(Ordering::Relaxed) < rows {
        let requests = numbers.requests(10_000);
        let completions = completions(&requests);
        claims.claim(requests).await.expect("keys can be claimed");
        claims.settle(completions).await.expect("leases can be settled");
    }
}

/// Claims a second, and then settlements a second of what was claimed.
async fn measure(
    claims: &TableClaims,
    numbers: &Numbers,
    callers: usize,
    batch: usize,
    seconds: f64,
) -> (f64, f64) {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let begin = Instant::now();
    let claimer = || {
        let (claims, numbers) = (claims.clone(), numbers.clone());
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            while Instant::now() < until {
                let requests = numbers.requests(batch);
                claimed.push(completions(&requests));
                claims.claim(requests).await.expect("keys can be claimed");
            }
            claimed
        })
    };
    let claimed = futures::future::join_all((0..callers).map(|_| claimer())).await;
    let claim_seconds = begin.elapsed().as_secs_f64();
    let claimed: Vec<_> = claimed.into_iter().map(|claimed| claimed.expect("a claimer ends")).collect();
    let keys: usize = claimed.iter().flatten().map(Vec::len).sum();

    let begin = Instant::now();
    let settler = |claimed: Vec<Vec<_>>| {
        let claims = claims.clone();
        tokio::spawn(async move {
            for completions in claimed {
                claims.settle(completions).await.expect("leases can be settled");
            }
        })
    };
    for settled in futures::future::join_all(claimed.into_iter().map(settler)).await {
        settled.expect("a settler ends");
    }
    (keys as f64 / claim_seconds, keys as f64 / begin.elapsed().as_secs_f64())
}

/// Rows and a queue of them, in a database of its own.
struct Bare {
    database: Database,
    numbers: Numbers,
}

impl Bare {
    const ROWS: TableDefinition<'static, &'static [u8; 16], &'static [u8]> = TableDefinition::new("rows");
    const QUEUE: TableDefinition<'static, &'static [u8; 24], ()> = TableDefinition::new("queue");

    fn open(path: &Path) -> Self {
        let mut builder = Database::builder();
        let database = builder.set_cache_size(CACHE_BYTES).create(path).expect("the database opens");
        Self { database, numbers: Numbers::default() }
    }

    fn write(&self, count: usize) {
        let transaction = self.database.begin_write().expect("a transaction");
        {
            let mut rows = transaction.open_table(Self::ROWS).expect("a table");
            let mut queue = transaction.open_table(Self::QUEUE).expect("a table");
            let first = self.numbers.0.fetch_add(count as u64, Ordering::Relaxed);
            for number in first..first + count as u64 {
                let key = key(number).0;
                rows.insert(&key, [7; ROW_BYTES].as_slice()).expect("a row is written");
                let mut entry = [0; 24];
                entry[..8].copy_from_slice(&number.to_be_bytes());
                entry[8..].copy_from_slice(&key);
                queue.insert(&entry, ()).expect("an entry is written");
            }
        }
        transaction.commit().expect("it is on disk");
    }

    fn fill(&self, rows: u64) {
        while self.numbers.0.load(Ordering::Relaxed) < rows {
            self.write(10_000);
        }
    }

    fn measure(&self, batch: usize, seconds: f64) -> f64 {
        let begin = Instant::now();
        let mut written = 0;
        while begin.elapsed().as_secs_f64() < seconds {
            self.write(batch);
            written += batch;
        }
        written as f64 / begin.elapsed().as_secs_f64()
    }
}

/// How long it takes to open what a crash leaves: a copy of the file while it is open.
fn reopen_after_crash(dir: &Path) -> Duration {
    let crashed = tempfile::tempdir_in(".").expect("a directory on the disk");
    {
        let _claims = open(dir);
        std::fs::copy(dir.join(FILE_NAME), crashed.path().join(FILE_NAME)).expect("the file can be copied");
    }
    let begin = Instant::now();
    open(crashed.path());
    begin.elapsed()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
