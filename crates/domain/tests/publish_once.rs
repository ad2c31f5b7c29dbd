//! What publishing once promises: over the reference model, with a log and a store that fail and die where a
//! test scripts it.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Event,
    publish::{PublishContext, Publisher, Receipt},
};
use futures::FutureExt;
use ports::{Effect, ErrorKind, Settlement};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, sync::atomic::Ordering, time::Duration};
use support::{Append, Call, PARTITIONS, TOPIC, World, context, header, items, once, plain};
use tokio::sync::oneshot;

async fn publish(publisher: &Publisher, event: Event) -> Result<Receipt, Error> {
    let results = publisher.publish(Some(TOPIC), items([event]), &context()).await?;
    results.into_iter().next().unwrap()
}

/// Starts a call that never ends, in a process that is dead from there on.
async fn crash(world: &World, event: Event) {
    let publisher = world.publisher();
    let dead = tokio::spawn(async move { publish(&publisher, event).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!dead.is_finished(), "it died on the way");
}

fn code(result: Result<Receipt, Error>) -> ErrorCode {
    result.unwrap_err().code()
}

#[tokio::test(start_paused = true)]
async fn the_same_again_is_answered_with_the_first_receipt() {
    let world = World::new().await;
    let publisher = world.publisher();
    let first = publish(&publisher, once("k", "1")).await.unwrap();
    assert!(!first.duplicate);
    // Another process, another request id, another trace.
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = PublishContext { traceparent: Some(trace.into()), ..context() };
    let again = world.publisher().publish(Some(TOPIC), items([once("k", "1")]), &context).await.unwrap();
    assert_eq!(again[0].as_ref().unwrap(), &Receipt { duplicate: true, ..first });
    assert_eq!(world.records(TOPIC).await.len(), 1);
    assert_eq!(world.log.opened.load(Ordering::Relaxed), 0, "the log is not read for it");
}

#[tokio::test(start_paused = true)]
async fn another_content_under_a_used_key_is_refused() {
    let world = World::new().await;
    let publisher = world.publisher();
    publish(&publisher, once("k", "1")).await.unwrap();
    let error = publish(&publisher, once("k", "2")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IdempotencyKeyReused);
    assert_eq!(error.fields()[0].field, "idempotencykey");
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_one_principals_own() {
    let world = World::new().await;
    let publisher = world.publisher();
    let other = PublishContext { principal: ByteString::from_static("somebody"), ..context() };
    publish(&publisher, once("k", "1")).await.unwrap();
    let results = publisher.publish(Some(TOPIC), items([once("k", "2")]), &other).await.unwrap();
    assert!(!results[0].as_ref().unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_free_again_when_its_receipt_is_kept_no_longer() {
    let world = World::new().await;
    let publisher = world.publisher();
    publish(&publisher, once("k", "1")).await.unwrap();
    tokio::time::sleep(world.config.once.ttl).await;
    assert!(!publish(&publisher, once("k", "2")).await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_batch_makes_one_claim_and_one_settlement_for_its_keyed_events_alone() {
    let world = World::new().await;
    let publisher = world.publisher();
    let batch = items([once("a", "1"), plain("x", "2"), once("b", "3"), once("c", "4")]);
    let results = publisher.publish(Some(TOPIC), batch, &context()).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(*world.store.claimed.lock().unwrap(), [3]);
    assert_eq!(world.store.settled.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    assert_eq!(world.log.appends(TOPIC), [4]);
    publisher.publish(Some(TOPIC), items([plain("x", "5")]), &context()).await.unwrap();
    assert_eq!(world.store.claimed.lock().unwrap().len(), 1, "without a key the store is not asked");
    let marked = world.records(TOPIC).await;
    let marked = marked.iter().filter(|(_, stored)| header(&stored.record, "es_idempotency_key").is_some());
    assert_eq!(marked.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn ends_are_asked_for_once_a_topic_and_second() {
    let world = World::new().await;
    let publisher = world.publisher();
    for n in 0..10 {
        publish(&publisher, Event { partition: Some(0), ..once(&format!("k{n}"), "1") }).await.unwrap();
    }
    assert_eq!(world.log.located.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    publish(&publisher, Event { partition: Some(0), ..once("last", "1") }).await.unwrap();
    assert_eq!(world.log.located.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn copies_within_a_batch_are_settled_before_the_store_is_asked() {
    let world = World::new().await;
    let publisher = world.publisher();
    let batch = items([once("k", "1"), once("k", "1"), once("k", "2")]);
    let results = publisher.publish(Some(TOPIC), batch, &context()).await.unwrap();
    let first = results[0].as_ref().unwrap();
    assert_eq!(results[1].as_ref().unwrap(), &Receipt { duplicate: true, ..first.clone() });
    assert_eq!(results[2].as_ref().unwrap_err().code(), ErrorCode::IdempotencyKeyReused);
    assert_eq!(*world.store.claimed.lock().unwrap(), [1]);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_first_runs_the_second_is_told_to_ask_again() {
    let world = World::new().await;
    let publisher = world.publisher();
    let (go, gate) = oneshot::channel();
    world.log.script(TOPIC, [Append::After(gate)]);
    let running = {
        let publisher = publisher.clone();
        tokio::spawn(async move { publish(&publisher, once("k", "1")).await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    let error = publish(&publisher, once("k", "1")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IdempotencyInFlight);
    assert!(error.retry_after().is_some());
    go.send(()).unwrap();
    let first = running.await.unwrap().unwrap();
    assert_eq!(publish(&publisher, once("k", "1")).await.unwrap(), Receipt { duplicate: true, ..first });
}

#[tokio::test(start_paused = true)]
async fn a_try_that_failed_without_effect_frees_its_key() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Fail(ErrorKind::Unavailable)]);
    let error = publish(&publisher, once("k", "1")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), (ErrorCode::Unavailable, Some(Effect::None)));
    let receipt = publish(&publisher, once("k", "other")).await.unwrap();
    assert!(!receipt.duplicate, "and nothing is held against another content");
    assert_eq!(world.log.opened.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_append_is_late_stays_in_flight_until_the_log_reports_it_done() {
    let world = World::new().await;
    let publisher = world.publisher();
    let (report, late) = oneshot::channel();
    world.log.script(TOPIC, [Append::Late(late)]);
    let error = publish(&publisher, once("k", "1")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), (ErrorCode::Timeout, Some(Effect::Unknown)));
    for _ in 0..5 {
        assert_eq!(code(publish(&publisher, once("k", "1")).await), ErrorCode::IdempotencyInFlight);
        world.outlive_leases().await;
    }
    report.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(publish(&publisher, once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_append_turns_out_to_have_failed_late_is_free() {
    let world = World::new().await;
    let publisher = world.publisher();
    let (report, late) = oneshot::channel();
    world.log.script(TOPIC, [Append::Late(late)]);
    assert_eq!(code(publish(&publisher, once("k", "1")).await), ErrorCode::Timeout);
    report.send(false).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!publish(&publisher, once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reports_is_looked_up_in_the_log_when_the_lease_has_ended() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Unknown]);
    let error = publish(&publisher, once("k", "1")).await.unwrap_err();
    assert_eq!(error.effect(), Some(Effect::Unknown));
    assert_eq!(code(publish(&publisher, once("k", "1")).await), ErrorCode::IdempotencyInFlight);
    world.outlive_leases().await;
    assert!(publish(&publisher, once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_append_does_not_append_twice() {
    let world = World::new().await;
    publish(&world.publisher(), plain("k", "before")).await.unwrap();
    world.log.script(TOPIC, [Append::CrashAfter]);
    crash(&world, once("k", "1")).await;
    assert_eq!(code(publish(&world.publisher(), once("k", "1")).await), ErrorCode::IdempotencyInFlight);
    world.outlive_leases().await;
    let found = publish(&world.publisher(), once("k", "1")).await.unwrap();
    assert!(found.duplicate);
    let records = world.records(TOPIC).await;
    assert_eq!(records.len(), 2);
    let (partition, stored) = &records[1];
    assert_eq!((found.partition, found.offset), (*partition, stored.offset));
    assert_eq!(header(&stored.record, "ce_id").as_deref(), Some(&*found.id));
    assert_eq!(publish(&world.publisher(), once("k", "1")).await.unwrap(), found, "and it is kept");
    assert_eq!(world.log.opened.load(Ordering::Relaxed), 1, "so that the log is asked once");
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_append_is_made_good_in_the_same_partition() {
    // Where an event without a key goes is left to chance: the note says where it would have gone.
    let keyless = |partition| Event { key: None, partition, ..once("k", "1") };
    for partition in 0..PARTITIONS {
        let world = World::new().await;
        world.log.script(TOPIC, [Append::CrashBefore]);
        crash(&world, keyless(Some(partition))).await;
        world.outlive_leases().await;
        let receipt = publish(&world.publisher(), keyless(None)).await.unwrap();
        assert_eq!((receipt.partition, receipt.duplicate), (partition, false));
        assert_eq!(world.records(TOPIC).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_crash_leaves_no_less_than_the_first_did() {
    let mut world = World::new().await;
    world.config.once.lookback_events = 10;
    world.log.script(TOPIC, [Append::CrashAfter]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    // The next one dies while it reads; what was appended meanwhile lies behind the first one's record.
    world.log.opening_crashes.store(1, Ordering::Relaxed);
    crash(&world, once("k", "1")).await;
    for n in 0..20 {
        publish(&world.publisher(), plain("k", &n.to_string())).await.unwrap();
    }
    world.outlive_leases().await;
    assert!(publish(&world.publisher(), once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_note_is_laid_down_again_is_looked_for_from_the_end_back() {
    let mut world = World::new().await;
    world.config.once.lookback_events = 10;
    world.log.script(TOPIC, [Append::CrashAfter]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    world.store.script_claims([Call::Pass, Call::Crash]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    assert!(publish(&world.publisher(), once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_of_looking_back_the_log_cannot_tell() {
    let mut world = World::new().await;
    world.config.once.lookback_events = 5;
    for (others, appended_twice) in [(4, false), (5, true)] {
        let key = format!("k{others}");
        world.log.script(TOPIC, [Append::CrashBehind(others)]);
        crash(&world, once(&key, "1")).await;
        world.outlive_leases().await;
        let receipt = publish(&world.publisher(), once(&key, "1")).await.unwrap();
        assert_eq!(receipt.duplicate, !appended_twice, "behind {others} others");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replays_copy_is_not_taken_for_the_event() {
    let world = World::new().await;
    world.log.script(TOPIC, [Append::CrashBesideReplay]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    assert!(!publish(&world.publisher(), once("k", "1")).await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_published_keeps_its_key_from_another_content() {
    let world = World::new().await;
    world.log.script(TOPIC, [Append::CrashAfter]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    assert_eq!(code(publish(&world.publisher(), once("k", "2")).await), ErrorCode::IdempotencyKeyReused);
    assert!(publish(&world.publisher(), once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_holds_nothing_of_the_old_one() {
    let world = World::new().await;
    world.log.script(TOPIC, [Append::CrashAfter]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    let topics = world.topics();
    topics.delete(TOPIC).await.unwrap();
    let new = domain::topics::NewTopic { name: TOPIC.into(), partitions: Some(1), ..Default::default() };
    topics.create(new).await.unwrap();
    let receipt = publish(&world.publisher(), once("k", "1")).await.unwrap();
    assert_eq!((receipt.duplicate, receipt.partition), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_keyed_events_have_no_effect_and_others_go_on() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.store.script_claims([Call::FailBefore, Call::FailBefore]);
    let error = publish(&publisher, once("k", "1")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), (ErrorCode::Unavailable, Some(Effect::None)));
    let batch = items([once("a", "1"), plain("a", "behind it"), plain("b", "2")]);
    let results = publisher.publish(Some(TOPIC), batch, &context()).await.unwrap();
    let codes: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::code)).collect();
    assert_eq!(codes, [Some(ErrorCode::Unavailable), Some(ErrorCode::PredecessorFailed), None]);
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_given_back() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.store.script_claims([Call::FailAfter]);
    assert_eq!(code(publish(&publisher, once("k", "1")).await), ErrorCode::Unavailable);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!publish(&publisher, once("k", "1")).await.unwrap().duplicate, "well before the lease has ended");
}

#[tokio::test(start_paused = true)]
async fn a_claim_after_a_crash_whose_answer_was_lost_is_not_taken_for_the_first() {
    let mut world = World::new().await;
    world.config.once.lookback_events = 10;
    world.log.script(TOPIC, [Append::CrashAfter]);
    crash(&world, once("k", "1")).await;
    publish(&world.publisher(), plain("k", "after it")).await.unwrap();
    world.outlive_leases().await;
    // Its note begins behind the record of the first, and it is given back.
    world.store.script_claims([Call::FailAfter]);
    assert_eq!(code(publish(&world.publisher(), once("k", "1")).await), ErrorCode::Unavailable);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(publish(&world.publisher(), once("k", "1")).await.unwrap().duplicate);
    assert_eq!(world.records(TOPIC).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_given_though_the_store_fails_and_the_outcome_is_offered_again() {
    for failing in [Call::FailBefore, Call::FailAfter] {
        let world = World::new().await;
        let publisher = world.publisher();
        world.store.script_settles([failing, failing, failing]);
        let receipt = publish(&publisher, once("k", "1")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            publish(&publisher, once("k", "1")).await.unwrap(),
            Receipt { duplicate: true, ..receipt }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_holds_no_receipt_up() {
    let world = World::new().await;
    world.store.script_settles([Call::Crash]);
    let receipt = publish(&world.publisher(), once("k", "1")).await.unwrap();
    world.outlive_leases().await;
    let again = publish(&world.publisher(), once("k", "1")).await.unwrap();
    assert_eq!(again, Receipt { duplicate: true, ..receipt }, "the log tells where the store does not");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_an_outcome() {
    let world = World::new().await;
    let publisher = world.publisher();
    let (go, gate) = oneshot::channel();
    world.log.script(TOPIC, [Append::After(gate)]);
    let mut call = Box::pin(publish(&publisher, once("k", "1")));
    assert!(call.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(call);
    go.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(publish(&publisher, once("k", "1")).await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_key_overtakes_what_is_in_flight_in_its_batch() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::CrashBefore]);
    crash(&world, once("busy", "1")).await;
    let keyed = |idempotency_key: &str| Event { key: Some(Bytes::from("e")), ..once(idempotency_key, "1") };
    let busy = Event { key: Some(Bytes::from("e")), ..once("busy", "1") };
    let batch = items([keyed("first"), busy, keyed("behind"), plain("other", "1")]);
    let results = publisher.publish(Some(TOPIC), batch, &context()).await.unwrap();
    let codes: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::code)).collect();
    let in_flight = Some(ErrorCode::IdempotencyInFlight);
    assert_eq!(codes, [None, in_flight, Some(ErrorCode::PredecessorFailed), None]);
    let settled = world.store.settled.lock().unwrap().last().unwrap().clone();
    assert!(matches!(settled[..], [Settlement::Complete { .. }, Settlement::Release { counted: false }]));
    assert!(!publish(&publisher, keyed("behind")).await.unwrap().duplicate, "its key is free");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_took_too_long_is_not_appended_under() {
    let world = World::new().await;
    world.log.script(TOPIC, [Append::CrashBefore]);
    crash(&world, once("k", "1")).await;
    world.outlive_leases().await;
    let publisher = world.publisher();
    // The answer to the claim comes when its lease has all but ended.
    let (go, gate) = oneshot::channel();
    world.store.hold_next_claim(gate);
    let late = tokio::spawn(async move { publish(&publisher, once("late", "1")).await });
    tokio::time::sleep(Duration::from_secs(25)).await;
    go.send(()).unwrap();
    let error = late.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.effect()), (ErrorCode::Unavailable, Some(Effect::None)));
    assert_eq!(world.records(TOPIC).await.len(), 0);
    assert!(!publish(&world.publisher(), once("late", "1")).await.unwrap().duplicate, "and is given back");
}

#[tokio::test(start_paused = true)]
async fn keys_are_refused_by_name_where_they_cannot_be_honoured() {
    let mut world = World::new().await;
    let without = Publisher::new(
        world.log.clone(),
        world.topics(),
        world.clock.clone(),
        Arc::new(world.limits.clone()),
        world.config.clone(),
    );
    world.config.once.enabled = false;
    for publisher in [&without, &*world.publisher()] {
        let error = publish(publisher, once("k", "1")).await.unwrap_err();
        assert_eq!((error.code(), &*error.fields()[0].field), (ErrorCode::NotSupported, "idempotencykey"));
        publish(publisher, plain("k", "1")).await.unwrap();
    }
}

/// Whatever fails or dies, a client that tries until it has a receipt has its event in the log once.
#[tokio::test(start_paused = true)]
async fn who_tries_until_it_has_a_receipt_is_published_once() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new().await;
        for n in 0..5 {
            let event = || Event { key: rng_key(n), ..once(&format!("k{n}"), "1") };
            loop {
                let fate = rng.random_range(0..9);
                let mut late = None;
                let append = match fate {
                    0 => Some(Append::CrashBefore),
                    1 => Some(Append::CrashAfter),
                    2 => Some(Append::Unknown),
                    3 => Some(Append::Fail(ErrorKind::Unavailable)),
                    4 => {
                        let (tell, told) = oneshot::channel();
                        late = Some(tell);
                        Some(Append::Late(told))
                    }
                    5 => {
                        world.store.script_claims([Call::FailAfter]);
                        None
                    }
                    6 => {
                        world.store.script_settles([Call::Crash]);
                        None
                    }
                    7 => {
                        world.store.script_settles([Call::FailBefore]);
                        None
                    }
                    _ => None,
                };
                world.log.clear(TOPIC);
                world.log.script(TOPIC, append);
                let publisher = world.publisher();
                let call = {
                    let event = event();
                    tokio::spawn(async move { publish(&publisher, event).await })
                };
                tokio::time::sleep(Duration::from_secs(2)).await;
                if let Some(late) = late {
                    let _ = late.send(rng.random());
                }
                if call.is_finished() && call.await.unwrap().is_ok() {
                    break;
                }
                if rng.random() {
                    world.outlive_leases().await;
                }
                world.log.clear(TOPIC);
                publish(&world.publisher(), plain("between", "x")).await.unwrap();
            }
        }
        world.outlive_leases().await;
        let records = world.records(TOPIC).await;
        let marked = records.iter().filter(|(_, r)| header(&r.record, "es_idempotency_key").is_some());
        assert_eq!(marked.count(), 5, "seed {seed}");
    }
}

/// Some have a key, others none.
fn rng_key(n: u32) -> Option<Bytes> {
    n.is_multiple_of(2).then(|| Bytes::from(n.to_string()))
}
