//! A core and its [`Model`] go through the same random steps; after each, what can be seen of the core is
//! what the model says, and no invariant is broken.

mod checking;
mod giving;
mod steps;

use super::{
    model::{Doing, Known, Model, Want},
    *,
};
use proptest::{prelude::*, sample::Index};
use std::collections::VecDeque;
use steps::{By, How, New, Step, failure, steps};

const TIMEOUT: Duration = Duration::from_millis(100);
const BUFFER_EVENTS_MAX: usize = 24;
const HELD_EVENTS_MAX: usize = 12;

fn small(ordering: Ordering) -> CoreConfig {
    CoreConfig {
        ack_timeout: TIMEOUT,
        backoff: Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_millis(400),
            multiplier: 2.0,
            full_jitter: false,
        },
        buffer_events_max: BUFFER_EVENTS_MAX,
        held_events_max: HELD_EVENTS_MAX,
        ..config(ordering, false)
    }
}

fn sized(offset: Offset, size: usize) -> StoredRecord {
    StoredRecord { offset, record: Record { value: Some(vec![7; size].into()), ..Record::default() } }
}

/// What is reserved by one take and not told yet.
#[derive(Debug)]
struct Response {
    taken: VecDeque<Taken>,
    /// It holds something.
    filled: bool,
    /// It was to hold nothing else.
    alone: bool,
}

struct World {
    core: PartitionCore,
    model: Model,
    session: u32,
    responses: Vec<Response>,
    /// What is to be made durable and is not yet, and what of it came with the last step.
    effects: Vec<Effect>,
    asked_for: Vec<Want>,
    issued: Vec<Lease>,
    tokens: u64,
    end: Offset,
    committed: Offset,
    /// How many intervals of done events there may be beside those that are between undecided events.
    intervals: usize,
}

type Checked = Result<(), TestCaseError>;

impl World {
    fn new(config: CoreConfig) -> Self {
        Self {
            core: PartitionCore::new(config.clone(), 1, 0, 7),
            model: Model::new(config),
            session: 1,
            responses: Vec::new(),
            effects: Vec::new(),
            asked_for: Vec::new(),
            issued: Vec::new(),
            tokens: 0,
            end: 0,
            committed: 0,
            intervals: 0,
        }
    }

    fn now(&self) -> Now {
        Now { steady: self.model.now, ..Now::default() }
    }

    fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Fetch(new) => self.fetch(new),
            Step::Take { max, lanes_max, bytes, others } => self.take(max, lanes_max, bytes, others)?,
            Step::Resolve(which, count, how) => {
                for _ in 0..count {
                    self.responses.retain(|response| !response.taken.is_empty());
                    if !self.responses.is_empty() {
                        self.resolve(which.index(self.responses.len()), how)?;
                    }
                }
            }
            Step::Decide(by, decision) => self.decide(&by, &decision)?,
            Step::GiveBack(which) => self.give_back(which),
            Step::Settle(which, outcome) => self.settle(which, outcome)?,
            Step::Skip(by) => {
                let at = self.model.find(self.committed + by);
                prop_assert_eq!(self.core.skip(self.now(), self.committed + by), at.is_some());
                at.into_iter().for_each(|at| self.model.finish(at));
            }
            Step::SkipTo(by) => self.skip_to(self.committed + by)?,
            Step::DoneElsewhere(by) => self.done_elsewhere(self.committed + by),
            Step::FreedElsewhere(by, ms) => {
                let (offset, until) = (self.committed + by, self.model.now + Duration::from_millis(ms));
                self.core.freed_elsewhere(offset, until);
                self.model.freed(offset, until);
            }
            Step::Intake(open) => {
                self.core.set_intake(open);
                self.model.intake = open;
            }
            Step::Pass(ms) => self.pass(Duration::from_millis(ms))?,
            Step::Restart => self.restart()?,
        }
        self.check()
    }

    fn pass(&mut self, time: Duration) -> Checked {
        self.model.now = self.model.now + time;
        self.model.tick();
        self.core.tick(self.now());
        prop_assert!(self.core.next_timeout().is_none_or(|at| at > self.model.now), "a timer that is busy");
        Ok(())
    }

    fn fetch(&mut self, new: Vec<New>) {
        let mut offsets = Vec::new();
        for New { gap, key, size, passed_over, delay, attempts } in new.into_iter().take(self.core.room().0) {
            let from = offsets.last().map_or(self.core.position(), |last: &Offset| last + 1);
            // What was read before a restart comes first.
            let known = self.model.events.iter().map(Known::offset).find(|offset| *offset >= from);
            offsets.push(known.unwrap_or_else(|| {
                self.end = self.end.max(from) + gap;
                let not_before = delay.map(|ms| self.model.now + Duration::from_millis(ms));
                let record = sized(self.end - 1, size);
                let incoming = Incoming { record, key, attempts, retried: None, not_before, passed_over };
                self.model.events.push(Known::new(incoming));
                self.end - 1
            }));
        }
        self.read(&offsets);
    }

    fn read(&mut self, offsets: &[Offset]) {
        let next = offsets.last().map_or(self.core.position(), |last| last + 1);
        let of = |offset: &Offset| {
            self.model
                .events
                .iter()
                .find(|event| event.offset() == *offset)
                .map(|event| event.incoming.clone())
        };
        let events = offsets.iter().filter_map(of).collect();
        self.core.fetched(self.now(), events, next);
        self.model.read(offsets, next);
    }
    /// What decisions are made of: mostly what is out, and some of what was.
    fn recent(&self) -> &[Lease] {
        &self.issued[self.issued.len().saturating_sub(12)..]
    }

    fn decide(&mut self, by: &By, decision: &Decision) -> Checked {
        let session = self.session;
        let recent = self.recent();
        let lease = match by {
            By::MadeUp(number, at) => {
                Lease { id: LeaseId { session, number: *number }, offset: self.committed + at }
            }
            _ if recent.is_empty() => return Ok(()),
            By::Recent(index) => *index.get(recent),
            By::Mixed(one, other) => Lease { offset: one.get(recent).offset, ..*other.get(recent) },
            By::Foreign(index) => {
                let Lease { id, offset } = *index.get(recent);
                Lease { id: LeaseId { session: 99, ..id }, offset }
            }
        };
        let status = self.core.decide(self.now(), lease, decision.clone());
        let expected = if lease.id.session == session {
            self.model.decide(lease, decision)
        } else {
            Some(Status::Expired)
        };
        prop_assert_eq!(status, expected);
        if status.is_none() {
            // What is waited for was added last.
            self.gather();
            let last = self.effects.last().map(|effect| ticket_of(effect).offset);
            prop_assert_eq!(last, Some(lease.offset));
        }
        Ok(())
    }

    fn give_back(&mut self, which: Index) {
        if self.recent().is_empty() {
            return;
        }
        let lease = *which.get(self.recent());
        self.core.give_back(lease);
        if lease.id.session == self.session
            && let Some(at) = self.model.find(lease.offset)
            && self.model.events[at].lease == lease.id.number
            && self.model.events[at].is_at_client()
        {
            self.model.decide(lease, &Decision::Release { after: Duration::ZERO });
        }
    }

    fn settle(&mut self, which: Index, outcome: Outcome) -> Checked {
        if self.effects.is_empty() {
            return Ok(());
        }
        let effect = self.effects.remove(which.index(self.effects.len()));
        self.settle_one(effect, outcome)
    }

    fn settle_one(&mut self, effect: Effect, outcome: Outcome) -> Checked {
        let now = self.now();
        // Without a claim nobody can be in the way.
        let fenced = |claimed: bool| if claimed { outcome } else { Outcome::Done };
        let (status, expected) = match effect {
            Effect::Complete { ticket, .. } => {
                (self.core.settled(now, ticket, outcome), self.model.settled(ticket, outcome))
            }
            Effect::DeadLetter(letter) => {
                let outcome = fenced(letter.claim.is_some());
                let expected = self.model.settled(letter.ticket, outcome);
                self.model.counters.dead_lettered += u64::from(expected == Status::Ok);
                (self.core.dead_lettered(now, letter.ticket, outcome), expected)
            }
            Effect::RetryElsewhere { letter, .. } => {
                let expected = self.model.settled(letter.ticket, Outcome::Done);
                self.model.counters.moved += u64::from(expected == Status::Ok);
                (self.core.moved(now, letter.ticket), expected)
            }
            Effect::Extend { ticket, lease, answer, .. } => (
                self.core.extended(now, ticket, lease, answer, outcome),
                self.model.extended(ticket, lease, answer, outcome),
            ),
        };
        prop_assert_eq!(status, expected);
        Ok(())
    }

    fn skip_to(&mut self, to: Offset) -> Checked {
        let (done, position) = (self.core.done_beyond().clone(), self.core.position());
        let unread = (position..to.max(position)).filter(|offset| !done.contains(*offset)).count();
        let gone: Vec<_> =
            self.model.undecided().into_iter().filter(|at| self.model.events[*at].offset() < to).collect();
        let is_lost = |at: &&usize| {
            let event = &self.model.events[**at];
            !event.is_at_client() && event.doing != Doing::Settling
        };
        let lost = unread + gone.iter().filter(is_lost).count();
        prop_assert_eq!(self.core.skip_to(self.now(), to), lost as u64);
        self.end = self.end.max(to);
        self.model.position = self.model.position.max(to);
        self.model.events.iter_mut().filter(|event| event.offset() < to).for_each(|event| event.done = true);
        self.model.wind();
        // The clock of what was deleted next may have begun for a moment.
        self.gather();
        self.asked_for.retain(|want| !matches!(want, Want::Extend(offset, ..) if *offset < to));
        Ok(())
    }

    fn done_elsewhere(&mut self, offset: Offset) {
        // Only what is there can be done, and who did it had a claim.
        let known = self.model.events.iter().position(|event| event.offset() == offset);
        let Some(at) = known.filter(|at| !self.model.events[*at].done) else { return };
        self.core.done_elsewhere(self.now(), offset);
        if !self.model.events[at].read {
            self.model.events[at].done = true;
            self.intervals += 1;
        } else if !self.model.events[at].is_out() {
            self.model.finish(at);
        }
    }
}

