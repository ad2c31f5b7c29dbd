//! Confluent's Parallel Consumer: many at once, and commits that never pass what is not done.

use crate::support::consuming::{
    HeldOffsets, NAME, Process, WatchedLog, World, doing, failed, handled, number, number_of, numbered,
    numbers, pass,
};
use domain::subscriptions::{DeliveryConfig, HandlerOptions, NewSubscription};
use parking_lot::Mutex;
use ports::{HandlerDelivery, Outcome};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Barrier, Semaphore};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// As much time for a delivery as a handler may want.
fn with_time(new: &mut NewSubscription) {
    new.ack_timeout = Some("2h".into());
}

/// Handlers that take as long as they like.
fn patient(concurrency: usize) -> HandlerOptions {
    HandlerOptions { concurrency, timeout: HOUR, ..HandlerOptions::default() }
}

fn number_in(delivery: &HandlerDelivery) -> u32 {
    number_of(&delivery.record.record)
}

type Seen = Arc<Mutex<Vec<u32>>>;

fn sorted(seen: &Seen) -> Vec<u32> {
    let mut seen = seen.lock().clone();
    seen.sort_unstable();
    seen
}

/// `failingActionNothingCommitted`.
#[tokio::test(start_paused = true)]
async fn while_everything_fails_nothing_is_committed() {
    let world = World::new(1).await;
    world.publish(0..5, 1).await;
    let process = world.process().await;
    process.create(|new| new.retry.max_retries = Some(-1)).await;
    let handler = handled(&process, failed()).await;
    pass(600).await;
    assert!(handler.calls.lock().len() > 10, "it is tried again");
    assert_eq!(world.committed(0).await.unwrap_or_default(), 0);
    process.stop().await;
    assert_eq!(world.committed(0).await.unwrap_or_default(), 0);
}

/// `offsetCommitsAreIsolatedPerPartition`.
#[tokio::test(start_paused = true)]
async fn a_partition_that_is_stuck_keeps_no_other_from_being_committed() {
    let world = World::new(2).await;
    world.publish(0..20, 2).await;
    let process = world.process().await;
    process.create(with_time).await;
    doing(&process, patient(16), async |delivery| match delivery.partition {
        0 => pending().await,
        _ => Outcome::Ack,
    })
    .await;
    pass(5).await;
    assert_eq!((world.committed(0).await.unwrap_or_default(), world.committed(1).await), (0, Some(10)));
}

/// `processInKeyOrder`, `lessKeysThanThreads`.
#[tokio::test(start_paused = true)]
async fn with_fewer_keys_than_calls_each_key_is_handled_in_order_and_one_at_a_time() {
    let world = World::new(2).await;
    world.publish_keyed(0..300, 3, 2).await;
    let process = world.process().await;
    process
        .create(|new| {
            with_time(new);
            new.ordering = Some("key".into());
        })
        .await;
    let seen: Arc<Mutex<BTreeMap<u32, Vec<u32>>>> = Arc::default();
    // What is under way, and the most of it.
    let at_work: Arc<Mutex<(BTreeSet<u32>, usize, bool)>> = Arc::default();
    let (handled, working) = (seen.clone(), at_work.clone());
    doing(&process, patient(16), move |delivery| {
        let (handled, working) = (handled.clone(), working.clone());
        async move {
            let number = number_in(&delivery);
            let key = number % 3;
            {
                let (now, most, twice) = &mut *working.lock();
                *twice |= !now.insert(key);
                *most = now.len().max(*most);
            }
            tokio::time::sleep(Duration::from_millis(u64::from(number * 7 % 23))).await;
            handled.lock().entry(key).or_default().push(number);
            working.lock().0.remove(&key);
            Outcome::Ack
        }
    })
    .await;
    pass(60).await;
    for key in 0..3 {
        let own: Vec<u32> = (0..300).filter(|n| n % 3 == key).collect();
        assert_eq!(seen.lock()[&key], own);
    }
    let (_, most, twice) = at_work.lock().clone();
    assert_eq!((most, twice), (3, false), "keys are handled beside each other, and none beside itself");
}

/// `processInKeyOrderWorkNotReturnedDoesntBreakCommits`.
#[tokio::test(start_paused = true)]
async fn work_that_never_comes_back_holds_its_key_and_the_commit_and_nothing_else() {
    let world = World::new(1).await;
    world.publish_keyed(0..30, 3, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            with_time(new);
            new.ordering = Some("key".into());
        })
        .await;
    let seen = Seen::default();
    let handled_first = seen.clone();
    doing(&process, patient(16), move |delivery| {
        let handled = handled_first.clone();
        async move {
            if number_in(&delivery) == 5 {
                pending::<()>().await;
            }
            handled.lock().push(number_in(&delivery));
            Outcome::Ack
        }
    })
    .await;
    pass(60).await;
    let held: Vec<u32> = (5..30).filter(|n| n % 3 == 2).collect();
    assert_eq!(sorted(&seen), (0..30).filter(|n| !held.contains(n)).collect::<Vec<_>>());
    assert_eq!(world.committed(0).await, Some(5));
    process.subscriptions.shutdown(world.clock.monotonic() + Duration::from_secs(5)).await;
    let process = world.process().await;
    let next = handled(&process, Outcome::Ack).await;
    pass(60).await;
    let again: Vec<u32> = next.calls.lock().iter().map(|offset| *offset as u32).collect();
    assert_eq!(again, held, "what was done beyond it does not come again, and its key keeps its order");
    assert_eq!(world.committed(0).await, Some(30));
}

