//! What keeps its order, and what is taken back with what.

use super::*;

const RELEASE: Decision = Decision::Release { after: Duration::ZERO };

/// A run of three, out.
fn run_of_three() -> (PartitionCore, Vec<Delivery>) {
    let mut core = core(config(Ordering::Partition, false), &[None; 3]);
    let out = deliver(&mut core, at(0), 3, 1);
    assert_eq!(offsets(&out), [0, 1, 2]);
    (core, out)
}

fn reject() -> Decision {
    Decision::Reject { failure: Failure::new("test", "never") }
}

#[test]
fn the_clock_of_an_event_starts_when_the_one_before_it_in_its_run_is_decided() {
    let (mut core, out) = run_of_three();
    let deadlines: Vec<_> = out.iter().map(|delivery| delivery.deadline).collect();
    assert_eq!(deadlines, [at(30), at(60), at(90)].map(|at| at.steady), "the latest that it can be");
    assert_eq!(core.next_timeout(), Some(at(30).steady));
    core.decide(at(10), out[0].lease, Decision::Ack);
    assert_eq!(core.next_timeout(), Some(at(40).steady));
    // The last is decided before its turn, so the run ends with the second.
    core.decide(at(20), out[2].lease, Decision::Ack);
    assert_eq!(core.next_timeout(), Some(at(40).steady));
    core.decide(at(30), out[1].lease, Decision::Ack);
    assert_eq!((core.next_timeout(), core.committable()), (None, 3));
}

#[test]
fn a_lapse_takes_the_later_ones_of_its_run_back_and_counts_only_its_own_attempt() {
    let (mut core, out) = run_of_three();
    core.decide(at(10), out[0].lease, Decision::Ack);
    core.tick(at(40));
    assert_eq!(core.decide(at(41), out[2].lease, Decision::Ack), Some(Status::Superseded));
    let again = deliver(&mut core, at(41), 9, 1);
    let attempts: Vec<_> = again.iter().map(|delivery| (delivery.lease.offset, delivery.attempt)).collect();
    assert_eq!(attempts, [(1, 2), (2, 1)]);
}

#[test]
fn a_release_and_a_give_back_take_the_later_ones_back_and_count_nothing() {
    for give_back in [false, true] {
        let (mut core, out) = run_of_three();
        if give_back {
            core.give_back(out[1].lease);
        } else {
            assert_eq!(core.decide(at(1), out[1].lease, RELEASE), Some(Status::Ok));
        }
        assert_eq!((core.in_flight(), core.has_ready()), (1, false), "the first is out still");
        assert_eq!(core.decide(at(2), out[2].lease, Decision::Ack), Some(Status::Superseded));
        assert_eq!(core.decide(at(2), out[0].lease, Decision::Ack), Some(Status::Ok));
        let again = deliver(&mut core, at(3), 9, 1);
        assert_eq!(offsets(&again), [1, 2]);
        assert!(again.iter().all(|delivery| delivery.attempt == 1));
        assert!(core.attempts().is_empty());
    }
}

#[test]
fn whatever_is_said_of_what_was_taken_back_is_superseded_and_changes_nothing() {
    let (mut core, out) = run_of_three();
    core.decide(at(0), out[0].lease, Decision::Retry { after: None, failure: Failure::new("test", "") });
    let decisions = [Decision::Ack, retry(), reject(), RELEASE, Decision::Extend(TIMEOUT)];
    for decision in decisions {
        assert_eq!(core.decide(at(1), out[1].lease, decision), Some(Status::Superseded));
    }
    assert_eq!((core.committable(), core.in_flight(), core.counters().failed), (0, 0, 1));
    assert_eq!(effects(&mut core), []);
    core.tick(at(5));
    assert_eq!(offsets(&deliver(&mut core, at(5), 9, 1)), [0, 1, 2]);
    assert_eq!(core.decide(at(6), out[1].lease, Decision::Ack), Some(Status::Expired), "it came again");
}

#[test]
fn a_rejected_event_of_a_run_takes_nothing_back() {
    let (mut core, out) = run_of_three();
    assert_eq!(core.decide(at(0), out[0].lease, reject()), None);
    assert_eq!(core.decide(at(0), out[1].lease, Decision::Ack), Some(Status::Ok));
    assert_eq!(core.decide(at(0), out[2].lease, Decision::Ack), Some(Status::Ok));
    assert_eq!(core.committable(), 0, "its dead letter is not kept yet");
}

