//! The queue of what is to be forgotten, in order of time.
//!
//! An entry is a time and a key. It is left where it is while its row's time moves, as most do by a little:
//! when it comes up, what is to be kept longer is queued once more, and the rest removed. Only a time that
//! moved forward by much takes its entry along, so that nothing lies in the file for much longer than it is
//! known. A lease is queued where it will be to be forgotten if it is completed as the last one was, which is
//! mostly sooner than its attempts are: so the entry of what is completed stays where it is. So many entries come up with each call at most as keep the queue from growing for ever.

use super::row;
use ports::ClaimKey;
use redb::{Error, ReadableTable, Table};

/// So many entries come up with a call, for each of its keys, which adds one entry at most.
const ENTRIES_A_KEY: usize = 2;

/// So many come up in any case.
const ENTRIES_MIN: usize = 16;

/// A row may be forgotten so long before its entry comes up, or a quarter of the time that it is kept.
const SLACK_MS: u64 = 60_000;

/// The time, big-endian, and the key.
type Entry = [u8; 24];

fn entry(at: u64, key: ClaimKey) -> Entry {
    let mut entry = [0; 24];
    entry[..8].copy_from_slice(&at.to_be_bytes());
    entry[8..].copy_from_slice(&key.0);
    entry
}

fn parts(entry: &Entry) -> (u64, ClaimKey) {
    let (mut at, mut key) = ([0; 8], [0; 16]);
    at.copy_from_slice(&entry[..8]);
    key.copy_from_slice(&entry[8..]);
    (u64::from_be_bytes(at), ClaimKey(key))
}

/// The queue, in one transaction.
pub(super) struct Queue<'t>(Table<'t, &'static Entry, ()>);

impl<'t> Queue<'t> {
    pub(super) fn new(table: Table<'t, &'static Entry, ()>) -> Self {
        Self(table)
    }

    /// Sees to the entry of a row that is to be forgotten at `at` and may have one; gives its time. Where it has
    /// none, that is `usual`, if it comes before.
    pub(super) fn place(
        &mut self,
        key: ClaimKey,
        queued: Option<u64>,
        at: u64,
        usual: u64,
        now: u64,
    ) -> Result<u64, Error> {
        if let Some(queued) = queued {
            let slack = SLACK_MS.max(at.saturating_sub(now) / 4);
            if queued <= at.saturating_add(slack) {
                return Ok(queued);
            }
            self.0.remove(&entry(queued, key))?;
            self.0.insert(&entry(at, key), ())?;
            return Ok(at);
        }
        let first = at.min(usual);
        self.0.insert(&entry(first, key), ())?;
        Ok(first)
    }

    /// Removes the entry of a row that is removed.
    pub(super) fn remove(&mut self, key: ClaimKey, queued: u64) -> Result<(), Error> {
        self.0.remove(&entry(queued, key))?;
        Ok(())
    }

    /// Takes the first entries whose time has come, a number bounded by that of the call's keys.
    fn take_due(&mut self, now: u64, keys: usize) -> Result<Vec<Entry>, Error> {
        match self.0.first()? {
            Some((first, _)) if parts(first.value()).0 <= now => {}
            _ => return Ok(Vec::new()),
        }
        let (first, last) = (entry(0, ClaimKey([0; 16])), entry(now, ClaimKey([0xff; 16])));
        let count = ENTRIES_MIN + ENTRIES_A_KEY * keys;
        let due = self.0.extract_from_if::<&Entry, _>(&first..=&last, |_, ()| true)?;
        due.take(count).map(|taken| Ok(*taken?.0.value())).collect()
    }

    /// Forgets some of what is past its time.
    pub(super) fn forget(
        &mut self,
        claims: &mut Table<'t, &'static [u8; 16], &'static [u8]>,
        now: u64,
        keys: usize,
    ) -> Result<(), Error> {
        for due in self.take_due(now, keys)? {
            let (at, key) = parts(&due);
            let Some(found) = claims.get(&key.0)? else { continue };
            match row::times(found.value()) {
                // Whoever claims the key is told.
                Err(what) => tracing::warn!(?key, what, "the row of a claim cannot be read and is kept"),
                Ok((_, queued)) if queued != at => {}
                Ok((forgotten_at, _)) if forgotten_at <= now => {
                    drop(found);
                    claims.remove(&key.0)?;
                }
                Ok((forgotten_at, _)) => {
                    let mut row = found.value().to_vec();
                    drop(found);
                    row::set_queued(&mut row, forgotten_at);
                    claims.insert(&key.0, &*row)?;
                    self.0.insert(&entry(forgotten_at, key), ())?;
                }
            }
        }
        Ok(())
    }
}
