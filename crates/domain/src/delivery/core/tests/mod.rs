//! What the core promises, one behaviour a test. Random interleavings of all of it beside a slow model are
//! in [`driving`]; those with the engine and its ports around are the simulator's (`tests/simulator`).

mod attempts;
mod claims;
mod driving;
mod model;
mod order;
mod queue;
mod sessions;

use super::{super::backoff::Backoff, *};
use bytes::Bytes;
use ports::{ClaimKey, Record, Token};
use std::sync::Arc;

const TIMEOUT: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_secs(5);

fn config(ordering: Ordering, claims: bool) -> CoreConfig {
    CoreConfig {
        ordering,
        ack_timeout: TIMEOUT,
        run_max: usize::MAX,
        claims,
        deliveries_max: Some(3),
        backoff: Backoff { initial: DELAY, max: DELAY * 10, multiplier: 2.0, full_jitter: false },
        retry_elsewhere: false,
        buffer_events_max: 100,
        buffer_bytes_max: 1 << 20,
        held_events_max: 4,
        held_bytes_max: 1 << 20,
    }
}

fn at(seconds: u64) -> Now {
    Now { steady: Monotonic(Duration::from_secs(seconds)), wall: Timestamp(seconds as i64 * 1000) }
}

fn incoming(offset: Offset, key: Option<u64>) -> Incoming {
    let record = Record { value: Some(Bytes::from_static(b"value")), ..Record::default() };
    Incoming {
        record: StoredRecord { offset, record },
        key,
        attempts: 0,
        retried: None,
        not_before: None,
        passed_over: false,
    }
}

/// A core that has read events of these keys, from offset 0 on.
fn core(config: CoreConfig, keys: &[Option<u64>]) -> PartitionCore {
    let mut core = PartitionCore::new(config, 7, 0, 1);
    let events = (0..).zip(keys).map(|(offset, key)| incoming(offset, *key)).collect();
    core.fetched(at(0), events, keys.len() as Offset);
    core
}

fn claim_of(taken: &Taken) -> ClaimTag {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&taken.ticket.offset.to_be_bytes());
    ClaimTag { key: ClaimKey(key), token: Token(taken.ticket.number) }
}

/// Takes and delivers; with claims as the `attempt`th.
fn deliver(core: &mut PartitionCore, now: Now, max: usize, attempt: u32) -> Vec<Delivery> {
    let mut taken = Vec::new();
    core.take(max, usize::MAX, 1 << 20, false, &mut taken);
    let mut out = Vec::new();
    for taken in taken {
        let claim =
            core.config().claims.then(|| (claim_of(&taken), attempt, now.steady + TIMEOUT + CLAIM_MARGIN));
        out.extend(core.deliver(now, taken.ticket, claim, !out.is_empty()));
    }
    out
}

fn offsets(deliveries: &[Delivery]) -> Vec<Offset> {
    deliveries.iter().map(|delivery| delivery.lease.offset).collect()
}

fn retry() -> Decision {
    Decision::Retry { after: None, failure: Failure::new("test", "not now") }
}

fn effects(core: &mut PartitionCore) -> Vec<Effect> {
    let mut effects = Vec::new();
    core.take_effects(&mut effects);
    effects
}

#[test]
fn a_retry_holds_its_key_and_others_go_on() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(2), Some(1)]);
    let out = deliver(&mut core, at(0), 2, 1);
    assert_eq!(out[0].lease.offset, 0);
    assert_eq!(core.decide(at(0), out[0].lease, retry()), Some(Status::Ok));
    let others = deliver(&mut core, at(1), 10, 1);
    assert!(!offsets(&others).contains(&0) && !offsets(&others).contains(&2), "{others:?}");
    core.tick(at(5));
    let again = deliver(&mut core, at(5), 10, 1);
    let of_key: Vec<_> = offsets(&again).into_iter().filter(|offset| *offset != 1).collect();
    assert_eq!(of_key, [0, 2], "in order, when the delay is over");
    assert_eq!(again.iter().find(|delivery| delivery.lease.offset == 0).unwrap().attempt, 2);
}

