//! The store's time: milliseconds that mean something after a restart, and never go back.

use ports::{Clock, Monotonic};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How far the time moves on before it is noted in the database again.
const NOTED_EVERY_MS: u64 = 1000;

/// The end of the year 9999: a note beyond it is none that a clock made.
const LATEST_MS: u64 = 253_402_300_800_000;

/// The wall clock's time at the beginning, and from there on what the steady clock says has passed.
#[derive(Debug)]
pub(super) struct StoreTime {
    clock: Arc<dyn Clock>,
    began: Monotonic,
    base: u64,
    /// The latest time that a change was made at.
    latest: AtomicU64,
    noted: AtomicU64,
}

impl StoreTime {
    /// Begins at the wall clock's time, or where that is behind `noted`, the time noted last, at that.
    pub(super) fn begin(clock: Arc<dyn Clock>, noted: u64) -> Result<Self, String> {
        if noted > LATEST_MS {
            return Err(format!("state database: its clock is {noted}, {LATEST_MS} is the latest possible"));
        }
        let wall = u64::try_from(clock.wall().0).unwrap_or(0);
        let (began, base) = (clock.monotonic(), wall.clamp(noted, LATEST_MS));
        if wall < noted {
            let behind_ms = noted - wall;
            tracing::warn!(
                behind_ms,
                "the wall clock is behind the last use of the claims, which last longer"
            );
        }
        Ok(Self { clock, began, base, latest: AtomicU64::new(base), noted: AtomicU64::new(noted) })
    }

    /// The time now, by the clock of whoever asks.
    pub(super) fn now(&self) -> u64 {
        let passed = self.clock.monotonic().since(self.began).as_millis();
        self.base.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The time of a change that was asked for at `asked`: not before that of the one before it.
    pub(super) fn not_before(&self, asked: u64) -> u64 {
        self.latest.fetch_max(asked, Ordering::Relaxed).max(asked)
    }

    /// Whether this time is to be noted, as the last is a while ago. A note that is then lost with its
    /// transaction is made up for by the next.
    pub(super) fn is_to_be_noted(&self, now: u64) -> bool {
        let noted = self.noted.load(Ordering::Relaxed);
        let is_due = now >= noted.saturating_add(NOTED_EVERY_MS);
        if is_due {
            self.noted.store(now, Ordering::Relaxed);
        }
        is_due
    }
}
