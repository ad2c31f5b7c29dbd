//! What counts as an attempt, what becomes a dead letter, and what goes out by itself.

use super::*;

fn letters(core: &mut PartitionCore) -> Vec<DeadLetter> {
    let letter = |effect| match effect {
        Effect::DeadLetter(letter) => *letter,
        other => panic!("{other:?}"),
    };
    effects(core).into_iter().map(letter).collect()
}

fn take(core: &mut PartitionCore, others: bool) -> Vec<Taken> {
    let mut taken = Vec::new();
    core.take(9, usize::MAX, usize::MAX, others, &mut taken);
    taken
}

#[test]
fn the_delay_grows_with_each_failure_and_one_that_was_asked_for_wins_up_to_the_longest() {
    let mut core = core(CoreConfig { deliveries_max: None, ..config(Ordering::None, false) }, &[None]);
    let mut now = 0;
    for (after, expected) in [(None, 5), (None, 10), (None, 20), (Some(3), 3), (Some(9_999), 50)] {
        let out = deliver(&mut core, at(now), 1, 1);
        let after = after.map(Duration::from_secs);
        core.decide(at(now), out[0].lease, Decision::Retry { after, failure: Failure::new("test", "") });
        assert_eq!(core.next_timeout(), Some(at(now + expected).steady));
        now += expected;
        core.tick(at(now));
    }
}

#[test]
fn without_an_end_of_deliveries_nothing_is_used_up() {
    let mut core = core(CoreConfig { deliveries_max: None, ..config(Ordering::None, false) }, &[None]);
    for attempt in 1..100 {
        let now = u64::from(attempt) * 100;
        core.tick(at(now));
        assert_eq!(deliver(&mut core, at(now), 1, 1)[0].attempt, attempt);
    }
    assert_eq!(effects(&mut core), []);
}

#[test]
fn a_rejected_event_is_a_dead_letter_at_once_and_its_key_waits_until_that_is_kept() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(1)]);
    let out = deliver(&mut core, at(0), 1, 1);
    let failure = Failure::new("schema", "no such field");
    assert_eq!(core.decide(at(9), out[0].lease, Decision::Reject { failure: failure.clone() }), None);
    let letters = letters(&mut core);
    let failed_at = at(9).wall;
    let failures = Failures { first_at: failed_at, last_at: failed_at, last: failure, lapses_only: false };
    assert_eq!((letters[0].attempts, &letters[0].failures), (1, &failures));
    core.tick(at(1_000));
    assert_eq!(deliver(&mut core, at(1_000), 9, 1), []);
    assert_eq!(core.decide(at(1_000), out[0].lease, Decision::Ack), Some(Status::Unavailable));
    assert_eq!(core.dead_lettered(at(1_000), letters[0].ticket, Outcome::Done), Status::Ok);
    assert_eq!((core.committable(), core.counters().dead_lettered, core.counters().done), (1, 1, 1));
    assert_eq!(offsets(&deliver(&mut core, at(1_000), 9, 1)), [1]);
}

#[test]
fn a_dead_letter_tells_of_the_first_failure_and_of_the_last() {
    let mut core = core(CoreConfig { deliveries_max: Some(2), ..config(Ordering::None, false) }, &[None]);
    deliver(&mut core, at(0), 1, 1);
    core.tick(at(30));
    let out = deliver(&mut core, at(40), 1, 1);
    core.decide(at(50), out[0].lease, retry());
    let failures = letters(&mut core).remove(0).failures;
    assert_eq!((failures.first_at, failures.last_at), (at(30).wall, at(50).wall));
    assert_eq!((&*failures.last.kind, failures.lapses_only), ("test", false));
}

#[test]
fn an_event_whose_attempts_were_used_up_before_is_a_dead_letter_without_a_delivery() {
    // By its own headers.
    let mut headers = PartitionCore::new(config(Ordering::Key, false), 7, 0, 1);
    let used_up = Incoming { attempts: 3, ..incoming(0, Some(1)) };
    headers.fetched(at(0), vec![used_up, incoming(1, Some(1))], 2);
    // By what the session before committed.
    let mut committed = PartitionCore::new(config(Ordering::Key, false), 7, 0, 1);
    committed.with_progress(DoneSet::default(), [(0, 3)].into());
    committed.fetched(at(0), vec![incoming(0, Some(1)), incoming(1, Some(1))], 2);
    // By the count of the store.
    let mut claimed = core(config(Ordering::Key, true), &[Some(1), Some(1)]);
    assert_eq!(deliver(&mut claimed, at(0), 1, 4), []);
    for mut core in [headers, committed, claimed] {
        let letters = letters(&mut core);
        assert_eq!(
            letters.iter().map(|letter| (letter.record.offset, letter.attempts)).collect::<Vec<_>>(),
            [(0, 3)]
        );
        assert!(letters[0].failures.lapses_only);
        assert_eq!(deliver(&mut core, at(0), 9, 1), [], "what comes after it waits until it is kept");
        core.dead_lettered(at(0), letters[0].ticket, Outcome::Done);
        assert_eq!(core.committable(), 1);
        assert_eq!(offsets(&deliver(&mut core, at(0), 9, 1)), [1]);
        assert_eq!(core.counters().delivered, 1);
    }
}