/// `queuedMessagesNotProcessedOrCommittedIfSubmittedDuringShutdown`,
/// `inFlightMessagesCommittedIfProcessedDuringShutdown`.
#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_is_under_way_and_begins_nothing_that_waits() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(with_time).await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let (begun, go_on) = (seen.clone(), gate.clone());
    doing(&process, patient(2), move |delivery| {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        async move {
            begun.lock().push(number_in(&delivery));
            go_on.acquire().await.unwrap().forget();
            Outcome::Ack
        }
    })
    .await;
    pass(1).await;
    let until = world.clock.monotonic() + Duration::from_secs(30);
    let finish = async {
        pass(5).await;
        world.publish(10..20, 1).await;
        gate.add_permits(100);
    };
    tokio::join!(process.subscriptions.shutdown(until), finish);
    let begun = seen.lock().clone();
    assert!(!begun.is_empty() && begun.len() <= 2, "{begun:?}");
    assert_eq!(world.committed(0).await, Some(begun.len() as u64));
    let process = world.process().await;
    let next = handled(&process, Outcome::Ack).await;
    pass(60).await;
    let rest: BTreeSet<u64> = next.calls.lock().iter().copied().collect();
    assert_eq!(rest, (begun.len() as u64..20).collect());
}

/// `pausingAndResumingProcessingShouldWork`, `InFlightWorkIsFinishedAndOffsetsCommitted`.
#[tokio::test(start_paused = true)]
async fn a_pause_lets_what_is_under_way_finish_and_be_committed_and_begins_nothing() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(with_time).await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let (begun, go_on) = (seen.clone(), gate.clone());
    doing(&process, patient(2), move |delivery| {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        async move {
            begun.lock().push(number_in(&delivery));
            go_on.acquire().await.unwrap().forget();
            Outcome::Ack
        }
    })
    .await;
    pass(1).await;
    process.subscriptions.pause(NAME).await.unwrap();
    let under_way = seen.lock().len();
    assert!((1..=2).contains(&under_way), "{under_way}");
    gate.add_permits(100);
    pass(60).await;
    assert_eq!(seen.lock().len(), under_way, "it is paused");
    assert_eq!(world.committed(0).await, Some(under_way as u64));
    process.subscriptions.resume(NAME).await.unwrap();
    pass(5).await;
    assert_eq!(sorted(&seen), (0..10).collect::<Vec<_>>());
    assert_eq!(world.committed(0).await, Some(10));
}

/// `backPressureShouldPreventTooManyMessagesBeingQueued`, `brokerPollPaused`,
/// `stopPollingAfterStateIsSetToDraining`.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_stuck_lets_no_more_be_read_than_the_buffer_holds_nor_does_a_stop() {
    let world = World::new(1).await;
    world.publish(0..20_000, 1).await;
    let log = WatchedLog::new(world.memory.log());
    let config = DeliveryConfig { buffer_events_max: 500, ..DeliveryConfig::default() };
    let process = world.process_with(log.clone(), config).await;
    process
        .create(|new| {
            with_time(new);
            new.max_in_flight = Some(100);
        })
        .await;
    let gate = Arc::new(Semaphore::new(0));
    let go_on = gate.clone();
    doing(&process, patient(16), move |_| {
        let go_on = go_on.clone();
        async move {
            go_on.acquire().await.unwrap().forget();
            Outcome::Ack
        }
    })
    .await;
    pass(600).await;
    assert!((16..=500).contains(&log.read()), "{} were read", log.read());
    gate.add_permits(1000);
    pass(60).await;
    assert_eq!(world.committed(0).await, Some(1000));
    let read = log.read();
    assert!((1016..=1500).contains(&read), "{read} were read");
    // 16 are under way, and end while it stops.
    let until = world.clock.monotonic() + Duration::from_secs(30);
    let finish = async {
        pass(5).await;
        gate.add_permits(20_000);
    };
    tokio::join!(process.subscriptions.shutdown(until), finish);
    assert_eq!((log.read(), world.committed(0).await), (read, Some(1016)));
}

