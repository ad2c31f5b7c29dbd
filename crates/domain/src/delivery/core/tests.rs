//! The core beside a model of it that is slow and obvious: a list of events that is searched for every
//! answer. Random steps must give the same deliveries and statuses, and never break an invariant.

use super::*;
use crate::delivery::commit_map;
use ports::Record;
use proptest::prelude::*;
use std::collections::HashMap;

const ACK_TIMEOUT: Duration = Duration::from_millis(100);

fn config(ordering: Ordering) -> CoreConfig {
    CoreConfig { ordering, ack_timeout: ACK_TIMEOUT, buffer_events_max: 40, buffer_bytes_max: 1 << 20 }
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

#[derive(Clone, Debug)]
enum Step {
    /// So many events, each so far behind the one before.
    Fetch(Vec<u64>),
    Take(usize),
    Ack(prop::sample::Index),
    Release(prop::sample::Index),
    GiveBack(prop::sample::Index),
    Extend(prop::sample::Index, u64),
    Pass(u64),
    Skip(u64),
    Restart {
        keep_done: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        3 => prop::collection::vec(prop_oneof![8 => Just(1_u64), 1 => 2_u64..5], 1..8).prop_map(Step::Fetch),
        6 => (1_usize..6).prop_map(Step::Take),
        8 => index().prop_map(Step::Ack),
        2 => index().prop_map(Step::Release),
        1 => index().prop_map(Step::GiveBack),
        2 => (index(), 1_u64..300).prop_map(|(index, by)| Step::Extend(index, by)),
        3 => (1_u64..160).prop_map(Step::Pass),
        1 => (0_u64..6).prop_map(Step::Skip),
        1 => any::<bool>().prop_map(|keep_done| Step::Restart { keep_done }),
    ];
    prop::collection::vec(step, 1..120)
}

/// One event of the model.
#[derive(Debug)]
struct Event {
    offset: Offset,
    done: bool,
    attempts: u32,
    last_lease: Option<Lease>,
    superseded: bool,
    out: Option<Out>,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    run: u64,
    /// None while it waits behind another of its run.
    deadline: Option<Monotonic>,
    extended: Option<Monotonic>,
}

#[derive(Debug)]
struct Model {
    ordered: bool,
    events: Vec<Event>,
    now: Monotonic,
}

impl Model {
    fn find(&mut self, offset: Offset) -> Option<&mut Event> {
        self.events.iter_mut().find(|event| event.offset == offset)
    }

    fn undecided(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !event.done)
    }

    /// The offsets that a take gives.
    fn next(&self, max: usize) -> Vec<Offset> {
        if self.ordered && self.undecided().any(|event| event.out.is_some()) {
            return Vec::new();
        }
        self.undecided().filter(|event| event.out.is_none()).take(max).map(|event| event.offset).collect()
    }

    fn decide(&mut self, lease: Lease, decision: Decision) -> Status {
        let now = self.now;
        let Some(event) = self.find(lease.offset) else { return Status::Expired };
        if event.done {
            return if decision == Decision::Ack { Status::Ok } else { Status::Expired };
        }
        if event.last_lease != Some(lease) {
            return Status::Expired;
        }
        if event.superseded {
            return Status::Superseded;
        }
        match (event.out, decision) {
            (_, Decision::Ack) => {
                event.done = true;
                event.out = None;
            }
            (None, _) => return Status::Expired,
            (Some(_), Decision::Release) => self.back(lease.offset),
            (Some(out), Decision::Extend(by)) => {
                event.out = Some(match out.deadline {
                    Some(_) => Out { deadline: Some(now + by), ..out },
                    None => Out { extended: Some(now + by), ..out },
                });
            }
        }
        self.head();
        Status::Ok
    }

    /// The first of a run has its clock running.
    fn head(&mut self) {
        let now = self.now;
        if self.ordered
            && let Some(event) = self.events.iter_mut().find(|event| event.out.is_some())
            && let Some(out) = &mut event.out
            && out.deadline.is_none()
        {
            out.deadline = Some((now + ACK_TIMEOUT).max(out.extended.unwrap_or_default()));
        }
    }

    fn back(&mut self, offset: Offset) {
        let ordered = self.ordered;
        for event in &mut self.events {
            if event.offset == offset {
                event.out = None;
            } else if ordered && event.offset > offset && event.out.is_some() {
                event.out = None;
                event.superseded = true;
            }
        }
    }

    fn tick(&mut self) {
        loop {
            let now = self.now;
            let due = |event: &&mut Event| event.out.and_then(|out| out.deadline).is_some_and(|at| at <= now);
            let Some(event) =
                self.events.iter_mut().filter(due).min_by_key(|event| event.out.unwrap().deadline)
            else {
                return;
            };
            event.attempts += 1;
            let offset = event.offset;
            self.back(offset);
            self.head();
        }
    }

    fn next_timeout(&self) -> Option<Monotonic> {
        self.events.iter().filter_map(|event| event.out.and_then(|out| out.deadline)).min()
    }
}

