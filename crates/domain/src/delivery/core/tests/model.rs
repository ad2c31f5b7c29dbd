//! The core beside a model of it that is slow and obvious: a list of events that is searched for every
//! answer. Random steps must give the same deliveries and statuses, and never break an invariant.

use super::*;
use crate::delivery::commit_map;
use proptest::prelude::*;
use std::collections::HashMap;

const STEPS_MAX: usize = 120;

#[derive(Clone, Debug)]
enum Step {
    /// So many events, each so far behind the one before.
    Fetch(Vec<u64>),
    /// At most so many events, and bytes for so many.
    Take(usize, usize),
    Ack(prop::sample::Index),
    Release(prop::sample::Index),
    GiveBack(prop::sample::Index),
    Extend(prop::sample::Index, u64),
    Pass(u64),
    Skip(u64),
    Revoke,
    Restart {
        keep_done: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let gap = || prop_oneof![8 => Just(1_u64), 1 => 2_u64..5];
    let gaps = prop_oneof![prop::collection::vec(gap(), 1..4), prop::collection::vec(gap(), 1..20)];
    let step = prop_oneof![
        9 => gaps.prop_map(Step::Fetch),
        15 => (1_usize..8, 0_usize..12).prop_map(|(max, bytes)| Step::Take(max, bytes)),
        35 => index().prop_map(Step::Ack),
        5 => index().prop_map(Step::Release),
        3 => index().prop_map(Step::GiveBack),
        5 => (index(), 1_u64..300).prop_map(|(index, by)| Step::Extend(index, by)),
        6 => (1_u64..160).prop_map(Step::Pass),
        2 => (0_u64..6).prop_map(Step::Skip),
        1 => Just(Step::Revoke),
        5 => prop::bool::weighted(0.75).prop_map(|keep_done| Step::Restart { keep_done }),
    ];
    prop::collection::vec(step, 1..STEPS_MAX)
}

/// What decisions are made of: mostly what is out, and some of what was.
fn recent(issued: &[Lease]) -> &[Lease] {
    &issued[issued.len().saturating_sub(12)..]
}

/// One event of the model.
#[derive(Debug)]
struct Event {
    offset: Offset,
    /// Read in this session.
    read: bool,
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
    revoked: bool,
    events: Vec<Event>,
    now: Monotonic,
}

impl Model {
    fn find(&mut self, offset: Offset) -> Option<&mut Event> {
        self.events.iter_mut().find(|event| event.offset == offset)
    }

    fn undecided(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.read && !event.done)
    }

    /// The offsets that a take gives.
    fn next(&self, max: usize) -> Vec<Offset> {
        if self.revoked || self.ordered && self.undecided().any(|event| event.out.is_some()) {
            return Vec::new();
        }
        self.undecided().filter(|event| event.out.is_none()).take(max).map(|event| event.offset).collect()
    }

