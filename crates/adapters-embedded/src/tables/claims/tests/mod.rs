mod file;
mod random_steps;
mod rows;
mod wall_clock;

use super::TableClaims;
use crate::tables::{
    Tables,
    schema::{CLAIMS, EXPIRY},
};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    Claim, ClaimKey, ClaimRequest, Clock, Ground, IdempotencyStore, Monotonic, Settlement, Timestamp, Token,
};
use redb::ReadableTable;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

const HOUR: Duration = Duration::from_hours(1);

/// A clock that is set by hand.
#[derive(Clone, Debug)]
struct HandClock(Arc<(AtomicI64, AtomicU64)>);

impl HandClock {
    fn new() -> Self {
        Self(Arc::new((AtomicI64::new(1_767_225_600_000), AtomicU64::new(0))))
    }

    /// Lets time pass, as both its hands show it.
    fn pass(&self, time: Duration) {
        let millis = time.as_millis() as u64;
        self.jump(millis as i64);
        self.0.1.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, by so many milliseconds.
    fn jump(&self, millis: i64) {
        self.0.0.fetch_add(millis, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for HandClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(Duration::from_millis(self.0.1.load(Ordering::SeqCst)))
    }

    async fn sleep_until(&self, _until: Monotonic) {
        unreachable!("a store does not sleep")
    }
}

fn open(dir: &Path, clock: &HandClock) -> (Tables, TableClaims) {
    let tables = Tables::open(dir).unwrap();
    let claims = tables.claims(Arc::new(clock.clone())).unwrap();
    (tables, claims)
}

fn key(number: u64) -> ClaimKey {
    ClaimKey((u128::from(number) << 64).to_be_bytes())
}

fn request(number: u64, token: u64) -> ClaimRequest {
    let (key, token, ground, note) = (key(number), Token(token), Ground::Free, Bytes::new());
    ClaimRequest { key, token, lease: HOUR, keep: HOUR, ground, note }
}

async fn claim(claims: &TableClaims, request: ClaimRequest) -> Claim {
    claims.claim(vec![request]).await.unwrap().remove(0)
}

fn acquired(attempt: u32) -> Claim {
    Claim::Acquired { attempt, note: Bytes::new() }
}

fn complete(outcome: &'static str, keep: Duration) -> Settlement {
    Settlement::Complete { outcome: Bytes::from_static(outcome.as_bytes()), keep }
}

/// How many rows lie in the file. Each has its one entry in the queue, and no entry is without its row.
async fn rows(tables: &Tables) -> usize {
    tables
        .write("test.rows", |transaction| {
            let (claims, queue) = (transaction.open_table(CLAIMS)?, transaction.open_table(EXPIRY)?);
            let mut expected = Vec::new();
            for row in claims.iter()? {
                let (key, row) = row?;
                let (_, queued) = super::row::times(row.value()).unwrap();
                expected.push([queued.to_be_bytes().as_slice(), key.value()].concat());
            }
            expected.sort();
            let entries = queue.iter()?.map(|entry| Ok(entry?.0.value().to_vec()));
            let entries = entries.collect::<Result<Vec<_>, redb::Error>>()?;
            assert_eq!(entries, expected);
            Ok(Ok(entries.len()))
        })
        .await
        .unwrap()
}

/// At which time the row of a key is queued.
async fn queued(tables: &Tables, number: u64) -> u64 {
    tables
        .write("test.queued", move |transaction| {
            let claims = transaction.open_table(CLAIMS)?;
            let row = claims.get(&key(number).0)?.expect("its row");
            Ok(Ok(super::row::times(row.value()).unwrap().1))
        })
        .await
        .unwrap()
}