#[test]
fn the_later_ones_of_a_failed_run_are_superseded_and_come_again_behind_it() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(1), Some(1)]);
    let out = deliver(&mut core, at(0), 3, 1);
    assert!(out.iter().all(|delivery| delivery.run == out[0].run));
    assert_eq!(core.decide(at(0), out[0].lease, Decision::Ack), Some(Status::Ok));
    assert_eq!(core.decide(at(0), out[1].lease, retry()), Some(Status::Ok));
    assert_eq!(core.decide(at(0), out[2].lease, Decision::Ack), Some(Status::Superseded));
    assert_eq!(deliver(&mut core, at(1), 3, 1), []);
    core.tick(at(5));
    let again = deliver(&mut core, at(5), 3, 1);
    assert_eq!((offsets(&again), again[0].attempt, again[1].attempt), (vec![1, 2], 2, 1));
}

#[test]
fn the_committable_offset_never_passes_an_undecided_event() {
    let mut core = core(config(Ordering::None, false), &[None; 5]);
    let out = deliver(&mut core, at(0), 5, 1);
    for nth in [4, 1, 3, 2] {
        assert_eq!(core.decide(at(0), out[nth].lease, Decision::Ack), Some(Status::Ok));
        assert_eq!(core.committable(), 0);
    }
    assert_eq!(core.done_beyond().ranges().next(), Some(1..5));
    core.decide(at(0), out[0].lease, Decision::Ack);
    assert_eq!((core.committable(), core.in_flight()), (5, 0));
}

#[test]
fn what_has_used_up_its_deliveries_is_a_dead_letter_and_done_only_when_that_is_kept() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(1)]);
    for (attempt, now) in [(1, 0), (2, 100), (3, 200)] {
        core.tick(at(now));
        let out = deliver(&mut core, at(now), 1, 1);
        assert_eq!((offsets(&out), out[0].attempt), (vec![0], attempt));
        let status = core.decide(at(now), out[0].lease, retry());
        assert_eq!(status, (attempt < 3).then_some(Status::Ok), "the last one waits for its dead letter");
    }
    let effects = effects(&mut core);
    let [Effect::DeadLetter(letter)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((letter.attempts, &*letter.failures.last.kind), (3, "test"));
    core.tick(at(300));
    assert_eq!(deliver(&mut core, at(300), 9, 1), [], "neither again, nor what comes after it");
    assert_eq!(core.committable(), 0);
    assert_eq!(core.dead_lettered(at(300), letter.ticket, Outcome::Done), Status::Ok);
    assert_eq!(core.committable(), 1);
    assert_eq!(offsets(&deliver(&mut core, at(300), 9, 1)), [1]);
}