/// `noDeadlockOnRevoke`, `rebalanceCompletesForCommitModeVariations`.
#[tokio::test(start_paused = true)]
async fn a_hand_over_comes_to_its_end_though_a_handler_is_stuck_and_commits_hang() {
    let mut world = World::new(2).await;
    let offsets = HeldOffsets::new(world.memory.offsets());
    world.offsets = offsets.clone();
    world.publish(0..10, 2).await;
    let stuck = world.process().await;
    stuck
        .create(|new| {
            with_time(new);
            new.dedup.enabled = Some(false);
        })
        .await;
    doing(&stuck, patient(16), async |_| pending().await).await;
    pass(5).await;
    offsets.hold(true);
    world.offsets = world.memory.offsets();
    let other = world.process().await;
    let handler = handled(&other, Outcome::Ack).await;
    pass(300).await;
    assert_eq!(handler.calls.lock().len(), 5, "it has the one partition, and all that is in it");
}

/// `consumeWithMultipleInstances`, `largeNumberOfInstances`; the simulator adds faults to it.
#[tokio::test(start_paused = true)]
async fn many_members_that_come_and_go_share_everything_and_do_nothing_twice() {
    let world = World::new(12).await;
    let first = world.process().await;
    first
        .create(|new| {
            with_time(new);
            new.ordering = Some("key".into());
        })
        .await;
    first.stop().await;
    let seen = Seen::default();
    let mut rng = StdRng::seed_from_u64(5);
    let mut members: Vec<Option<Process>> = (0..8).map(|_| None).collect();
    for round in 0..40_u32 {
        world.publish_keyed(round * 50..(round + 1) * 50, 24, 12).await;
        let place = rng.random_range(0..members.len());
        match members[place].take() {
            Some(member) => {
                member.subscriptions.shutdown(world.clock.monotonic() + Duration::from_secs(10)).await;
            }
            None => {
                let member = world.process().await;
                let handled = seen.clone();
                doing(&member, patient(4), move |delivery| {
                    let handled = handled.clone();
                    async move {
                        tokio::time::sleep(Duration::from_millis(u64::from(number_in(&delivery) % 50))).await;
                        handled.lock().push(number_in(&delivery));
                        Outcome::Ack
                    }
                })
                .await;
                members[place] = Some(member);
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
    }
    let last = world.process().await;
    let handled = seen.clone();
    doing(&last, patient(4), move |delivery| {
        handled.lock().push(number_in(&delivery));
        ready(Outcome::Ack)
    })
    .await;
    pass(600).await;
    assert_eq!(sorted(&seen), (0..2_000).collect::<Vec<_>>());
    let mut by_key: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    seen.lock().iter().for_each(|number| by_key.entry(number % 24).or_default().push(*number));
    for (key, numbers) in by_key {
        assert!(numbers.is_sorted(), "key {key} was handled out of order: {numbers:?}");
    }
}

/// `multiTopic`.
#[tokio::test(start_paused = true)]
async fn a_subscription_of_several_topics_gets_all_of_each_and_commits_each() {
    let world = World::new(1).await;
    for (topic, partitions) in [("payments", 2), ("returns", 3)] {
        world.create(topic, partitions).await;
    }
    world.append((0..10).map(|n| (0, numbered(n))).collect()).await;
    world.append_to("payments", (10..20).map(|n| (n % 2, numbered(n))).collect()).await;
    world.append_to("returns", (20..50).map(|n| (n % 3, numbered(n))).collect()).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.topics = ["orders", "payments", "returns"].map(Into::into).to_vec();
        })
        .await;
    let all = process.pull_all(50).await;
    assert_eq!(numbers(&all), (0..50).collect());
    for delivery in &all {
        let expected = match number(delivery) {
            0..10 => "orders",
            10..20 => "payments",
            _ => "returns",
        };
        assert_eq!(delivery.topic.as_str(), expected);
    }
    process.ack(&all).await;
    process.stop().await;
    for (topic, partitions, each) in [("orders", 1, 10), ("payments", 2, 5), ("returns", 3, 10)] {
        for partition in 0..partitions {
            assert_eq!(world.committed_of(topic, partition).await, Some(each), "{topic}/{partition}");
        }
    }
    world.process().await.nothing_comes().await;
}

/// `allPartitionsAreProcessedInParallel`.
#[tokio::test(start_paused = true)]
async fn with_the_order_of_partitions_all_partitions_are_handled_at_once() {
    let world = World::new(4).await;
    world.publish(0..12, 4).await;
    let process = world.process().await;
    process
        .create(|new| {
            with_time(new);
            new.ordering = Some("partition".into());
        })
        .await;
    let (seen, together) = (Seen::default(), Arc::new(Barrier::new(4)));
    let handled = seen.clone();
    doing(&process, patient(16), move |delivery| {
        let (handled, together) = (handled.clone(), together.clone());
        async move {
            // None goes on before one of each partition is here.
            together.wait().await;
            handled.lock().push(number_in(&delivery));
            Outcome::Ack
        }
    })
    .await;
    pass(5).await;
    assert_eq!(sorted(&seen), (0..12).collect::<Vec<_>>());
}
