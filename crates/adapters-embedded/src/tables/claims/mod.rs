//! Claims: `IdempotencyStore` in the tables.
//!
//! A call is one change of the one writer's transaction, whatever the number of its keys; what waits at the
//! same time shares the transaction and its sync. All rows of a call are read and decided on ([`rules`])
//! before the first is written, so that a call that is refused writes nothing.
//!
//! Invariants:
//! - What is answered is on disk.
//! - A key has one row ([`row`]), that of its last lease or of its outcome. Only a claim, or a settlement of
//!   the row's own token, changes it: time does not. A lease that has ended stays its holder's to settle
//!   until the next claim.
//! - A row has exactly one entry in the queue of what is to be forgotten ([`expiry`]), and the row says
//!   where. A row that is past its time is as none.
//! - The store's time ([`time`]) never goes back while it runs, and not by more than a second over a
//!   restart.

mod expiry;
mod row;
mod rules;
mod time;

#[cfg(test)]
mod tests;

use super::{
    Tables,
    schema::{CLAIMS, EXPIRY, META, META_CLOCK},
};
use crate::claims::{CLAIM, SETTLE, check_requests, check_settlements};
use async_trait::async_trait;
use expiry::Queue;
use ports::{
    Claim, ClaimKey, ClaimRequest, Clock, ErrorKind, IdempotencyStore, PortError, Result, Settled,
    Settlement, Token,
};
use redb::{Error, ReadableTable, Table, WriteTransaction};
use row::{Known, Row};
use rules::Change;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use time::StoreTime;

/// `IdempotencyStore` of the embedded backend. Clones are handles on the same.
///
/// Everything that was answered survives a crash of the process and of the machine. Leases and what is kept
/// end by the store's own time: it begins with the wall clock when the store is opened and runs on steadily
/// from there, so a jump of the wall clock changes nothing while the process runs. Over a restart it follows
/// the wall clock forward: where that had jumped, leases end and outcomes are forgotten as though that time
/// had passed. It never follows it back by more than a second: then they last so much longer.
#[derive(Clone, Debug)]
pub struct TableClaims {
    tables: Tables,
    time: Arc<StoreTime>,
    /// For how many milliseconds what was completed last is kept. Only says where an entry is put first.
    kept_ms: Arc<AtomicU64>,
}

impl Tables {
    /// The claims; `IdempotencyStore` of the embedded backend. To be made once a process, and cloned.
    /// Blocks while it reads when the store was last in use.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    pub fn claims(&self, clock: Arc<dyn Clock>) -> Result<TableClaims> {
        const OPERATION: &str = "tables.claims";
        let transaction = self.0.store.read(OPERATION)?;
        let last = || -> Result<Option<u64>, Error> {
            Ok(transaction.open_table(META)?.get(META_CLOCK)?.map(|last| last.value()))
        };
        let last = last().map_err(|error| super::fault::port_error(OPERATION, error))?;
        let time = StoreTime::begin(clock, last.unwrap_or(0)).map_err(|detail| corrupt(OPERATION, detail))?;
        let kept_ms = Arc::new(AtomicU64::new(u64::MAX));
        Ok(TableClaims { tables: self.clone(), time: Arc::new(time), kept_ms })
    }
}

fn corrupt(operation: &'static str, detail: String) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, detail)
}

/// The tables of one transaction.
struct Opened<'t> {
    claims: Table<'t, &'static [u8; 16], &'static [u8]>,
    queue: Queue<'t>,
    now: u64,
}

impl<'t> Opened<'t> {
    /// Opens them for a change that was asked for at `asked`.
    fn open(transaction: &'t WriteTransaction, time: &StoreTime, asked: u64) -> Result<Self, Error> {
        let now = time.not_before(asked);
        if time.is_to_be_noted(now) {
            transaction.open_table(META)?.insert(META_CLOCK, now)?;
        }
        let (claims, queue) = (transaction.open_table(CLAIMS)?, Queue::new(transaction.open_table(EXPIRY)?));
        Ok(Self { claims, queue, now })
    }

    /// What is stored of a key, which may be past its time.
    fn stored(&self, operation: &'static str, key: ClaimKey) -> Result<Result<Option<Row>>, Error> {
        let Some(bytes) = self.claims.get(&key.0)? else { return Ok(Ok(None)) };
        Ok(Row::decode(bytes.value())
            .map(Some)
            .map_err(|what| corrupt(operation, format!("the row of claim {key:?}: {what}"))))
    }

    /// Makes changes, and forgets some of what is past its time.
    fn make(&mut self, changes: Vec<(ClaimKey, Option<u64>, Change)>, kept_ms: u64) -> Result<(), Error> {
        let count = changes.len();
        let mut buffer = Vec::with_capacity(128);
        for (key, queued, change) in changes {
            match change {
                Change::Nothing => {}
                Change::Put(known) => {
                    let usual = match &known {
                        Known::Leased(lease) => lease.ends.saturating_add(kept_ms),
                        Known::Done { forgotten_at, .. } => *forgotten_at,
                    };
                    let queued = self.queue.place(key, queued, known.forgotten_at(), usual, self.now)?;
                    Row { queued, known }.encode(&mut buffer);
                    self.claims.insert(&key.0, &*buffer)?;
                }
                Change::Remove => {
                    self.claims.remove(&key.0)?;
                    if let Some(queued) = queued {
                        self.queue.remove(key, queued)?;
                    }
                }
            }
        }
        self.queue.forget(&mut self.claims, self.now, count)
    }

    /// Decides on every item by what is known of its key, and makes the changes once all are decided.
    fn decide<T, A>(
        &mut self,
        operation: &'static str,
        items: Vec<T>,
        kept_ms: u64,
        key: impl Fn(&T) -> ClaimKey,
        rule: impl Fn(Option<Known>, T, u64) -> (A, Change),
    ) -> Result<Result<Vec<A>>, Error> {
        let (mut answers, mut changes) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for item in items {
            let key = key(&item);
            let row = match self.stored(operation, key)? {
                Ok(row) => row,
                Err(refused) => return Ok(Err(refused)),
            };
            let queued = row.as_ref().map(|row| row.queued);
            let known = row.map(|row| row.known).filter(|known| known.forgotten_at() > self.now);
            let (answer, change) = rule(known, item, self.now);
            answers.push(answer);
            changes.push((key, queued, change));
        }
        self.make(changes, kept_ms)?;
        Ok(Ok(answers))
    }
}

#[async_trait]
impl IdempotencyStore for TableClaims {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        check_requests(&requests)?;
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (asked, time) = (self.time.now(), self.time.clone());
        let kept_ms = self.kept_ms.load(Ordering::Relaxed);
        self.tables
            .write(CLAIM, move |transaction| {
                let mut opened = Opened::open(transaction, &time, asked)?;
                opened.decide(CLAIM, requests, kept_ms, |request| request.key, rules::claim)
            })
            .await
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        check_settlements(&settlements)?;
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let (asked, time) = (self.time.now(), self.time.clone());
        if let Some((.., Settlement::Complete { keep, .. })) = settlements.last() {
            self.kept_ms.store(rules::millis(*keep), Ordering::Relaxed);
        }
        self.tables
            .write(SETTLE, move |transaction| {
                let mut opened = Opened::open(transaction, &time, asked)?;
                opened.decide(SETTLE, settlements, u64::MAX, |(key, ..)| *key, rules::settle)
            })
            .await
    }
}