#[test]
fn a_dead_letter_whose_claim_is_fenced_comes_again_and_is_not_forgotten() {
    let mut core = core(CoreConfig { deliveries_max: Some(1), ..config(Ordering::None, true) }, &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    assert_eq!(core.decide(at(0), out[0].lease, retry()), None);
    let first = letters(&mut core).remove(0);
    assert_eq!(core.dead_lettered(at(0), first.ticket, Outcome::Fenced), Status::Expired);
    assert_eq!((core.committable(), core.counters().dead_lettered), (0, 0));
    assert_eq!(deliver(&mut core, at(0), 1, 1), [], "its deliveries are used up whatever the store counted");
    assert_eq!(letters(&mut core).len(), 1);
}

#[test]
fn a_failure_of_a_delivery_without_a_claim_counts_beside_those_that_the_store_knows() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let taken = take(&mut core, false);
    let unclaimed = core.deliver(at(0), taken[0].ticket, None, false).unwrap();
    assert_eq!(core.decide(at(0), unclaimed.lease, retry()), Some(Status::Ok));
    core.tick(at(5));
    assert_eq!(deliver(&mut core, at(5), 1, 1)[0].attempt, 2);
}

#[test]
fn an_event_that_only_its_claim_tells_to_be_at_its_last_attempt_goes_back_and_comes_by_itself() {
    let mut core = core(config(Ordering::None, true), &[None; 3]);
    let taken = take(&mut core, false);
    let mut out = Vec::new();
    for (taken, attempt) in taken.iter().zip([3, 1, 1]) {
        let claim = (claim_of(taken), attempt, at(100).steady);
        out.extend(core.deliver(at(0), taken.ticket, Some(claim), !out.is_empty()));
    }
    assert_eq!(offsets(&out), [1, 2], "its neighbours go without it");
    let taken = take(&mut core, false);
    assert!(taken[0].alone && !taken[0].own.unwrap().counted, "to be claimed anew, counting nothing");
    let claim = (claim_of(&taken[0]), 3, at(100).steady);
    assert_eq!(core.deliver(at(0), taken[0].ticket, Some(claim), false).unwrap().attempt, 3);
}

#[test]
fn what_is_to_be_alone_waits_for_a_response_of_its_own_and_takes_none_of_its_run_along() {
    let mut core =
        core(CoreConfig { deliveries_max: Some(2), ..config(Ordering::Key, false) }, &[Some(1), Some(1)]);
    deliver(&mut core, at(0), 1, 1);
    core.tick(at(30));
    assert_eq!(take(&mut core, true), [], "the response holds something");
    assert!(core.has_ready());
    let taken = take(&mut core, false);
    assert_eq!((taken.len(), taken[0].alone, taken[0].ticket.offset), (1, true, 0));
    assert_eq!(core.deliver(at(30), taken[0].ticket, None, true), None, "it came to hold something");
    assert_eq!(take(&mut core, false).len(), 1);
}

#[test]
fn a_failure_that_somebody_told_of_makes_no_event_go_alone() {
    let mut core =
        core(CoreConfig { deliveries_max: Some(2), ..config(Ordering::None, false) }, &[None, None]);
    let out = deliver(&mut core, at(0), 1, 1);
    let after = Some(Duration::ZERO);
    core.decide(at(0), out[0].lease, Decision::Retry { after, failure: Failure::new("test", "") });
    assert_eq!(deliver(&mut core, at(0), 9, 1).len(), 2);
}

#[test]
fn only_attempts_of_undecided_events_are_told() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 0, 1);
    core.with_progress(std::iter::once(2..3).collect(), [(0, 1), (1, 1), (2, 1), (4, 1)].into());
    let passed_over = Incoming { passed_over: true, ..incoming(1, None) };
    core.fetched(at(0), vec![incoming(0, None), passed_over, incoming(2, None), incoming(5, None)], 6);
    assert_eq!(core.attempts().keys().copied().collect::<Vec<_>>(), [0, 4], "nobody knows of 4 yet");
    let out = deliver(&mut core, at(0), 9, 1);
    core.decide(at(0), out[0].lease, Decision::Ack);
    assert!(core.attempts().is_empty(), "there is no event at 4");
}

#[test]
fn attempts_go_on_from_those_before_and_one_delivery_is_always_left() {
    for (before, first) in [(0, 1), (1, 2), (2, 3), (3, 3), (u32::MAX, 3)] {
        let config = CoreConfig { deliveries_max: Some(3), ..config(Ordering::None, false) };
        let mut core = core(config, &[None]);
        let (mut now, mut attempts) = (0, Vec::new());
        while effects(&mut core).is_empty() {
            core.tick(at(now));
            // What is on its last attempt goes out by itself, at its next turn.
            for Taken { ticket, .. } in take(&mut core, false) {
                let counted = core.tried_before(ticket, before);
                assert_eq!(counted, before.min(2));
                if let Some(out) = core.deliver(at(now), ticket, None, false) {
                    attempts.push(out.attempt);
                    let failure = Failure::new("test", "");
                    core.decide(at(now), out.lease, Decision::Retry { after: None, failure });
                }
            }
            now += 100;
            assert!(now < 10_000, "it comes to its end");
        }
        assert_eq!(attempts, (first..=3).collect::<Vec<_>>(), "{before} before");
    }
}
