//! A process that claims and settles is killed, 60 times, at any moment, on one and the same data directory:
//! every lease and every outcome that it had said to have is there.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test with a main of its own: it prints, and what cannot be done fails it"
)]

use adapters_embedded::tables::{TableClaims, Tables};
use bytes::Bytes;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, IdempotencyStore, Settled, Settlement, Token};
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

const CYCLES: usize = 60;
const CALLERS: u64 = 4;
const LONG: Duration = Duration::from_hours(1);
/// Names the data directory to the process that is to be killed.
const DATA_DIR: &str = "KILL_CLAIMS_TEST_DATA_DIR";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if let Some(dir) = std::env::var_os(DATA_DIR) {
        runtime.block_on(claim_until_killed(Path::new(&dir)));
        return;
    }
    println!("\nrunning 1 test");
    runtime.block_on(kill_again_and_again());
    println!("test nothing_answered_is_lost_in_{CYCLES}_kills ... ok\n");
}

fn open(dir: &Path) -> TableClaims {
    let tables = Tables::open(dir).expect("the tables open after a kill");
    tables.claims(Arc::new(SystemLikeClock::new())).expect("the claims open")
}

fn key(number: u64) -> ClaimKey {
    ClaimKey(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

fn request(number: u64, token: u64) -> ClaimRequest {
    let (key, token, ground) = (key(number), Token(token), Ground::Free);
    ClaimRequest { key, token, lease: LONG, keep: LONG, ground, note: note(number) }
}

fn note(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes()[..(number % 9) as usize].to_vec())
}

fn outcome(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().repeat((number % 40) as usize))
}

/// Claims batches of random sizes from several tasks and completes some of each, and says on standard output
/// what was answered: a number and 0 for a lease, 1 for an outcome.
async fn claim_until_killed(dir: &Path) {
    let claims = open(dir);
    let next = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 32));
    let callers = (0..CALLERS).map(|_| {
        let (claims, next) = (claims.clone(), next.clone());
        tokio::spawn(async move {
            let mut rng: StdRng = StdRng::from_rng(&mut rand::rng());
            loop {
                let count = rng.random_range(1..30);
                let first = next.fetch_add(count, Ordering::Relaxed);
                let numbers = first..first + count;
                let requests = numbers.clone().map(|number| request(number, number)).collect();
                let answers = claims.claim(requests).await.expect("keys can be claimed");
                assert!(answers.iter().all(|claim| matches!(claim, Claim::Acquired { attempt: 1, .. })));
                say(numbers.clone(), 0);
                let done = numbers.clone().filter(|number| number % 3 != 0);
                let complete = |number| Settlement::Complete { outcome: outcome(number), keep: LONG };
                let batch = done.clone().map(|number| (key(number), Token(number), complete(number)));
                let answers = claims.settle(batch.collect()).await.expect("leases can be settled");
                assert!(answers.iter().all(|settled| *settled == Settled::Applied));
                say(done, 1);
            }
        })
    });
    futures::future::join_all(callers).await;
}

fn say(numbers: impl Iterator<Item = u64>, what: u8) {
    let mut said = String::new();
    for number in numbers {
        let _ = writeln!(said, "{number} {what}");
    }
    // One write, so that lines of two tasks are not mixed.
    io::Write::write_all(&mut io::stdout().lock(), said.as_bytes()).expect("the other end reads");
}

async fn kill_again_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rng = StdRng::seed_from_u64(2);
    // What was said of each number: whether it was done.
    let mut all = BTreeMap::new();
    for cycle in 0..CYCLES {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(DATA_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        // Killed after any number of answers, at any point of the next.
        let mut said = Vec::new();
        for line in lines.by_ref().take(rng.random_range(1..2000)) {
            said.push(line.expect("it can be read"));
        }
        child.kill().expect("it is killed");
        // What it had said before, and we had not read yet; the last line may be cut.
        said.extend(lines.map_while(Result::ok));
        child.wait().expect("it is gone");
        let mut new = BTreeMap::new();
        for line in &said {
            let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
            if let [number, what @ 0..=1] = fields[..]
                && number >> 32 == u64::from(child.id())
            {
                new.insert(number, what == 1);
            }
        }
        let claims = open(dir.path());
        check(&claims, &new, cycle).await;
        all.extend(new);
    }
    check(&open(dir.path()), &all, CYCLES).await;
    let done = all.values().filter(|done| **done).count();
    assert!(done > 10 * CYCLES, "only {done} were done");
}

/// Compares what is stored with what was said.
async fn check(claims: &TableClaims, said: &BTreeMap<u64, bool>, cycle: usize) {
    let requests: Vec<_> = said.keys().map(|&number| request(number, u64::MAX)).collect();
    let found = claims.claim(requests).await.expect("keys can be claimed");
    let mut held = Vec::new();
    for ((&number, &done), claim) in said.iter().zip(found) {
        match claim {
            Claim::Done { outcome: found } => assert_eq!(found, outcome(number), "{number} at kill {cycle}"),
            Claim::InFlight { .. } if !done => held.push(number),
            lost => {
                panic!("{number} was {}, and after kill {cycle} {lost:?}", if done { "done" } else { "held" })
            }
        }
    }
    // Whoever holds a lease holds it still.
    let extend = |number: &u64| (key(*number), Token(*number), Settlement::Extend { lease: LONG });
    let settled = claims.settle(held.iter().map(extend).collect()).await.expect("leases can be settled");
    assert!(settled.iter().all(|settled| *settled == Settled::Applied), "fenced at kill {cycle}");
}
