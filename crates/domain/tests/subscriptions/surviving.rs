//! What lasts whatever ends: stops, kills, hand-overs and faults of the log.

use crate::support::consuming::{NAME, World, ids, number, numbers};
use domain::{delivery::Status, subscriptions::AckRequest};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use testkit::fault::{Faults, FaultyLog};

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_does_not_come_again_after_a_stop() {
    let world = World::new(3).await;
    world.publish(0..100, 3).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(100).await;
    assert_eq!(numbers(&all), (0..100).collect());
    process.ack(&all).await;
    process.nothing_comes().await;
    process.stop().await;
    let next = world.process().await;
    next.nothing_comes().await;
    world.publish(100..103, 3).await;
    assert_eq!(numbers(&next.pull_all(3).await), (100..103).collect());
}

#[tokio::test(start_paused = true)]
async fn a_stop_keeps_what_was_done_beyond_a_gap_and_the_gap_comes_again() {
    let world = World::new(1).await;
    world.publish(0..50, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let mut all = process.pull_all(50).await;
    let gap = [all.remove(7), all.remove(20)];
    process.ack(&all).await;
    process.stop().await;
    assert_eq!(world.committed(0).await, Some(7), "the commit must not pass an event that is undecided");
    let next = world.process().await;
    let again = next.pull_all(2).await;
    assert_eq!(numbers(&again), numbers(&gap));
    next.ack(&again).await;
    next.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_loses_nothing() {
    let world = World::new(3).await;
    world.publish(0..90, 3).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let first = process.pull_all(30).await;
    process.ack(&first).await;
    // Committed within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = process.pull_all(30).await;
    process.ack(&second).await;
    process.kill().await;
    let next = world.process().await;
    let rest = next.pull_all(30).await;
    assert!(numbers(&rest).is_disjoint(&numbers(&first)), "what was committed came again");
    assert!(numbers(&rest).is_disjoint(&numbers(&second)), "what was completed and not committed came again");
    next.ack(&rest).await;
    next.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn two_replicas_share_and_what_was_done_at_one_does_not_come_at_the_other() {
    let world = World::new(4).await;
    world.publish(0..200, 4).await;
    let one = world.process().await;
    one.create(|_| {}).await;
    let mut done = BTreeSet::new();
    let first = one.pull_all(100).await;
    one.ack(&first).await;
    done.extend(numbers(&first));
    let other = world.process().await;
    let mut seen_by_other = 0;
    while done.len() < 200 {
        for (process, is_other) in [(&one, false), (&other, true)] {
            let deliveries = process
                .subscriptions
                .pull(NAME, Some(10), Some(Duration::from_secs(1)))
                .await
                .unwrap()
                .deliveries;
            let statuses =
                process.decide(AckRequest { ack: ids(&deliveries), ..AckRequest::default() }).await;
            for (delivery, status) in deliveries.iter().zip(statuses) {
                let number = number(delivery);
                assert!(!done.contains(&number), "{number} was done and came again");
                // Handed over between the pull and its answer, it is expired and comes at the other one.
                if status == Status::Ok {
                    done.insert(number);
                    seen_by_other += u32::from(is_other);
                }
            }
        }
    }
    assert!(seen_by_other > 0, "the second replica had nothing to do");
    one.kill().await;
    other.nothing_comes().await;
}

/// A log that fails half of the time, clients that forget, release and acknowledge in any order, stops and
/// kills: every event is acknowledged in the end, and none comes after its acknowledgement was committed.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_comes_after_it_was_committed_under_random_faults() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(3).await;
        let faults =
            Faults { error_before: 0.3, error_after: 0.2, delay: 0.5, delay_max: Duration::from_millis(300) };
        let log = || Arc::new(FaultyLog::new(world.memory.log(), world.clock.clone(), seed, faults));
        let mut process = world.process().await;
        let ordering = if seed % 2 == 0 { "none" } else { "partition" };
        process
            .create(|new| {
                new.ordering = Some(ordering.into());
                new.ack_timeout = Some("5s".into());
                // What is out at each kill or is forgotten is not to end as a dead letter here.
                new.retry.max_retries = Some(-1);
            })
            .await;
        process.stop().await;
        process = world.process_on(log()).await;
        let (mut acked, mut committed, mut acked_here) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut published = 0;
        let mut rounds = 0;
        while acked.len() < 300 {
            rounds += 1;
            assert!(rounds < 2_000, "only {} of 300 came (seed {seed})", acked.len());
            if published < 300 {
                world.publish(published..published + 30, 3).await;
                published += 30;
            }
            let mut deliveries = process.pull(rng.random_range(1..60)).await;
            for number in numbers(&deliveries) {
                assert!(!committed.contains(&number), "{number} was committed and came again (seed {seed})");
            }
            let mut request = AckRequest::default();
            while !deliveries.is_empty() {
                let delivery = deliveries.swap_remove(rng.random_range(0..deliveries.len()));
                let number = number(&delivery);
                match rng.random_range(0..10) {
                    0 => {}
                    1 => request.release.push(delivery.ack_id),
                    _ => {
                        let ack = AckRequest { ack: vec![delivery.ack_id], ..AckRequest::default() };
                        if process.decide(ack).await == [Status::Ok] {
                            acked.insert(number);
                            acked_here.insert(number);
                        }
                    }
                }
            }
            process.decide(request).await;
            match rng.random_range(0..12) {
                0 => {
                    process.stop().await;
                    committed.append(&mut acked_here);
                    process = world.process_on(log()).await;
                }
                1 => {
                    process.kill().await;
                    acked_here.clear();
                    process = world.process_on(log()).await;
                }
                _ => {}
            }
        }
        // What was acknowledged and not committed before a kill comes once more; from a log that works, as
        // nothing is to be seen within the wait.
        process.stop().await;
        process = world.process().await;
        loop {
            let rest = process.pull(1000).await;
            if rest.is_empty() {
                break;
            }
            process.decide(AckRequest { ack: ids(&rest), ..AckRequest::default() }).await;
        }
        process.stop().await;
        world.process().await.nothing_comes().await;
    }
}
