//! Confluent's Parallel Consumer: what is committed, and what a restart makes of it.

use super::parallel_consumer::HOUR;
use crate::support::consuming::{HeldOffsets, WatchedLog, World, number, numbers, pass};
use domain::subscriptions::DeliveryConfig;
use ports::{EventLog, Offset};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// `shouldNotSkipAnyMessagesOnRestart`, `offsetsOpenClose`: what is done is kept by the commit alone.
#[tokio::test(start_paused = true)]
async fn a_restart_after_every_single_decision_skips_nothing_and_repeats_nothing() {
    let world = World::new(2).await;
    world.publish(0..40, 2).await;
    let process = world.process().await;
    process.create(|new| new.dedup.enabled = Some(false)).await;
    process.stop().await;
    let mut rng = StdRng::seed_from_u64(11);
    let mut left: BTreeSet<u32> = (0..40).collect();
    while !left.is_empty() {
        let process = world.process().await;
        let out = process.pull_all(left.len()).await;
        assert_eq!(numbers(&out), left);
        let one = rng.random_range(0..out.len());
        process.ack(&out[one..=one]).await;
        left.remove(&number(&out[one]));
        process.stop().await;
    }
    world.process().await.nothing_comes().await;
    assert_eq!((world.committed(0).await, world.committed(1).await), (Some(20), Some(20)));
}

/// `largeNumberOfMessagesSmallOffsetBitmap`.
#[tokio::test(start_paused = true)]
async fn twenty_thousand_done_beyond_a_gap_outlive_a_restart() {
    let world = World::new(1).await;
    world.publish(0..20_000, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.max_in_flight = Some(20_000);
            new.dedup.enabled = Some(false);
            new.ack_timeout = Some("1h".into());
        })
        .await;
    let all = process.pull_all(20_000).await;
    let (gaps, done): (Vec<_>, Vec<_>) = all.into_iter().partition(|of| number(of).is_multiple_of(1000));
    for some in done.chunks(10_000) {
        process.ack(some).await;
    }
    process.stop().await;
    assert_eq!(world.committed(0).await, Some(0));
    let process = world.process().await;
    let again = process.pull_all(gaps.len()).await;
    assert_eq!(numbers(&again), numbers(&gaps));
    process.ack(&again).await;
    process.nothing_comes().await;
    assert_eq!(world.committed(0).await, Some(20_000));
}

/// `commitUponRevoke`.
#[tokio::test(start_paused = true)]
async fn what_is_done_is_committed_before_its_partition_is_handed_over() {
    let world = World::new(2).await;
    world.publish(0..20, 2).await;
    let seldom = || DeliveryConfig {
        commit_interval: HOUR,
        commit_events_max: usize::MAX,
        ..DeliveryConfig::default()
    };
    let one = world.process_with(world.memory.log(), seldom()).await;
    one.create(|new| new.dedup.enabled = Some(false)).await;
    one.ack(&one.pull_all(20).await).await;
    pass(60).await;
    assert_eq!((world.committed(0).await, world.committed(1).await), (None, None), "it is not time yet");
    let other = world.process_with(world.memory.log(), seldom()).await;
    other.nothing_comes().await;
    let handed_over: Vec<_> =
        [world.committed(0).await, world.committed(1).await].into_iter().flatten().collect();
    assert!(!handed_over.is_empty() && handed_over.iter().all(|next| *next == 10), "{handed_over:?}");
}

