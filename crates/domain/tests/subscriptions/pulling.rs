//! What a pull gives, and when its deliveries come again.

use crate::support::consuming::{NAME, WAIT, World, number, numbers};
use domain::{
    delivery::Status,
    subscriptions::{AckRequest, Pulled, State},
};
use ports::PartitionId;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};

#[tokio::test(start_paused = true)]
async fn what_is_not_decided_in_time_comes_again_as_the_next_attempt() {
    let world = World::new(1).await;
    world.publish(0..3, 1).await;
    let process = world.process().await;
    process.create(|new| new.ack_timeout = Some("2s".into())).await;
    let first = process.pull_all(3).await;
    assert!(first.iter().all(|delivery| delivery.attempt == 1));
    process.ack(&first[..1]).await;
    let again = process.pull_all(2).await;
    assert_eq!(numbers(&again), [1, 2].into());
    assert!(again.iter().all(|delivery| delivery.attempt == 2), "{again:?}");
    process.ack(&again).await;
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_is_given_up_gives_back_and_counts_no_attempt() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    for round in 0..50_u32 {
        // The pull ends at about the moment at which the event comes.
        let pull = process.subscriptions.pull(NAME, Some(10), WAIT);
        let publish = async {
            world.publish(round..round + 1, 1).await;
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
        };
        let pulled: Option<domain::Result<Pulled>> = tokio::select! {
            biased;
            pulled = pull => Some(pulled),
            () = publish => None,
        };
        let deliveries = match pulled {
            Some(pulled) => pulled.unwrap().deliveries,
            None => process.pull_all(1).await,
        };
        assert_eq!((deliveries.len(), number(&deliveries[0]), deliveries[0].attempt), (1, round, 1));
        process.ack(&deliveries).await;
    }
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_waits_as_long_as_it_says_and_no_longer() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let began = world.clock.monotonic();
    process.nothing_comes().await;
    assert_eq!(world.clock.monotonic().since(began), WAIT.unwrap());
    let pulled = process.subscriptions.pull(NAME, None, None).await.unwrap();
    assert!(pulled.deliveries.is_empty());
    assert_eq!(world.clock.monotonic().since(began), WAIT.unwrap(), "without a wait it answers at once");
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_waits_is_answered_when_the_subscription_stops() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let waiting = process.pull(1);
    let stopping = async {
        tokio::task::yield_now().await;
        process.subscriptions.shutdown(process.clock.monotonic()).await;
    };
    let (came, ()) = tokio::join!(waiting, stopping);
    assert!(came.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_is_out_than_max_in_flight() {
    let world = World::new(3).await;
    world.publish(0..30, 3).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.max_in_flight = Some(10);
            new.ack_timeout = Some("1h".into());
        })
        .await;
    let out = process.pull_all(10).await;
    process.nothing_comes().await;
    process.ack(&out[..4]).await;
    assert_eq!(process.pull_all(4).await.len(), 4);
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn with_ordering_partition_a_lapse_takes_the_later_ones_back_and_order_holds() {
    let world = World::new(2).await;
    world.publish(0..40, 2).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.ordering = Some("partition".into());
            new.ack_timeout = Some("2s".into());
        })
        .await;
    let mut rng = StdRng::seed_from_u64(7);
    let mut done: BTreeMap<PartitionId, Vec<u32>> = BTreeMap::new();
    while done.values().map(Vec::len).sum::<usize>() < 40 {
        let deliveries = process.pull(rng.random_range(1..10)).await;
        for delivery in &deliveries {
            if rng.random_bool(0.2) {
                // Never answered: it and what follows it in its run lapse.
                continue;
            }
            let request = AckRequest { ack: vec![delivery.ack_id.clone()], ..AckRequest::default() };
            if process.decide(request).await == [Status::Ok] {
                let list = done.entry(delivery.partition).or_default();
                if !list.contains(&number(delivery)) {
                    list.push(number(delivery));
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    for partition in 0..2 {
        let mut list = done[&partition].clone();
        list.sort_unstable();
        let all: Vec<u32> = (0..40).filter(|n| n % 2 == partition).collect();
        assert_eq!(list, all);
    }
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn an_ack_id_of_another_hand_is_unknown() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    process.create(|new| new.name = "other".into()).await;
    let out = process.pull_all(1).await;
    let mut tampered = out[0].ack_id.clone();
    let last = tampered.pop().unwrap();
    tampered.push(if last == 'A' { 'B' } else { 'A' });
    let others = process.subscriptions.pull("other", None, WAIT).await.unwrap().deliveries;
    let ack = vec![tampered, others[0].ack_id.clone(), String::new(), "ä".into(), "A".repeat(10_000)];
    assert_eq!(process.decide(AckRequest { ack, ..AckRequest::default() }).await, [Status::Unknown; 5]);
    process.ack(&out).await;
}

#[tokio::test(start_paused = true)]
async fn what_it_shows_is_what_there_is() {
    let world = World::new(2).await;
    world.publish(0..10, 2).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let out = process.pull_all(10).await;
    process.ack(&out[..3]).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.in_flight, view.members.len()), (State::Active, 7, 1));
    process.ack(&out[3..]).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.lag, view.in_flight), (0, 0));
    world.publish(10..14, 2).await;
    assert_eq!(process.subscriptions.get(NAME).await.unwrap().lag, 4);
}