#[test]
fn a_lapse_counts_an_attempt_and_a_release_none() {
    let mut core = core(config(Ordering::None, false), &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    let release = Decision::Release { after: Duration::ZERO };
    assert_eq!(core.decide(at(0), out[0].lease, release), Some(Status::Ok));
    let out = deliver(&mut core, at(0), 1, 1);
    assert_eq!(out[0].attempt, 1);
    assert_eq!(core.next_timeout(), Some(at(30).steady));
    core.tick(at(30));
    assert_eq!(deliver(&mut core, at(30), 1, 1)[0].attempt, 2);
}

#[test]
fn the_last_delivery_of_what_only_ever_lapsed_is_by_itself() {
    let mut core = core(config(Ordering::None, false), &[None, None]);
    for now in [0, 30] {
        core.tick(at(now));
        assert_eq!(deliver(&mut core, at(now), 2, 1).len(), 2);
    }
    core.tick(at(60));
    let alone = deliver(&mut core, at(60), 2, 1);
    assert_eq!((alone.len(), alone[0].attempt), (1, 3));
}

#[test]
fn with_claims_an_acknowledgement_holds_when_its_claim_is_completed_and_comes_again_when_it_is_fenced() {
    let mut core = core(config(Ordering::Key, true), &[Some(1), Some(2)]);
    let out = deliver(&mut core, at(0), 2, 1);
    for delivery in &out {
        assert_eq!(core.decide(at(0), delivery.lease, Decision::Ack), None);
    }
    let tickets: Vec<_> = effects(&mut core)
        .into_iter()
        .map(|effect| match effect {
            Effect::Complete { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(core.committable(), 0, "nothing is done before the store says so");
    assert_eq!(core.settled(at(0), tickets[0], Outcome::Done), Status::Ok);
    assert_eq!(core.committable(), 1);
    assert_eq!(core.settled(at(0), tickets[1], Outcome::Fenced), Status::Expired);
    let again = deliver(&mut core, at(0), 2, 2);
    assert_eq!((offsets(&again), again[0].attempt), (vec![1], 2), "its claim is asked for anew");
}

#[test]
fn a_revocation_lets_the_claims_go_that_no_client_needs() {
    let mut core = core(config(Ordering::None, true), &[None, None, None]);
    let out = deliver(&mut core, at(0), 3, 1);
    assert_eq!(core.decide(at(0), out[0].lease, retry()), Some(Status::Ok));
    let unused = core.revoke();
    assert_eq!(unused.len(), 1, "what is held; two are out at a client, who may finish");
    assert!(unused[0].counted, "it failed");
    assert_eq!(core.decide(at(0), out[1].lease, Decision::Ack), Some(Status::Expired));
    assert!(!core.has_ready());
}

#[test]
fn what_is_held_has_a_bound_of_its_own() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(1), Some(1), Some(2)]);
    let out = deliver(&mut core, at(0), 1, 1);
    let (events, _) = core.room();
    assert_eq!(events, 96);
    core.decide(at(0), out[0].lease, retry());
    assert_eq!(
        (core.held(), core.room().0),
        (3, 99),
        "what waits for a retry keeps nothing else from being read"
    );
    core.fetched(at(0), vec![incoming(4, Some(1))], 5);
    assert_eq!((core.held(), core.room()), (4, (0, 0)), "until there is too much of it");
    assert!(core.is_held_up());
}

#[test]
fn with_the_intake_closed_only_what_was_out_before_goes_out() {
    let mut core = core(config(Ordering::None, false), &[None, None, None]);
    let out = deliver(&mut core, at(0), 1, 1);
    core.decide(at(0), out[0].lease, Decision::Release { after: Duration::ZERO });
    core.set_intake(false);
    assert_eq!(offsets(&deliver(&mut core, at(0), 3, 1)), [0]);
    core.set_intake(true);
    assert_eq!(offsets(&deliver(&mut core, at(0), 3, 1)), [1, 2]);
}

#[test]
fn what_an_earlier_session_did_is_not_done_again_and_its_attempts_are_known() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 10, 1);
    core.with_progress(std::iter::once(12..14).collect(), [(11, 2)].into());
    core.fetched(at(0), (10..15).map(|offset| incoming(offset, None)).collect(), 15);
    // The one of two lapses before goes out by itself.
    let mut came = Vec::new();
    while let [first, rest @ ..] = &deliver(&mut core, at(0), 9, 1)[..] {
        came.extend(std::iter::once(first).chain(rest).map(|one| (one.lease.offset, one.attempt)));
    }
    came.sort_unstable();
    assert_eq!(came, [(10, 1), (11, 3), (14, 1)]);
}

#[test]
fn an_event_costs_the_same_whatever_else_is_there() {
    // Anything that scanned would not come to an end here.
    for keys in [1, 100, 10_000_u64] {
        let mut core = PartitionCore::new(
            CoreConfig {
                buffer_events_max: 200_000,
                buffer_bytes_max: 1 << 30,
                ..config(Ordering::Key, false)
            },
            7,
            0,
            1,
        );
        core.fetched(
            at(0),
            (0..100_000).map(|offset| incoming(offset, Some(offset % keys))).collect(),
            100_000,
        );
        while core.has_ready() {
            for delivery in deliver(&mut core, at(0), 1_000, 1).into_iter().rev() {
                assert_eq!(core.decide(at(0), delivery.lease, Decision::Ack), Some(Status::Ok));
            }
        }
        assert_eq!((core.committable(), core.in_flight()), (100_000, 0));
    }
}
