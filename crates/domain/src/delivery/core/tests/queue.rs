//! Whose turn it is, how much of it there may be, and what a closed intake lets through.

use super::*;

fn take(core: &mut PartitionCore, max: usize, lanes_max: usize, bytes_max: usize) -> Vec<Offset> {
    let mut taken = Vec::new();
    let lanes = core.take(max, lanes_max, bytes_max, false, &mut taken);
    assert!(lanes <= taken.len());
    taken.iter().map(|taken| taken.ticket.offset).collect()
}

#[test]
fn a_take_is_bounded_in_events_lanes_and_bytes_but_gives_at_least_one() {
    let keys = [Some(1), Some(1), Some(2), Some(2), Some(3)];
    let size = incoming(0, None).record.record.size();
    let bounded = |max, lanes_max, bytes_max| {
        take(&mut core(config(Ordering::Key, false), &keys), max, lanes_max, bytes_max)
    };
    assert_eq!(bounded(9, 9, 1), [0]);
    assert_eq!(bounded(9, 9, 3 * size), [0, 1, 2]);
    assert_eq!(bounded(9, 2, usize::MAX), [0, 1, 2, 3]);
    assert_eq!(bounded(3, 9, usize::MAX), [0, 2, 4], "each lane has its share");
    assert!(bounded(0, 9, usize::MAX).is_empty());
    assert!(bounded(9, 0, usize::MAX).is_empty());
}

#[test]
fn with_the_intake_closed_the_first_of_all_goes_on_and_no_other_that_was_never_out() {
    let mut core = core(config(Ordering::Key, false), &[Some(1), Some(1), Some(2), Some(3)]);
    core.set_intake(false);
    for first in 0..4 {
        let out = deliver(&mut core, at(0), 9, 1);
        assert_eq!(offsets(&out), [first], "what keeps everything from being committed");
        assert_eq!(deliver(&mut core, at(0), 9, 1), []);
        core.decide(at(0), out[0].lease, Decision::Ack);
        assert_eq!(core.committable(), first + 1);
    }
}

#[test]
fn with_the_intake_closed_what_was_filtered_out_is_committed_by_and_by() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 0, 1);
    let every_other = |offset| Incoming { passed_over: offset % 2 == 1, ..incoming(offset, None) };
    core.fetched(at(0), (0..100).map(every_other).collect(), 100);
    assert_eq!(core.done_beyond().len(), 50, "nothing was ever out, and yet there is so much to tell");
    core.set_intake(false);
    while let [delivery] = &deliver(&mut core, at(0), 9, 1)[..] {
        core.decide(at(0), delivery.lease, Decision::Ack);
    }
    assert_eq!((core.committable(), core.done_beyond().len()), (100, 0));
}

#[test]
fn lanes_that_were_put_aside_have_their_turn_when_the_intake_is_open_again() {
    let mut core = core(config(Ordering::None, false), &[None; 4]);
    deliver(&mut core, at(0), 1, 1);
    core.set_intake(false);
    assert_eq!(deliver(&mut core, at(0), 9, 1), []);
    assert!(!core.has_ready());
    core.skip(at(0), 2);
    core.set_intake(true);
    assert_eq!(offsets(&deliver(&mut core, at(0), 9, 1)), [1, 3]);
}

#[test]
fn what_goes_without_its_turn_leaves_nothing_in_the_queue() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 0, 1);
    for from in (0..100_000).step_by(100) {
        core.fetched(at(0), (from..from + 100).map(|offset| incoming(offset, None)).collect(), from + 100);
        // Nobody pulls, and the log deletes.
        assert_eq!(core.skip_to(at(0), from + 100), 100);
    }
    assert!(core.lanes.waiting() < 1_000, "{}", core.lanes.waiting());
    core.fetched(at(0), vec![incoming(100_000, None)], 100_001);
    assert_eq!(take(&mut core, 9, 9, usize::MAX), [100_000]);
}

#[test]
fn what_is_done_is_remembered_as_one_interval_more_than_there_are_undecided_events() {
    let mut core = PartitionCore::new(config(Ordering::None, false), 7, 0, 1);
    // Every third offset is none.
    let there = (0..90_u64).filter(|offset| offset % 3 != 2);
    core.fetched(at(0), there.map(|offset| incoming(offset, None)).collect(), 90);
    let out = deliver(&mut core, at(0), 100, 1);
    for delivery in out.iter().skip(1).filter(|delivery| delivery.lease.offset != 45) {
        core.decide(at(0), delivery.lease, Decision::Ack);
    }
    assert_eq!(core.done_beyond().ranges().collect::<Vec<_>>(), [1..44, 46..89]);
}

#[test]
fn an_event_is_not_delivered_before_its_time() {
    let mut core = PartitionCore::new(config(Ordering::Key, false), 7, 0, 1);
    let later = Incoming { not_before: Some(at(60).steady), ..incoming(0, Some(1)) };
    core.fetched(at(0), vec![later, incoming(1, Some(1)), incoming(2, Some(2))], 3);
    assert_eq!(offsets(&deliver(&mut core, at(0), 9, 1)), [2]);
    assert_eq!((core.held(), core.next_timeout()), (2, Some(at(30).steady)));
    core.tick(at(60));
    let out = deliver(&mut core, at(60), 9, 1);
    assert_eq!(out.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>().len(), 3);
}
