//! The store of claims: away, and on another one's side.

use crate::support::consuming::{NAME, World, ids, pass};
use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    delivery::Status,
    subscriptions::{AckRequest, State},
};
use parking_lot::Mutex;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, IdempotencyStore, Result, Settled, Settlement, Token};
use std::{sync::Arc, time::Duration};
use testkit::fault::{Faults, FaultyIdempotencyStore};

/// Remembers what is claimed, so that somebody else can take it.
#[derive(Debug)]
struct Overheard {
    inner: Arc<dyn IdempotencyStore>,
    keys: Mutex<Vec<ClaimKey>>,
}

impl Overheard {
    /// Takes every claim over for so long.
    async fn take_over(&self, lease: Duration) {
        let keys = std::mem::take(&mut *self.keys.lock());
        let request = |key| ClaimRequest {
            key,
            token: Token(7),
            lease,
            keep: Duration::from_hours(1),
            ground: Ground::TakeOver { counted: true },
            note: Bytes::new(),
        };
        let claims = self.inner.claim(keys.into_iter().map(request).collect()).await.unwrap();
        assert!(claims.iter().all(|claim| matches!(claim, Claim::Acquired { .. })), "{claims:?}");
    }
}

#[async_trait]
impl IdempotencyStore for Overheard {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        self.keys.lock().extend(requests.iter().map(|request| request.key));
        self.inner.claim(requests).await
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        self.inner.settle(settlements).await
    }
}

// An owner that was held up and does not know that it is none any more must not say of an event that it is
// done, or commit it, while the one who took it over may yet fail.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_whose_claim_another_one_took_is_expired_and_decides_nothing() {
    let mut world = World::new(1).await;
    let store = Arc::new(Overheard { inner: world.memory.idempotency(), keys: Mutex::default() });
    world.claims = store.clone();
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| ()).await;
    let out = process.pull(1).await;
    store.take_over(Duration::from_secs(20)).await;
    let said = process.decide(AckRequest { ack: ids(&out), ..AckRequest::default() }).await;
    assert_eq!(said, [Status::Expired]);
    pass(1).await;
    assert_eq!(world.committed(0).await.unwrap_or_default(), 0, "nobody has done it");
    let again = process.pull_all(1).await;
    assert!(world.seconds() >= 20, "while the other one is at it nobody else is");
    assert_eq!(again[0].attempt, 3, "both were attempts");
    process.ack(&again).await;
    pass(1).await;
    assert_eq!(world.committed(0).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_of_claims_is_away_nothing_is_delivered_unless_it_is_said_so() {
    for (policy, comes) in [("pause", 0), ("process", 5)] {
        let mut world = World::new(1).await;
        let down = Faults { error_before: 1.0, ..Faults::default() };
        let store = FaultyIdempotencyStore::new(world.memory.idempotency(), world.clock.clone(), 1, down);
        world.claims = Arc::new(store.clone());
        world.publish(0..5, 1).await;
        let process = world.process().await;
        process.create(|new| new.dedup.on_store_failure = Some(policy.into())).await;
        let out = process.pull(10).await;
        assert_eq!(out.len(), comes, "{policy}");
        let view = process.subscriptions.get(NAME).await.unwrap();
        assert_eq!((view.state, view.causes[0].code), (State::Degraded, "dedup-store"));
        process.ack(&out).await;
        store.set(Faults::default());
        let rest = process.pull_all(5 - comes).await;
        assert!(rest.iter().all(|delivery| delivery.attempt == 1), "an outage counts no attempt");
        process.ack(&rest).await;
        process.nothing_comes().await;
    }
}