#[test]
fn the_next_run_goes_out_when_each_of_the_one_before_is_decided_in_whatever_order() {
    let mut core = core(
        CoreConfig { run_max: 3, ..config(Ordering::Key, false) },
        &[Some(1), Some(1), Some(1), Some(1)],
    );
    let out = deliver(&mut core, at(0), 9, 1);
    assert_eq!(offsets(&out), [0, 1, 2], "no more than a run's most");
    for nth in [2, 0] {
        core.decide(at(1), out[nth].lease, Decision::Ack);
        assert_eq!(deliver(&mut core, at(1), 9, 1), []);
    }
    core.decide(at(1), out[1].lease, Decision::Ack);
    let next = deliver(&mut core, at(1), 9, 1);
    assert_eq!(offsets(&next), [3]);
    assert_ne!(next[0].run, out[0].run);
}

#[test]
fn an_extension_counts_from_now_and_for_one_that_waits_from_its_turn_if_that_is_longer() {
    let (mut core, out) = run_of_three();
    let extend = |seconds| Decision::Extend(Duration::from_secs(seconds));
    assert_eq!(core.decide(at(20), out[0].lease, extend(60)), Some(Status::Ok));
    assert_eq!(core.next_timeout(), Some(at(80).steady));
    assert_eq!(core.decide(at(20), out[1].lease, extend(200)), Some(Status::Ok));
    assert_eq!(core.decide(at(20), out[2].lease, extend(10)), Some(Status::Ok));
    assert_eq!(core.next_timeout(), Some(at(80).steady), "those that wait have no clock");
    core.decide(at(50), out[0].lease, Decision::Ack);
    assert_eq!(core.next_timeout(), Some(at(220).steady));
    core.decide(at(60), out[1].lease, Decision::Ack);
    assert_eq!(core.next_timeout(), Some(at(90).steady));
}

#[test]
fn what_did_not_go_out_keeps_those_behind_it_in_its_run_back() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(1), Some(2)]);
    let mut taken = Vec::new();
    core.take(9, usize::MAX, usize::MAX, false, &mut taken);
    core.unreserve(taken[0].ticket, None);
    assert!(!core.has_ready(), "another of its run is being claimed");
    assert_eq!(core.deliver(at(0), taken[1].ticket, None, false), None);
    let other = core.deliver(at(0), taken[2].ticket, None, false).unwrap();
    assert_eq!(other.lease.offset, 2, "another key goes on");
    let out = deliver(&mut core, at(0), 9, 1);
    assert_eq!((offsets(&out), out[0].attempt), (vec![0, 1], 1));
}

#[test]
fn events_without_a_key_wait_for_none_and_with_the_order_of_the_partition_each_waits_for_all() {
    for (ordering, next) in
        [(Ordering::Key, vec![1, 2]), (Ordering::None, vec![1, 2]), (Ordering::Partition, vec![])]
    {
        let mut core = core(config(ordering, false), &[None; 3]);
        let out = deliver(&mut core, at(0), 1, 1);
        core.decide(at(0), out[0].lease, retry());
        assert_eq!(offsets(&deliver(&mut core, at(0), 9, 1)), next, "{ordering:?}");
    }
}

#[test]
fn a_key_that_fails_over_and_over_at_once_does_not_keep_others_from_their_turn() {
    let mut core = core(
        CoreConfig { deliveries_max: None, ..config(Ordering::Key, false) },
        &[Some(1), Some(2), Some(3)],
    );
    let mut came = Vec::new();
    for _ in 0..4 {
        let out = deliver(&mut core, at(0), 1, 1);
        came.extend(offsets(&out));
        let after = Some(Duration::ZERO);
        core.decide(at(0), out[0].lease, Decision::Retry { after, failure: Failure::new("test", "") });
    }
    assert_eq!(came, [0, 1, 2, 0]);
}

#[test]
fn what_was_given_back_comes_before_what_was_never_out() {
    let mut core = core(config(Ordering::None, false), &[None; 3]);
    let out = deliver(&mut core, at(0), 1, 1);
    core.give_back(out[0].lease);
    assert_eq!(offsets(&deliver(&mut core, at(0), 1, 1)), [0]);
}