    fn decide(&mut self, lease: Lease, decision: Decision) -> Status {
        let now = self.now;
        if self.revoked {
            return Status::Expired;
        }
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
    let mut model = Model { ordered, revoked: false, events: Vec::new(), now: Monotonic::default() };
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
                    match model.find(offset) {
                        Some(event) => event.read = true,
                        None => model.events.push(Event {
                            offset,
                            read: true,
                            done: false,
                            attempts: 0,
                            last_lease: None,
                            superseded: false,
                            out: None,
                        }),
                    }
                }
                let next = records.last().map_or(core.position(), |record| record.offset + 1);
                core.fetched(records, next);
            }
            Step::Take(max, bytes) => {
                let mut out = Vec::new();
                prop_assert_eq!(core.has_ready(), !model.next(1).is_empty());
                core.take(model.now, max, bytes * record(0).record.size(), &mut out);
                let offsets: Vec<_> = out.iter().map(|delivery| delivery.lease.offset).collect();
                prop_assert_eq!(&offsets, &model.next(max.min(bytes.max(1))));
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
                let lease = *index.get(recent(&issued));
                let status = if lease.id.session == session {
                    model.decide(lease, Decision::Ack)
                } else {
                    Status::Expired
                };
                prop_assert_eq!(core.decide(model.now, lease, Decision::Ack), status);
            }
            Step::Release(index) if !issued.is_empty() => {
                let lease = *index.get(recent(&issued));
                let status = if lease.id.session == session {
                    model.decide(lease, Decision::Release)
                } else {
                    Status::Expired
                };
                prop_assert_eq!(core.decide(model.now, lease, Decision::Release), status);
            }
            Step::GiveBack(index) if !issued.is_empty() => {
                let lease = *index.get(recent(&issued));
                if lease.id.session == session {
                    model.decide(lease, Decision::Release);
                }
                core.give_back(model.now, lease);
            }
            Step::Extend(index, by) if !issued.is_empty() => {
                let lease = *index.get(recent(&issued));
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
                let unread = core.position()..to.max(core.position());
                let undone = |event: &&Event| event.offset < to && !event.done;
                let ready =
                    model.undecided().filter(undone).filter(|event| event.out.is_none()).count() as u64;
                let never_read =
                    model.events.iter().filter(undone).filter(|event| !event.read).count() as u64;
                let done =
                    model.events.iter().filter(|e| e.done && unread.contains(&e.offset)).count() as u64;
                let lost = core.skip_to(model.now, to);
                // Between events that are done there may be offsets without one: no event was lost there.
                prop_assert!(lost >= ready + never_read, "lost {lost}, at least {ready} and {never_read}");
                prop_assert!(lost <= ready + (unread.end - unread.start) - done, "lost {lost}");
                for event in model.events.iter_mut().filter(|event| event.offset < to) {
                    event.done = true;
                    event.out = None;
                }
                model.head();
            }
            Step::Revoke => {
                core.revoke();
                prop_assert_eq!(core.room(), (0, 0));
                model.revoked = true;
                model.events.iter_mut().for_each(|event| event.out = None);
            }
            Step::Restart { keep_done } => {
                session += 1;
                model.revoked = false;
                let next = core.committable();
                let epoch = commit_map::Epoch::default();
                let progress =
                    commit_map::Progress { log: 7, epoch, next, done: core.done_beyond(), attempts: [] };
                let map = commit_map::encode(progress, commit_map::BYTES_MAX);
                prop_assert!(!map.full);
                core = PartitionCore::new(config(ordering), session, next);
                if keep_done {
                    core.with_done(commit_map::decode(&map.text).unwrap().done);
                }
                for event in &mut model.events {
                    event.read = event.offset < next;
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
            if event.offset >= committed {
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
        prop_assert!(
            core.done_beyond().count() <= model.events.iter().filter(|event| !event.done).count() + 1
        );
        prop_assert!(core.undecided.len() <= BUFFER_EVENTS_MAX);
        prop_assert!(core.lane.iter().all(|lane| lane.len() <= BUFFER_EVENTS_MAX));
    }
    if model.revoked {
        return Ok(());
    }
    // 5. Given time, everything that is not done goes out and can be done, once.
    let rest: Vec<_> = log.iter().filter(|at| **at >= core.position()).map(|at| record(*at)).collect();
    core.fetched(rest, end);
    let to_do: Vec<_> = model.events.iter().filter(|event| !event.done).map(|event| event.offset).collect();
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
    prop_assert_eq!(
        seen.keys().copied().collect::<BTreeSet<_>>(),
        to_do.into_iter().collect::<BTreeSet<_>>()
    );
    prop_assert_eq!(core.committable(), core.position());
    prop_assert_eq!((core.in_flight(), core.bytes, core.next_timeout()), (0, 0, None));
    Ok(())
}

/// More than usual, and as many more as `PROPTEST_CASES` says.
fn more_cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(2_000), ..usual }
}

proptest! {
    #![proptest_config(more_cases())]

    #[test]
    fn without_order_it_does_what_the_model_does(steps in steps()) {
        run(Ordering::None, steps)?;
    }

    #[test]
    fn with_the_order_of_the_partition_it_does_what_the_model_does(steps in steps()) {
        run(Ordering::Partition, steps)?;
    }
}
