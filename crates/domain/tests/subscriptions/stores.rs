//! The store of claims, away.

use crate::support::consuming::{NAME, World};
use domain::subscriptions::State;
use std::sync::Arc;
use testkit::fault::{Faults, FaultyIdempotencyStore};

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
