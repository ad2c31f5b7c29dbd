//! Claims on PostgreSQL: one statement a batch.
//!
//! # Why a claim has one winner, and what the others learn
//!
//! Both statements are `INSERT … ON CONFLICT (key) DO UPDATE` without a condition. At READ COMMITTED that
//! is, for each key, atomic: either this statement inserts the row, or there is one; then it locks that
//! row, waiting for whoever has it, and `held` is the row as the last one left it, committed, whether this
//! statement's snapshot has it or not. The verdict is reached on that version, under the lock, which is kept
//! until this statement has committed. So claims of one key come one after the other, each sees what the
//! one before it did, and of those that find it free the first has it.
//!
//! Every row is written, that of a loser with the values that it had. A condition (`DO UPDATE … WHERE`)
//! would write nothing there, and return nothing: what the loser is told would have to be read by the
//! statement's snapshot, which may be from before the winner's row. This way `RETURNING` gives the row on
//! which the verdict was reached, and it alone tells what came of the claim: done; else ours, if it has our
//! token; else somebody's. It costs little more, as the lock alone is a write too, and an update that
//! changes no indexed column stays on its page.
//!
//! # Time
//!
//! The server's. What is compared is `now()`, one value for the whole statement, so that no verdict changes
//! half-way through a row. After a wait for a lock it is behind, and so a lease is seen to last a little
//! longer than it does, never shorter. What is granted counts from `clock_timestamp()`, after the wait.
//!
//! # Why batches do not deadlock
//!
//! Both statements take their keys in the order of the keys, so that of two batches the one that has the
//! least key in common goes on. The cleanup waits for no lock at all.

use crate::{error, pool::Pool};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    Claim, ClaimKey, ClaimRequest, ErrorKind, Ground, IdempotencyStore, PortError, Result, Settled,
    Settlement, Token,
};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow};
use std::{collections::HashMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// The bounds of the port.
const NOTE_BYTES_MAX: usize = 1 << 10;
const OUTCOME_BYTES_MAX: usize = 64 << 10;
/// The longest time that is asked for: ten thousand years, which timestamps have room for.
const MS_MAX: u64 = 10_000 * 366 * 24 * 3_600_000;

const CLAIM: &str = "idempotency_store.claim";
const SETTLE: &str = "idempotency_store.settle";

/// `claims.state`.
const LEASED: i16 = 0;
const RELEASED: i16 = 1;
const RELEASED_COUNTED: i16 = 2;
const DONE: i16 = 3;

/// The store.
#[derive(Debug)]
pub(crate) struct Claims {
    pool: Arc<Pool>,
    claim: Arc<str>,
    settle: Arc<str>,
}

impl Claims {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let claim = pool.sql(include_str!("claim.sql"));
        let settle = pool.sql(include_str!("settle.sql"));
        Self { pool, claim, settle }
    }
}

