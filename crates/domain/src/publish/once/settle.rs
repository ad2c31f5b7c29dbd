//! Settling claims, also when the store does not listen at once, and claims that wait for the log.

use super::{
    codec::{Content, Published},
    release,
};
use crate::publish::{
    flow::Core,
    late::{Heard, Open},
};
use ports::{ClaimKey, Effect, IdempotencyStore, Settled, Settlement, Token};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long a caller's answer waits for the store to take its outcome.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the store is left alone after it failed, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// So many settlements may wait for a store that does not listen; further ones are given up, and the leases
/// end by themselves.
const UNSETTLED_MAX: usize = 100_000;

/// Claims that wait for the log's report, by their item: key, token, content and attempt.
pub(super) type Waiting = HashMap<usize, (ClaimKey, Token, Content, u32)>;

type Settlements = Vec<(ClaimKey, Token, Settlement)>;

impl Core {
    /// Settles claims. Returns when the store has taken it, or has not in time: then it goes on in the
    /// background.
    pub(super) async fn settle(
        self: &Arc<Self>,
        store: &Arc<dyn IdempotencyStore>,
        settlements: Settlements,
    ) {
        if settlements.is_empty() {
            return;
        }
        let patience = self.clock.monotonic() + PATIENCE;
        let mut settling = Box::pin(self.clone().keep_settling(store.clone(), settlements));
        tokio::select! {
            biased;
            () = &mut settling => {}
            () = self.clock.sleep_until(patience) => drop(self.background.spawn(settling)),
        }
    }

    /// Settles claims in the background.
    pub(super) fn settle_later(self: &Arc<Self>, store: Arc<dyn IdempotencyStore>, settlements: Settlements) {
        self.background.spawn(self.clone().keep_settling(store, settlements));
    }

    /// Offers settlements to the store until it takes them, for as long as a lease lasts.
    async fn keep_settling(self: Arc<Self>, store: Arc<dyn IdempotencyStore>, settlements: Settlements) {
        let until = self.clock.monotonic() + self.lease();
        let mut backoff = BACKOFF.0;
        let mut counted = Counted { core: &self, events: 0 };
        loop {
            let error = match store.settle(settlements.clone()).await {
                Ok(settled) => return warn_of_fenced(&settlements, &settled),
                Err(error) => error,
            };
            let events = settlements.len();
            let has_room = counted.events > 0
                || self.unsettled.fetch_add(events, Ordering::Relaxed) + events <= UNSETTLED_MAX;
            counted.events = events;
            if !has_room || self.clock.monotonic() >= until {
                tracing::warn!(events, %error, "the outcomes of events with idempotency keys are not kept; a retry asks the log");
                return;
            }
            tracing::debug!(events, %error, "the outcomes of events with idempotency keys are offered again");
            self.clock.sleep_until(self.clock.monotonic() + backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Hears what the log says beyond the deadline, keeps the claims until then, and settles them by it.
    pub(super) async fn hear_once(
        self: Arc<Self>,
        store: Arc<dyn IdempotencyStore>,
        open: Open,
        mut waiting: Waiting,
    ) -> Vec<Heard> {
        let lease = self.lease();
        let mut hearing = Box::pin(open.hear(self.clone()));
        let heard = loop {
            let extend_at = self.clock.monotonic() + lease / 2;
            tokio::select! {
                biased;
                heard = &mut hearing => break heard,
                () = self.clock.sleep_until(extend_at) => {}
            }
            let extend =
                waiting.values().map(|(key, token, ..)| (*key, *token, Settlement::Extend { lease }));
            if let Err(error) = store.settle(extend.collect()).await {
                // There is another half of the lease to try again in.
                tracing::warn!(%error, "claims of events that the log has not reported on are not extended");
            }
        };
        let mut settlements = Vec::with_capacity(waiting.len());
        for Heard { index, outcome, effect, .. } in &heard {
            let Some((key, token, content, attempt)) = waiting.remove(index) else { continue };
            let settlement = match outcome {
                Ok(receipt) => self.complete(&Published { content, receipt: receipt.clone() }),
                Err(_) if *effect == Effect::None => release(attempt),
                // Nobody knows; whoever comes when the lease has ended asks the log.
                Err(_) => continue,
            };
            settlements.push((key, token, settlement));
        }
        self.settle(&store, settlements).await;
        heard
    }
}

/// Says so where somebody else had a key before its event was done: it may be in the log twice.
fn warn_of_fenced(settlements: &[(ClaimKey, Token, Settlement)], settled: &[Settled]) {
    for ((key, _, settlement), settled) in settlements.iter().zip(settled) {
        if let (Settlement::Complete { outcome, .. }, Settled::Fenced) = (settlement, settled) {
            let receipt = Published::decode(outcome).map(|published| published.receipt);
            let id = receipt.as_ref().map(|receipt| &*receipt.id).unwrap_or_default();
            tracing::warn!(
                ?key,
                id,
                "an event outlived the lease of its idempotency key; it may have been published twice"
            );
        }
    }
}

/// Gives back what it counted.
struct Counted<'a> {
    core: &'a Core,
    events: usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.core.unsettled.fetch_sub(self.events, Ordering::Relaxed);
    }
}
