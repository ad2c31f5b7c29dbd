//! Leases that are over, made up or another's; what one session leaves to the next; what is given up.

use super::*;

#[test]
fn a_lease_of_another_session_or_one_that_was_never_given_decides_nothing() {
    let mut core = core(config(Ordering::None, false), &[None; 3]);
    let lease = deliver(&mut core, at(0), 1, 1)[0].lease;
    let mut taken = Vec::new();
    core.take(1, 1, usize::MAX, false, &mut taken);
    core.unreserve(taken[0].ticket, None);
    let with = |number, offset| Lease { id: LeaseId { number, ..lease.id }, offset };
    let foreign = Lease { id: LeaseId { session: 8, ..lease.id }, ..lease };
    let expected = [
        (foreign, Status::Expired),
        (with(99, 0), Status::Unknown),
        (with(1, 77), Status::Unknown),
        // No lease has this number, and no event that was never out has any.
        (with(0, 2), Status::Unknown),
        (with(0, 1), Status::Unknown),
        // A lease of another event, and a reservation that did not become one.
        (with(1, 2), Status::Expired),
        (with(2, 1), Status::Expired),
    ];
    for (lease, status) in expected {
        assert_eq!(core.decide(at(0), lease, Decision::Ack), Some(status), "{lease:?}");
        core.give_back(lease);
    }
    assert_eq!((core.committable(), core.in_flight()), (0, 1));
    assert!(core.done_beyond().is_empty());
}

#[test]
fn late_is_ok_while_the_event_is_not_out_again_and_twice_is_ok() {
    let mut core = core(config(Ordering::None, false), &[None, None]);
    let out = deliver(&mut core, at(0), 2, 1);
    core.tick(at(30));
    assert_eq!(
        core.decide(at(31), out[0].lease, retry()),
        Some(Status::Expired),
        "only what is done is ok late"
    );
    for _ in 0..2 {
        assert_eq!(core.decide(at(31), out[0].lease, Decision::Ack), Some(Status::Ok));
    }
    let again = deliver(&mut core, at(32), 9, 1);
    assert_eq!(core.decide(at(33), out[1].lease, Decision::Ack), Some(Status::Expired));
    assert_eq!(core.decide(at(33), again[0].lease, Decision::Ack), Some(Status::Ok));
    assert_eq!((core.committable(), core.counters().done), (2, 2));
}

#[test]
fn after_a_revocation_nothing_goes_out_and_nothing_changes_what_is_to_be_committed() {
    let mut core = core(config(Ordering::None, false), &[None; 6]);
    let out = deliver(&mut core, at(0), 4, 1);
    for place in [0, 2] {
        core.decide(at(1), out[place].lease, Decision::Ack);
    }
    let mut taken = Vec::new();
    core.take(1, 1, usize::MAX, false, &mut taken);
    core.revoke();
    for place in [0, 1, 3] {
        assert_eq!(core.decide(at(2), out[place].lease, Decision::Ack), Some(Status::Expired));
    }
    core.fetched(at(2), vec![incoming(6, None)], 7);
    assert!(!core.skip(at(2), 1));
    assert_eq!(core.skip_to(at(2), 5), 0);
    core.done_elsewhere(at(2), 1);
    core.freed_elsewhere(1, at(3).steady);
    core.tick(at(1_000));
    assert_eq!(core.deliver(at(1_000), taken[0].ticket, None, false), None);
    assert_eq!(deliver(&mut core, at(1_000), 9, 1), []);
    assert_eq!((core.in_flight(), core.next_timeout(), core.room(), core.position()), (0, None, (0, 0), 6));
    assert_eq!(core.committable(), 1);
    assert_eq!(core.done_beyond().ranges().collect::<Vec<_>>(), std::iter::once(2..3).collect::<Vec<_>>());
}

#[test]
fn what_is_skipped_is_done_and_the_clock_of_the_next_of_its_run_starts() {
    let mut core = core(config(Ordering::Partition, false), &[None, None]);
    let out = deliver(&mut core, at(0), 9, 1);
    assert!(core.skip(at(10), 0));
    assert!(!core.skip(at(10), 0) && !core.skip(at(10), 2), "there is none");
    assert_eq!((core.committable(), core.next_timeout()), (1, Some(at(40).steady)));
    assert_eq!(core.decide(at(11), out[0].lease, retry()), Some(Status::Expired));
    assert_eq!(core.decide(at(11), out[1].lease, Decision::Ack), Some(Status::Ok));
    assert_eq!(core.committable(), 2);
}