fn run(ordering: Ordering, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let ordered = ordering != Ordering::None;
    let mut session = 1;
    let mut core = PartitionCore::new(config(ordering), session, 0);
    let mut model = Model { ordered, events: Vec::new(), now: Monotonic::default() };
    let mut issued: Vec<Lease> = Vec::new();
    let mut log: Vec<Offset> = Vec::new();
    let mut end = 0;
    let mut committed = 0;
    for step in steps {
        match step {
            Step::Fetch(gaps) => {
                let mut records = Vec::new();
                for gap in gaps.into_iter().take(core.room().0) {
                    // What is in the log, and was read before a restart, comes first.
                    let offset = log.iter().copied().find(|offset| {
                        *offset
                            >= core.position().max(records.last().map_or(0, |r: &StoredRecord| r.offset + 1))
                    });
                    let offset = offset.unwrap_or_else(|| {
                        end += gap;
                        log.push(end - 1);
                        end - 1
                    });
                    records.push(record(offset));
                    if model.find(offset).is_none() {
                        model.events.push(Event {
                            offset,
                            done: false,
                            attempts: 0,
                            last_lease: None,
                            superseded: false,
                            out: None,
                        });
                    }
                }
                let next = records.last().map_or(core.position(), |record| record.offset + 1);
                core.fetched(records, next);
            }
            Step::Take(max) => {
                let mut out = Vec::new();
                prop_assert_eq!(core.has_ready(), !model.next(1).is_empty());
                core.take(model.now, max, usize::MAX, &mut out);
                let offsets: Vec<_> = out.iter().map(|delivery| delivery.lease.offset).collect();
                prop_assert_eq!(&offsets, &model.next(max));
                let now = model.now;
                let mut turn = 0;
                for delivery in out {
                    turn = if ordered { turn + 1 } else { 1 };
                    prop_assert_eq!(delivery.deadline, now + ACK_TIMEOUT * turn);
                    prop_assert_eq!(&delivery.record, &record(delivery.lease.offset));
                    issued.push(delivery.lease);
                    let event = model.find(delivery.lease.offset).unwrap();
                    prop_assert_eq!(delivery.attempt, event.attempts + 1);
                    event.last_lease = Some(delivery.lease);
                    event.superseded = false;
                    event.out = Some(Out {
                        run: delivery.run,
                        deadline: (turn == 1).then_some(now + ACK_TIMEOUT),
                        extended: None,
                    });
                }
            }
            Step::Ack(index) if !issued.is_empty() => {
                let lease = *index.get(&issued);
                let status = if lease.id.session == session {
                    model.decide(lease, Decision::Ack)
                } else {
                    Status::Expired
                };
                prop_assert_eq!(core.decide(model.now, lease, Decision::Ack), status);
            }
            Step::Release(index) if !issued.is_empty() => {
                let lease = *index.get(&issued);
                let status = if lease.id.session == session {
                    model.decide(lease, Decision::Release)
                } else {
                    Status::Expired
                };
                prop_assert_eq!(core.decide(model.now, lease, Decision::Release), status);
            }
            Step::GiveBack(index) if !issued.is_empty() => {
                let lease = *index.get(&issued);
                if lease.id.session == session {
                    model.decide(lease, Decision::Release);
                }
                core.give_back(model.now, lease);
            }
            Step::Extend(index, by) if !issued.is_empty() => {
                let lease = *index.get(&issued);
                let decision = Decision::Extend(Duration::from_millis(by));
                let status =
                    if lease.id.session == session { model.decide(lease, decision) } else { Status::Expired };
                prop_assert_eq!(core.decide(model.now, lease, decision), status);
            }
            Step::Pass(ms) => {
                model.now = model.now + Duration::from_millis(ms);
                model.tick();
                core.tick(model.now);
            }
            Step::Skip(by) => {
                let to = core.committable() + by;
                end = end.max(to);
                let lost = core.skip_to(model.now, to);
                let before = model
                    .events
                    .iter()
                    .filter(|event| event.offset < to && !event.done && event.out.is_none())
                    .count() as u64;
                prop_assert!(lost >= before, "lost {lost}, at least {before}");
                for event in model.events.iter_mut().filter(|event| event.offset < to) {
                    event.done = true;
                    event.out = None;
                }
                model.head();
            }
            Step::Restart { keep_done } => {
                session += 1;
                let next = core.committable();
                let map = commit_map::encode(7, next, core.done_beyond());
                prop_assert!(map.len() <= commit_map::BYTES_MAX);
                core = PartitionCore::new(config(ordering), session, next);
                if keep_done {
                    core.with_done(commit_map::decode(&map, 7, next).unwrap());
                }
                for event in &mut model.events {
                    event.out = None;
                    event.attempts = 0;
                    event.last_lease = None;
                    event.superseded = false;
                }
                if !keep_done {
                    // A crash before the map was committed: what was done beyond the prefix comes again.
                    model
                        .events
                        .iter_mut()
                        .filter(|event| event.offset >= next)
                        .for_each(|event| event.done = false);
                }
                // What was read and is not done is read again, before anything else happens.
                let again: Vec<_> =
                    log.iter().filter(|offset| **offset >= next).map(|offset| record(*offset)).collect();
                let position = log.last().map_or(next, |last| last + 1).max(next);
                core.fetched(again, position);
            }
            Step::Ack(_) | Step::Release(_) | Step::GiveBack(_) | Step::Extend(..) => {}
        }
        // 1. Prefix.
        let first = model.undecided().map(|event| event.offset).min();
        prop_assert_eq!(core.committable(), first.unwrap_or(core.position()));
        prop_assert!(core.committable() >= committed);
        committed = core.committable();
        // 2 and 5. Out, and the timeouts.
        prop_assert_eq!(core.in_flight(), model.events.iter().filter(|event| event.out.is_some()).count());
        prop_assert_eq!(core.next_timeout(), model.next_timeout());
        // 3. What is done beyond the prefix is exactly what is said.
        let done: DoneSet = core.done_beyond().collect();
        for event in &model.events {
            if event.offset >= committed && event.offset < core.position() {
                prop_assert_eq!(done.contains(event.offset), event.done, "offset {}", event.offset);
            }
        }
        // 4. With an order there is one run, and it is the beginning of what is undecided, those done apart.
        if ordered {
            let runs: BTreeSet<_> =
                model.events.iter().filter_map(|event| event.out.map(|out| out.run)).collect();
            prop_assert!(runs.len() <= 1);
            let out: Vec<_> = model.undecided().map(|event| event.out.is_some()).collect();
            prop_assert!(out.is_sorted_by(|one, next| one >= next), "{:?}", out);
        }
        // 6. Bounded.
        prop_assert!(core.done_beyond().count() <= model.undecided().count() + 1);
        prop_assert!(core.undecided.len() <= 40 + 120);
    }
    // 5. Given time, everything that is undecided goes out and can be done.
    let mut seen: HashMap<Offset, u32> = HashMap::new();
    while core.undecided.values().next().is_some() {
        let mut out = Vec::new();
        model.now = model.now + Duration::from_secs(3600);
        core.tick(model.now);
        prop_assert!(core.take(model.now, 10, usize::MAX, &mut out) > 0, "stuck: {:?}", core);
        for delivery in out {
            *seen.entry(delivery.lease.offset).or_default() += 1;
            prop_assert_eq!(core.decide(model.now, delivery.lease, Decision::Ack), Status::Ok);
        }
    }
    prop_assert!(seen.values().all(|count| *count == 1));
    prop_assert_eq!(core.committable(), core.position());
    prop_assert_eq!((core.in_flight(), core.bytes, core.next_timeout()), (0, 0, None));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn without_order_it_does_what_the_model_does(steps in steps()) {
        run(Ordering::None, steps)?;
    }

    #[test]
    fn with_the_order_of_the_partition_it_does_what_the_model_does(steps in steps()) {
        run(Ordering::Partition, steps)?;
    }
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
