//! A core and its [`Model`] go through the same random steps; after each, what can be seen of the core is
//! what the model says, and no invariant is broken.

use super::{
    model::{Doing, Known, Model, Want},
    steps::{By, How, New, Step, failure, steps},
    *,
};
use proptest::{prelude::*, sample::Index};
use std::collections::VecDeque;

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
            Step::Decide(by, decision) => self.decide(&by, decision)?,
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
            let from = offsets.last().map_or(self.core.position(), |last| last + 1);
            // What was read before a restart comes first.
            let known = self.model.events.iter().map(Known::offset).find(|offset| *offset >= from);
            offsets.push(known.unwrap_or_else(|| {
                self.end = self.end.max(from) + gap;
                let not_before = delay.map(|ms| self.model.now + Duration::from_millis(ms));
                let record = sized(self.end - 1, size);
                let incoming = Incoming { record, key, attempts, not_before, passed_over };
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

    fn take(&mut self, max: usize, lanes_max: usize, bytes_max: usize, others: bool) -> Checked {
        let heads = self.model.heads();
        prop_assert!(heads.is_empty() || self.core.has_ready(), "ready, and not said so");
        let mut out = Vec::new();
        let lanes = self.core.take(max, lanes_max, bytes_max, others, &mut out);
        prop_assert!(out.len() <= max && lanes <= lanes_max);
        prop_assert!(out.is_empty() || !heads.is_empty());
        prop_assert!(others || !out.is_empty() || heads.is_empty(), "ready, and not given");
        prop_assert!(others || !out.is_empty() || !self.core.has_ready(), "it says ready, and gives nothing");
        let mut runs: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for taken in &out {
            let at = self.model.find(taken.ticket.offset).unwrap();
            let event = &self.model.events[at];
            prop_assert_eq!(event.doing, Doing::Ready);
            prop_assert_eq!(&taken.own, &event.own);
            prop_assert!(self.model.intake || event.offset() < self.model.high_water, "it was never out");
            prop_assert!(taken.alone || !self.model.must_be_alone(at), "not alone");
            prop_assert!(!taken.alone || (out.len() == 1 && !others), "not alone");
            bytes += event.size();
            match runs.last_mut() {
                // The next of the run.
                Some(run) if self.model.before(at).last() == run.last() => run.push(at),
                // A run begins with the first of its lane, and nothing of it is out.
                _ => {
                    prop_assert!(heads.contains(&at), "{} is not the first of its lane", event.offset());
                    runs.push(vec![at]);
                }
            }
        }
        prop_assert!(out.len() <= 1 || bytes <= bytes_max);
        prop_assert_eq!(runs.len(), lanes);
        for run in runs {
            prop_assert!(run.len() <= self.model.config.run_max);
            let named = self.model.leases + 1;
            for at in run {
                self.model.reserve(at);
                self.model.events[at].run = named;
            }
        }
        for taken in &out {
            let lease = self.model.find(taken.ticket.offset).map(|at| self.model.events[at].lease);
            prop_assert_eq!(lease, Some(taken.ticket.number));
        }
        let alone = out.len() == 1 && out[0].alone;
        self.responses.push(Response { taken: out.into(), filled: others, alone });
        Ok(())
    }

    /// Tells what became of the next reservation of a response.
    fn resolve(&mut self, which: usize, how: How) -> Checked {
        let response = &mut self.responses[which];
        let (others, alone) = (response.filled, response.alone);
        let Some(Taken { ticket, own, .. }) = response.taken.pop_front() else { return Ok(()) };
        let reserved = self.model.live(ticket).filter(|at| self.model.events[*at].doing == Doing::Reserved);
        prop_assert_eq!(self.core.record(ticket).is_some(), self.model.live(ticket).is_some());
        let Some(at) = reserved else {
            prop_assert_eq!(self.core.deliver(self.now(), ticket, None, others), None);
            return Ok(());
        };
        let (now, claims) = (self.now(), self.model.config.claims);
        match how {
            How::Deliver { others_failed } if claims => {
                let (tag, attempt) = self.claim(at, own, others_failed)?;
                let until = now.steady + TIMEOUT + CLAIM_MARGIN;
                self.model.claimed(at, Some((Own { tag, counted: false, asked: None }, until)));
                self.deliver(ticket, at, Some((tag, attempt, until)), which, alone)?;
            }
            How::Deliver { .. } | How::DeliverUnclaimed => {
                if claims {
                    let event = &mut self.model.events[at];
                    (event.store_token, event.store_is_behind) = (None, true);
                }
                self.model.claimed(at, None);
                self.deliver(ticket, at, None, which, alone)?;
            }
            How::DoneAlready => {
                self.core.done_already(now, ticket);
                self.model.counters.duplicates += 1;
                self.model.finish(at);
            }
            How::HeldElsewhere(ms) => {
                let until = now.steady + Duration::from_millis(ms);
                self.core.held_elsewhere(ticket, until);
                self.model.claimed(at, None);
                self.model.events[at].store_token = None;
                self.model.put_back(at, Doing::Held(until));
            }
            How::Unreserve => {
                let tag = self.tag(at);
                let own = claims.then(|| match own {
                    Some(own) => Own { asked: Some(tag.token), ..own },
                    None => Own { tag, counted: false, asked: Some(tag.token) },
                });
                self.core.unreserve(ticket, own);
                let event = &mut self.model.events[at];
                event.own = own;
                event.store_token = own.map(|own| own.tag.token);
                event.store_is_behind |= event.store_attempts < event.attempts;
                self.model.put_back(at, Doing::Ready);
            }
            How::Reject => {
                let tag = if claims { Some(self.claim(at, own, 0)?.0) } else { None };
                self.core.reject(now, ticket, tag, failure());
                self.model.events[at].own = tag.map(|tag| Own { tag, counted: false, asked: None });
                self.model.reject(at);
            }
        }
        Ok(())
    }

    fn tag(&mut self, at: usize) -> ClaimTag {
        self.tokens += 1;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.model.events[at].offset().to_be_bytes());
        ClaimTag { key: ClaimKey(key), token: Token(self.tokens) }
    }

    /// What a store of claims says: what is given up counts as an attempt, or does not.
    fn claim(
        &mut self,
        at: usize,
        own: Option<Own>,
        others_failed: u32,
    ) -> Result<(ClaimTag, u32), TestCaseError> {
        let tag = self.tag(at);
        let event = &mut self.model.events[at];
        prop_assert_eq!(event.store_token, own.map(|own| own.tag.token));
        match own {
            Some(own) => {
                event.store_attempts += u32::from(own.counted);
                if !event.store_is_behind {
                    prop_assert_eq!(event.store_attempts, event.attempts, "counted wrongly: {:?}", own);
                }
            }
            None => event.store_attempts += others_failed,
        }
        event.store_token = Some(tag.token);
        event.store_is_behind = event.store_attempts < event.attempts;
        event.attempts = event.attempts.max(event.store_attempts);
        Ok((tag, event.store_attempts + 1))
    }

    fn deliver(
        &mut self,
        ticket: Ticket,
        at: usize,
        claim: Option<(ClaimTag, u32, Monotonic)>,
        which: usize,
        alone: bool,
    ) -> Checked {
        let others = self.responses[which].filled;
        let delivery = self.core.deliver(self.now(), ticket, claim, others);
        let attempts = self.model.events[at].attempts;
        let must_be_alone = self.model.must_be_alone(at);
        let deadline = self.model.deliver(at, alone && !others);
        prop_assert_eq!(delivery.as_ref().map(|delivery| delivery.deadline), deadline);
        let Some(delivery) = delivery else { return Ok(()) };
        self.responses[which].filled = true;
        self.issued.push(delivery.lease);
        prop_assert!(!must_be_alone || (alone && !others), "not alone");
        prop_assert!(self.model.config.deliveries_max.is_none_or(|max| delivery.attempt <= max));
        let lease =
            Lease { id: LeaseId { session: self.session, number: ticket.number }, offset: ticket.offset };
        let event = &self.model.events[at];
        let expected = Delivery {
            lease,
            claim: claim.map(|(tag, ..)| tag),
            attempt: attempts + 1,
            deadline: delivery.deadline,
            run: event.run,
            record: Arc::new(event.incoming.record.clone()),
        };
        prop_assert_eq!(delivery, expected);
        // Nothing of the lane that is not decided comes behind what goes out, its run apart.
        for before in self.model.before(at).into_iter().map(|before| &self.model.events[before]) {
            prop_assert!(before.is_out(), "{} overtakes {}", ticket.offset, before.offset());
            prop_assert!(!before.is_at_client() || before.run == event.run, "two runs are out");
        }
        Ok(())
    }

    /// What decisions are made of: mostly what is out, and some of what was.
    fn recent(&self) -> &[Lease] {
        &self.issued[self.issued.len().saturating_sub(12)..]
    }

    fn decide(&mut self, by: &By, decision: Decision) -> Checked {
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
            self.model.decide(lease, Decision::Release { after: Duration::ZERO });
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

    /// The session ends, and another begins with what this one says.
    fn restart(&mut self) -> Checked {
        let start = self.core.committable();
        let (done, attempts) = (self.core.done_beyond().clone(), self.core.attempts().clone());
        let kept = |event: &Known| event.is_at_client() || event.doing == Doing::Settling;
        let unused: Vec<_> = self
            .model
            .undecided()
            .into_iter()
            .map(|at| &self.model.events[at])
            .filter(|event| !kept(event))
            .filter_map(|event| event.own)
            .collect();
        let mut revoked = self.core.revoke();
        revoked.sort_by_key(|own| own.tag.key.0);
        prop_assert_eq!(revoked, unused);
        self.check_revoked(start)?;
        let attempted = attempts.last_key_value().map_or(0, |(offset, _)| offset + 1);
        let high_water = start.max(done.end().unwrap_or_default()).max(attempted);
        self.intervals = done.len();
        self.session += 1;
        self.core = PartitionCore::new(self.model.config.clone(), self.session, start, 7);
        self.core.with_progress(done, attempts);
        self.model.restart(start, high_water);
        self.effects.clear();
        self.responses.clear();
        Ok(())
    }

    /// Nothing that is said after the end of a session counts.
    fn check_revoked(&mut self, committable: Offset) -> Checked {
        let now = Now { steady: self.model.now + Duration::from_secs(3_600), ..Now::default() };
        let position = self.core.position();
        for lease in self.recent().to_vec() {
            prop_assert_eq!(self.core.decide(now, lease, Decision::Ack), Some(Status::Expired));
            self.core.give_back(lease);
        }
        for effect in std::mem::take(&mut self.effects) {
            self.core.settled(now, ticket_of(&effect), Outcome::Done);
        }
        let tickets: Vec<_> = self.responses.iter().flat_map(|response| &response.taken).collect();
        for taken in tickets {
            prop_assert_eq!(self.core.deliver(now, taken.ticket, None, false), None);
        }
        self.core.fetched(now, vec![incoming(position, None)], position + 1);
        self.core.skip(now, committable);
        self.core.done_elsewhere(now, committable);
        self.core.freed_elsewhere(committable, now.steady);
        self.core.set_intake(false);
        self.core.set_intake(true);
        self.core.tick(now);
        let mut out = Vec::new();
        self.core.take(100, usize::MAX, usize::MAX, false, &mut out);
        self.core.take_effects(&mut self.effects);
        prop_assert!(out.is_empty() && self.effects.is_empty() && !self.core.has_ready());
        prop_assert_eq!((self.core.in_flight(), self.core.next_timeout()), (0, None));
        prop_assert_eq!((self.core.room(), self.core.committable()), ((0, 0), committable));
        Ok(())
    }

    fn gather(&mut self) {
        let known = self.effects.len();
        self.core.take_effects(&mut self.effects);
        self.asked_for.extend(self.effects[known..].iter().map(want_of));
    }

    fn check(&mut self) -> Checked {
        self.gather();
        let (core, model) = (&self.core, &mut self.model);
        // What is to be made durable.
        let (mut asked_for, mut wants) =
            (std::mem::take(&mut self.asked_for), std::mem::take(&mut model.wants));
        asked_for.sort();
        wants.sort();
        prop_assert_eq!(asked_for, wants);
        // 1. Prefix.
        let committable = core.committable();
        prop_assert_eq!(committable, model.committable());
        prop_assert!(committable >= self.committed, "it went back");
        self.committed = committable;
        prop_assert_eq!(core.position(), model.position);
        // 3. What is done is said to be, and nothing else.
        for event in model.events.iter().filter(|event| event.offset() >= committable) {
            let is_done = core.done_beyond().contains(event.offset());
            prop_assert_eq!(is_done, event.done, "offset {}", event.offset());
        }
        // 5. Every lease and everything held has its timer.
        let timeout = model.timers().into_iter().map(|(_, at)| at).min();
        prop_assert_eq!(core.next_timeout(), timeout);
        // 6. Counts and bounds.
        let (undecided, held) = (model.undecided(), model.held());
        let out = undecided.iter().filter(|at| model.events[**at].is_out()).count();
        prop_assert_eq!((core.in_flight(), core.held(), core.room()), (out, held.len(), model.room()));
        prop_assert_eq!((core.index.len(), core.bytes), (undecided.len(), model.bytes(&undecided)));
        prop_assert!(undecided.len() <= BUFFER_EVENTS_MAX + HELD_EVENTS_MAX);
        prop_assert!(core.done_beyond().len() <= undecided.len() + 1 + self.intervals);
        prop_assert_eq!(core.counters(), model.counters);
        // 7. Attempts.
        for (offset, attempts) in core.attempts() {
            prop_assert!(!model.config.claims && *offset >= committable);
            if let Some(at) = model.find(*offset) {
                prop_assert_eq!(*attempts, model.events[at].attempts);
            }
        }
        for event in undecided.iter().map(|at| &model.events[*at]) {
            let counted = core.attempts().get(&event.offset()).copied().unwrap_or(event.incoming.attempts);
            prop_assert!(model.config.claims || counted == event.attempts);
        }
        model.events.retain(|event| !event.done || event.offset() >= committable);
        Ok(())
    }

    /// 5. Nothing is stuck: with time, answers and acknowledgements everything comes to its end.
    fn drain(&mut self) -> Checked {
        self.core.set_intake(true);
        self.model.intake = true;
        let last = self.model.events.iter().map(Known::offset).max().unwrap_or_default();
        for _ in 0..10_000 {
            let unread: Vec<_> = self
                .model
                .events
                .iter()
                .map(Known::offset)
                .filter(|at| *at >= self.core.position())
                .collect();
            self.read(&unread.into_iter().take(self.core.room().0).collect::<Vec<_>>());
            while !self.responses.is_empty() {
                self.resolve(0, How::Deliver { others_failed: 0 })?;
                self.responses.retain(|response| !response.taken.is_empty());
            }
            self.gather();
            for effect in std::mem::take(&mut self.effects) {
                self.settle_one(effect, Outcome::Done)?;
            }
            self.check()?;
            if self.model.undecided().is_empty() && self.core.position() > last {
                break;
            }
            // Every client acknowledges what it has.
            for at in self.model.undecided() {
                let event = &self.model.events[at];
                if event.is_at_client() {
                    let id = LeaseId { session: self.session, number: event.lease };
                    let lease = Lease { id, offset: event.offset() };
                    prop_assert!(matches!(
                        self.core.decide(self.now(), lease, Decision::Ack),
                        None | Some(Status::Ok)
                    ));
                    self.model.decide(lease, Decision::Ack);
                }
            }
            self.pass(Duration::from_secs(3_600))?;
            self.take(100, usize::MAX, usize::MAX, false)?;
        }
        prop_assert_eq!(self.core.committable(), self.core.position());
        prop_assert_eq!((self.core.in_flight(), self.core.held(), self.core.bytes), (0, 0, 0));
        prop_assert_eq!((self.core.index.len(), self.core.events.len()), (0, 0));
        prop_assert_eq!(self.core.next_timeout(), None);
        prop_assert!(self.core.attempts().is_empty() && self.core.done_beyond().is_empty());
        Ok(())
    }
}

fn ticket_of(effect: &Effect) -> Ticket {
    match effect {
        Effect::Complete { ticket, .. } | Effect::Extend { ticket, .. } => *ticket,
        Effect::DeadLetter(letter) => letter.ticket,
    }
}

fn want_of(effect: &Effect) -> Want {
    match effect {
        Effect::Complete { ticket, .. } => Want::Complete(ticket.offset),
        Effect::Extend { ticket, lease, answer, .. } => Want::Extend(ticket.offset, *lease, *answer),
        Effect::DeadLetter(letter) => Want::DeadLetter(letter.record.offset, letter.attempts),
    }
}

/// More than usual, and as many more as `PROPTEST_CASES` says.
fn more_cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(2_000), ..usual }
}

fn configs(ordering: Ordering) -> impl Strategy<Value = CoreConfig> {
    let deliveries_max = prop_oneof![Just(None), Just(Some(1)), Just(Some(2)), Just(Some(4))];
    let run_max = prop_oneof![Just(1), Just(3), Just(usize::MAX)];
    (deliveries_max, run_max, any::<bool>()).prop_map(move |(deliveries_max, run_max, claims)| CoreConfig {
        deliveries_max,
        run_max,
        claims,
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