/// `workCompletedDuringAsyncCommitShouldKeepStateAsDirty`.
#[tokio::test(start_paused = true)]
async fn what_is_done_while_a_commit_is_under_way_is_committed_by_the_next() {
    let mut world = World::new(1).await;
    let offsets = HeldOffsets::new(world.memory.offsets());
    world.offsets = offsets.clone();
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    pass(1).await;
    let begun = offsets.begun();
    offsets.hold(true);
    process.ack(&all[..5]).await;
    while offsets.begun() == begun {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.ack(&all[5..]).await;
    pass(1).await;
    assert_eq!(offsets.begun(), begun + 1, "one is under way at a time");
    offsets.hold(false);
    pass(1).await;
    assert_eq!(world.committed(0).await, Some(10));
}

/// `commitTimeout`.
#[tokio::test(start_paused = true)]
async fn while_commits_fail_delivery_goes_on_and_they_are_made_good_afterwards() {
    let mut world = World::new(1).await;
    let offsets = HeldOffsets::new(world.memory.offsets());
    world.offsets = offsets.clone();
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    offsets.fail(true);
    process.ack(&process.pull_all(10).await).await;
    pass(120).await;
    world.publish(10..20, 1).await;
    process.ack(&process.pull_all(10).await).await;
    pass(120).await;
    assert_eq!(world.committed(0).await.unwrap_or_default(), 0);
    let view = process.view().await;
    assert!(view.causes.iter().any(|cause| cause.code == "committing"), "{view:?}");
    offsets.fail(false);
    pass(30).await;
    assert_eq!(world.committed(0).await, Some(20));
}

/// `compactedTopic`, `overLappingTransactions`, `dontBlockFirstRecords`: offsets that nobody will ever see are
/// passed, by reads and by commits, at the start, in the middle and at the end.
#[tokio::test(start_paused = true)]
async fn gaps_of_compaction_and_of_transactions_are_passed_and_committed() {
    let gone: fn(Offset) -> bool = |offset| !(offset % 7 == 3 || (40..50).contains(&offset));
    for ordering in ["none", "key", "partition"] {
        let world = World::new(1).await;
        world.publish_keyed(0..100, 5, 1).await;
        let left: Vec<u32> = (0..100).filter(|n| !gone(u64::from(*n))).collect();
        let log: Arc<dyn EventLog> = WatchedLog::without(world.memory.log(), gone);
        let process = world.process_on(log.clone()).await;
        process.create(|new| new.ordering = Some(ordering.into())).await;
        let mut done = Vec::new();
        while done.len() < left.len() / 2 {
            let out = process.pull_all(1).await;
            done.extend(out.iter().map(number));
            process.ack(&out).await;
        }
        process.stop().await;
        let undone = left.iter().find(|n| !done.contains(n)).unwrap();
        assert!(world.committed(0).await.unwrap() <= u64::from(*undone), "{ordering}");
        let process = world.process_on(log).await;
        while done.len() < left.len() {
            let out = process.pull_all(1).await;
            done.extend(out.iter().map(number));
            process.ack(&out).await;
        }
        process.nothing_comes().await;
        done.sort_unstable();
        assert_eq!(done, left, "{ordering}");
        assert_eq!((world.committed(0).await, process.lag().await), (Some(100), 0), "{ordering}");
    }
}

/// `committedOffsetLower`, `bootstrapPollOffsetHigherDueToRetentionOrCompaction`: with events done beyond what
/// was committed, on both sides of where the log begins now.
#[tokio::test(start_paused = true)]
async fn what_retention_took_from_under_a_commit_is_passed_and_what_was_done_beyond_stays_done() {
    let world = World::new(1).await;
    world.publish(0..20, 1).await;
    let process = world.process().await;
    process.create(|new| new.dedup.enabled = Some(false)).await;
    let all = process.pull_all(20).await;
    let done: Vec<_> = all.into_iter().filter(|of| number(of) % 2 == 1).collect();
    process.ack(&done).await;
    process.stop().await;
    assert_eq!(world.committed(0).await, Some(0));
    world.memory.admin().trim(&world.topic, &[(0, 11)]).await.unwrap();
    let process = world.process().await;
    let rest = process.pull_all(4).await;
    assert_eq!(numbers(&rest), [12, 14, 16, 18].into());
    process.ack(&rest).await;
    process.nothing_comes().await;
    assert_eq!(world.committed(0).await, Some(20));
}