fn ticket_of(effect: &Effect) -> Ticket {
    match effect {
        Effect::Complete { ticket, .. } | Effect::Extend { ticket, .. } => *ticket,
        Effect::DeadLetter(letter) | Effect::RetryElsewhere { letter, .. } => letter.ticket,
    }
}

fn want_of(effect: &Effect) -> Want {
    match effect {
        Effect::Complete { ticket, .. } => Want::Complete(ticket.offset),
        Effect::Extend { ticket, lease, answer, .. } => Want::Extend(ticket.offset, *lease, *answer),
        Effect::DeadLetter(letter) => Want::DeadLetter(letter.record.offset, letter.attempts),
        Effect::RetryElsewhere { letter, after } => {
            Want::RetryElsewhere(letter.record.offset, letter.attempts, *after)
        }
    }
}

/// More than usual, and as many more as `PROPTEST_CASES` says.
fn more_cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(700), ..usual }
}

fn configs(ordering: Ordering) -> impl Strategy<Value = CoreConfig> {
    let deliveries_max = prop_oneof![Just(None), Just(Some(1)), Just(Some(2)), Just(Some(4))];
    let run_max = prop_oneof![Just(1), Just(3), Just(usize::MAX)];
    let elsewhere = any::<bool>().prop_map(move |elsewhere| elsewhere && ordering == Ordering::None);
    let all = (deliveries_max, run_max, any::<bool>(), elsewhere);
    all.prop_map(move |(deliveries_max, run_max, claims, retry_elsewhere)| CoreConfig {
        run_max,
        claims,
        deliveries_max,
        retry_elsewhere,
        ..small(ordering)
    })
}

fn run(config: CoreConfig, steps: Vec<Step>) -> Checked {
    let mut world = World::new(config);
    for step in steps {
        world.step(step)?;
    }
    world.drain()
}

proptest! {
    #![proptest_config(more_cases())]

    #[test]
    fn without_order_it_does_what_the_model_does(config in configs(Ordering::None), steps in steps()) {
        run(config, steps)?;
    }

    #[test]
    fn with_the_order_of_the_partition_it_does_what_the_model_does(
        config in configs(Ordering::Partition),
        steps in steps(),
    ) {
        run(config, steps)?;
    }

    #[test]
    fn with_the_order_of_keys_it_does_what_the_model_does(config in configs(Ordering::Key), steps in steps()) {
        run(config, steps)?;
    }
}
