//! What a core promises, case by case; [`model`] goes through random ones.

mod model;

use super::*;
use ports::{Record, StoredRecord};
use std::time::Duration;

const ACK_TIMEOUT: Duration = Duration::from_millis(100);
const BUFFER_EVENTS_MAX: usize = 40;

fn config(ordering: Ordering) -> CoreConfig {
    CoreConfig {
        ordering,
        ack_timeout: ACK_TIMEOUT,
        buffer_events_max: BUFFER_EVENTS_MAX,
        buffer_bytes_max: 1 << 20,
    }
}

fn record(offset: Offset) -> StoredRecord {
    StoredRecord {
        offset,
        record: Record { value: Some(offset.to_be_bytes().to_vec().into()), ..Record::default() },
    }
}

fn at(ms: u64) -> Monotonic {
    Monotonic(Duration::from_millis(ms))
}

fn filled(ordering: Ordering, count: u64) -> (PartitionCore, Vec<Delivery>) {
    let mut core = PartitionCore::new(config(ordering), 1, 0);
    core.fetched((0..count).map(record).collect(), count);
    let mut out = Vec::new();
    core.take(at(0), count as usize, usize::MAX, &mut out);
    (core, out)
}

#[test]
fn a_lapse_in_a_run_takes_the_later_ones_back_and_counts_only_its_own_attempt() {
    let (mut core, out) = filled(Ordering::Partition, 3);
    assert!(!core.has_ready());
    assert_eq!(core.decide(at(10), out[0].lease, Decision::Ack), Status::Ok);
    // The clock of the second began at 10.
    assert_eq!(core.next_timeout(), Some(at(110)));
    core.tick(at(110));
    assert_eq!(core.decide(at(111), out[2].lease, Decision::Ack), Status::Superseded);
    let mut again = Vec::new();
    core.take(at(120), 10, usize::MAX, &mut again);
    assert_eq!(again.iter().map(|d| (d.lease.offset, d.attempt)).collect::<Vec<_>>(), [(1, 2), (2, 1)]);
}

#[test]
fn a_run_is_over_when_each_of_it_is_decided_in_whatever_order() {
    let (mut core, out) = filled(Ordering::Partition, 4);
    core.fetched(vec![record(4)], 5);
    for place in [2, 1, 3] {
        assert_eq!(core.decide(at(1), out[place].lease, Decision::Ack), Status::Ok);
        assert!(!core.has_ready());
    }
    assert_eq!((core.in_flight(), core.committable(), core.next_timeout()), (1, 0, Some(at(100))));
    assert_eq!(core.decide(at(2), out[0].lease, Decision::Ack), Status::Ok);
    assert!(core.has_ready());
    assert_eq!((core.committable(), core.next_timeout()), (4, None));
}

#[test]
fn after_a_revocation_nothing_goes_out_and_what_was_done_is_still_to_be_committed() {
    let (mut core, out) = filled(Ordering::None, 4);
    core.decide(at(1), out[0].lease, Decision::Ack);
    core.decide(at(1), out[2].lease, Decision::Ack);
    core.revoke();
    core.fetched(vec![record(4)], 5);
    for (place, decision) in [(0, Decision::Ack), (1, Decision::Ack), (3, Decision::Release)] {
        assert_eq!(core.decide(at(2), out[place].lease, decision), Status::Expired);
    }
    core.tick(at(1_000));
    assert_eq!(core.take(at(1_000), 10, usize::MAX, &mut Vec::new()), 0);
    assert_eq!((core.in_flight(), core.next_timeout(), core.room()), (0, None, (0, 0)));
    assert_eq!(core.committable(), 1);
    assert_eq!(core.done_beyond().collect::<Vec<_>>(), std::iter::once(2..3).collect::<Vec<_>>());
}

#[test]
fn a_late_acknowledgement_counts_while_the_event_is_not_out_again() {
    let (mut core, out) = filled(Ordering::None, 2);
    core.tick(at(100));
    assert_eq!(core.decide(at(101), out[0].lease, Decision::Ack), Status::Ok);
    let mut again = Vec::new();
    core.take(at(102), 10, usize::MAX, &mut again);
    assert_eq!(core.decide(at(103), out[1].lease, Decision::Ack), Status::Expired);
    assert_eq!(core.decide(at(103), again[0].lease, Decision::Ack), Status::Ok);
    assert_eq!(core.committable(), 2);
}

#[test]
fn a_lease_of_another_session_or_one_never_given_decides_nothing() {
    let (mut core, out) = filled(Ordering::None, 1);
    let mut foreign = out[0].lease;
    foreign.id.session = 2;
    assert_eq!(core.decide(at(0), foreign, Decision::Ack), Status::Expired);
    let mut future = out[0].lease;
    future.id.number = 99;
    assert_eq!(core.decide(at(0), future, Decision::Ack), Status::Unknown);
    let beyond = Lease { offset: 77, ..out[0].lease };
    assert_eq!(core.decide(at(0), beyond, Decision::Ack), Status::Unknown);
    assert_eq!(core.committable(), 0);
}

#[test]
fn a_take_is_bounded_in_bytes_but_gives_at_least_one() {
    let mut core = PartitionCore::new(config(Ordering::None), 1, 0);
    core.fetched((0..4).map(record).collect(), 4);
    let size = record(0).record.size();
    let mut out = Vec::new();
    assert_eq!(core.take(at(0), 10, 1, &mut out), 1);
    assert_eq!(core.take(at(0), 10, 2 * size, &mut out), 2);
    assert_eq!(core.room().0, 36);
}

#[test]
fn what_was_done_before_is_not_delivered_and_a_map_from_elsewhere_hides_nothing_before_the_start() {
    let mut core = PartitionCore::new(config(Ordering::None), 1, 10);
    core.with_done([0..5, 11..13, 14..15].into_iter().collect());
    core.fetched((10..16).map(record).collect(), 16);
    let mut out = Vec::new();
    core.take(at(0), 10, usize::MAX, &mut out);
    assert_eq!(out.iter().map(|d| d.lease.offset).collect::<Vec<_>>(), [10, 13, 15]);
    core.decide(at(0), out[0].lease, Decision::Ack);
    assert_eq!(core.committable(), 13);
}

#[test]
fn the_end_of_a_run_that_was_not_read_yet_is_not_taken_for_done() {
    let mut core = PartitionCore::new(config(Ordering::None), 1, 0);
    core.with_done(std::iter::once(5..8).collect());
    core.fetched((0..2).map(record).collect(), 2);
    let mut out = Vec::new();
    core.take(at(0), 10, usize::MAX, &mut out);
    core.decide(at(0), out[1].lease, Decision::Ack);
    let done: DoneSet = core.done_beyond().collect();
    assert!(done.contains(1) && !done.contains(2) && !done.contains(4) && done.contains(5));
}