#[async_trait]
impl IdempotencyStore for Claims {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(request) = requests.iter().find(|request| request.note.len() > NOTE_BYTES_MAX) {
            return Err(too_large(CLAIM, "note", request.note.len(), NOTE_BYTES_MAX));
        }
        let column = |of: fn(&ClaimRequest) -> i64| requests.iter().map(of).collect::<Vec<_>>();
        let notes: Vec<&[u8]> = requests.iter().map(|request| &request.note[..]).collect();
        let query = sqlx::query(AssertSqlSafe(self.claim.clone()))
            .bind(requests.iter().map(|request| uuid(request.key)).collect::<Vec<_>>())
            .bind(column(|request| request.token.0 as i64))
            .bind(column(|request| ms(request.lease)))
            .bind(column(|request| ms(request.keep)))
            .bind(requests.iter().map(|request| ground(request.ground).0).collect::<Vec<_>>())
            .bind(column(|request| ground(request.ground).1))
            .bind(notes);
        let rows = self.pool.fetch_all(query, CLAIM).await?;
        let rows = by_key(rows, CLAIM)?;
        requests
            .iter()
            .map(|request| {
                let row = rows.get(&uuid(request.key)).ok_or_else(|| error::corrupt(CLAIM, "no answer"))?;
                claim(row, request.token).map_err(|error| error::of(error, CLAIM))
            })
            .collect()
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let mut states = Vec::with_capacity(settlements.len());
        let mut spans = Vec::with_capacity(settlements.len());
        let mut outcomes: Vec<&[u8]> = Vec::with_capacity(settlements.len());
        for (.., settlement) in &settlements {
            let (state, span, outcome) = match settlement {
                Settlement::Complete { outcome, keep } => (DONE, *keep, &outcome[..]),
                Settlement::Extend { lease } => (LEASED, *lease, &[][..]),
                Settlement::Release { counted: false } => (RELEASED, Duration::ZERO, &[][..]),
                Settlement::Release { counted: true } => (RELEASED_COUNTED, Duration::ZERO, &[][..]),
            };
            if outcome.len() > OUTCOME_BYTES_MAX {
                return Err(too_large(SETTLE, "outcome", outcome.len(), OUTCOME_BYTES_MAX));
            }
            states.push(state);
            spans.push(ms(span));
            outcomes.push(outcome);
        }
        let query = sqlx::query(AssertSqlSafe(self.settle.clone()))
            .bind(settlements.iter().map(|(key, ..)| uuid(*key)).collect::<Vec<_>>())
            .bind(settlements.iter().map(|(_, token, _)| token.0 as i64).collect::<Vec<_>>())
            .bind(states)
            .bind(spans)
            .bind(outcomes);
        let rows = self.pool.fetch_all(query, SETTLE).await?;
        let rows = by_key(rows, SETTLE)?;
        settlements
            .iter()
            .map(|(key, ..)| {
                let row = rows.get(&uuid(*key)).ok_or_else(|| error::corrupt(SETTLE, "no answer"))?;
                settled(row).map_err(|error| error::of(error, SETTLE))
            })
            .collect()
    }
}

/// What came of a claim, by the row as it is after it.
fn claim(row: &PgRow, token: Token) -> Result<Claim, sqlx::Error> {
    let bytes = |name: &str| {
        row.try_get::<Option<Vec<u8>>, _>(name).map(|bytes| Bytes::from(bytes.unwrap_or_default()))
    };
    if row.try_get::<i16, _>("state")? == DONE {
        return Ok(Claim::Done { outcome: bytes("outcome")? });
    }
    if row.try_get::<i64, _>("token")? == token.0 as i64 {
        let before = row.try_get::<i32, _>("attempts")?;
        return Ok(Claim::Acquired { attempt: before as u32 + 1, note: bytes("note_before")? });
    }
    let ms = row.try_get::<i64, _>("ends_in_ms")?;
    Ok(Claim::InFlight { ends_in: Duration::from_millis(ms.max(0) as u64) })
}

/// Whether a settlement held.
fn settled(row: &PgRow) -> Result<Settled, sqlx::Error> {
    Ok(if row.try_get("applied")? { Settled::Applied } else { Settled::Fenced })
}

fn by_key(rows: Vec<PgRow>, operation: &'static str) -> Result<HashMap<Uuid, PgRow>> {
    let key = |row: &PgRow| row.try_get::<Uuid, _>("key").map_err(|error| error::of(error, operation));
    rows.into_iter().map(|row| Ok((key(&row)?, row))).collect()
}

fn ground(ground: Ground) -> (i16, i64) {
    match ground {
        Ground::Free => (0, 0),
        Ground::Own { token, counted } => (1 + i16::from(counted), token.0 as i64),
        Ground::TakeOver { counted } => (3 + i16::from(counted), 0),
    }
}

const fn uuid(key: ClaimKey) -> Uuid {
    Uuid::from_bytes(key.0)
}

/// Rounded up, so that nothing is shorter than it was asked for.
fn ms(time: Duration) -> i64 {
    let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(MS_MAX);
    ms.min(MS_MAX) as i64
}

fn too_large(operation: &'static str, what: &str, bytes: usize, bytes_max: usize) -> PortError {
    let text = format!("the {what} has {bytes} bytes; it may have {bytes_max}");
    PortError::new(ErrorKind::TooLarge, operation, text)
}