#[test]
fn skipping_what_the_log_deleted_counts_what_was_neither_done_nor_out_at_a_client() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 0, 1);
    core.with_progress(std::iter::once(7..9).collect(), BTreeMap::new());
    core.fetched(at(0), (0..6).map(|offset| incoming(offset, None)).collect(), 6);
    let out = deliver(&mut core, at(0), 2, 1);
    core.decide(at(0), out[1].lease, Decision::Ack);
    let mut reserved = Vec::new();
    core.take(1, 1, usize::MAX, false, &mut reserved);
    // 0 is out, 1 is done, 2 is being claimed; 3 to 5 are ready, 6 and 9 not read, 7 and 8 done before.
    assert_eq!(core.skip_to(at(0), 10), 6);
    assert_eq!(core.deliver(at(0), reserved[0].ticket, None, false), None);
    assert_eq!((core.committable(), core.position(), core.in_flight()), (10, 10, 0));
    assert!(core.done_beyond().is_empty());
    assert_eq!(deliver(&mut core, at(0), 9, 1), []);
    assert_eq!(core.decide(at(0), out[0].lease, Decision::Ack), Some(Status::Ok));
}

#[test]
fn what_a_lease_of_an_earlier_session_did_is_done_unless_it_is_out_again() {
    let mut core = core(config(Ordering::None, true), &[None; 3]);
    let out = deliver(&mut core, at(0), 1, 1);
    core.done_elsewhere(at(0), 0);
    assert_eq!((core.committable(), core.in_flight()), (0, 1), "it goes on, and will be fenced");
    core.done_elsewhere(at(0), 1);
    // Not read yet.
    core.done_elsewhere(at(0), 4);
    core.fetched(at(0), (3..6).map(|offset| incoming(offset, None)).collect(), 6);
    let rest = deliver(&mut core, at(0), 9, 1);
    let all: Vec<_> = offsets(&out).into_iter().chain(offsets(&rest)).collect();
    assert_eq!(all, [0, 2, 3, 5]);
}

#[test]
fn what_an_earlier_session_gave_up_waits_for_its_delay_whether_it_was_held_or_ready() {
    let mut core = core(config(Ordering::Key, true), &[Some(1), Some(1), Some(2)]);
    let mut taken = Vec::new();
    core.take(1, 1, usize::MAX, false, &mut taken);
    core.held_elsewhere(taken[0].ticket, at(600).steady);
    core.freed_elsewhere(0, at(5).steady);
    core.freed_elsewhere(2, at(7).steady);
    assert_eq!(deliver(&mut core, at(0), 9, 1), []);
    assert_eq!((core.held(), core.next_timeout()), (3, Some(at(5).steady)));
    core.tick(at(5));
    assert_eq!(offsets(&deliver(&mut core, at(5), 9, 1)), [0, 1]);
    core.tick(at(7));
    assert_eq!(offsets(&deliver(&mut core, at(7), 9, 1)), [2]);
    core.freed_elsewhere(2, at(600).steady);
    assert_eq!(core.in_flight(), 3, "what is out stays out");
}

#[test]
fn what_was_done_before_is_not_delivered_and_a_map_from_elsewhere_hides_nothing_before_the_start() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 10, 1);
    core.with_progress([0..5, 11..13, 14..15].into_iter().collect(), [(3, 1)].into());
    assert!(core.attempts().is_empty());
    core.fetched(at(0), (10..16).map(|offset| incoming(offset, None)).collect(), 16);
    let out = deliver(&mut core, at(0), 9, 1);
    assert_eq!(offsets(&out), [10, 13, 15]);
    core.decide(at(0), out[0].lease, Decision::Ack);
    assert_eq!(core.committable(), 13);
}

#[test]
fn the_end_of_an_interval_that_was_not_read_yet_is_not_taken_for_done() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 0, 1);
    core.with_progress(std::iter::once(5..8).collect(), BTreeMap::new());
    core.fetched(at(0), vec![incoming(0, None), incoming(1, None)], 2);
    let out = deliver(&mut core, at(0), 9, 1);
    core.decide(at(0), out[1].lease, Decision::Ack);
    let done = core.done_beyond();
    assert!(done.contains(1) && !done.contains(2) && !done.contains(4) && done.contains(5));
}
