//! The core: what is read, what is ready, what is out, what is done.

mod event;
mod index;
mod lanes;
#[cfg(test)]
mod tests;
mod timers;

use super::{
    Ordering,
    done::DoneSet,
    lease::{
        ClaimTag, CoreConfig, Counters, DeadLetter, Decision, Delivery, Effect, Failures, Incoming, Lease,
        LeaseId, Outcome, Own, Retried, Status, Taken, Ticket,
    },
};
use event::{Event, LAPSED, State};
use index::Index;
use lanes::{Lanes, NONE};
use ports::{Failure, Monotonic, Offset, StoredRecord, Timestamp};
use slab::Slab;
use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};
use timers::Timers;

/// How much longer than its delivery a claim lasts.
pub const CLAIM_MARGIN: Duration = Duration::from_secs(5);

/// The number of no lease: of an event that no client has, or had last.
const NO_LEASE: u64 = 0;

/// Now, on both clocks: the steady one decides, the other one is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub steady: Monotonic,
    /// For what is kept.
    pub wall: Timestamp,
}

/// The state machine of one partition in one session of ownership. See the [module](super) for what always
/// holds.
#[derive(Debug)]
pub struct PartitionCore {
    config: CoreConfig,
    session: u32,
    /// The next offset to be read.
    position: Offset,
    events: Slab<Event>,
    /// The events by offset, and what is done among them.
    index: Index,
    lanes: Lanes,
    bytes: usize,
    /// What is in lanes in which something is held.
    held_events: usize,
    held_bytes: usize,
    out: usize,
    /// When leases lapse and what is held is ready again.
    timers: Timers,
    /// What is done of that which is not read yet.
    done: DoneSet,
    /// Undecided events of which deliveries counted; without claims alone, where nobody else counts them.
    attempted: BTreeMap<Offset, u32>,
    /// How many leases were given.
    leases: u64,
    /// Where events begin that were never out.
    high_water: Offset,
    intake: bool,
    effects: Vec<Effect>,
    random: u64,
    revoked: bool,
    counters: Counters,
}

impl PartitionCore {
    /// A core whose first event is at `start` or later. `random` is what its delays are drawn from.
    pub fn new(config: CoreConfig, session: u32, start: Offset, random: u64) -> Self {
        Self {
            config,
            session,
            position: start,
            events: Slab::new(),
            index: Index::default(),
            lanes: Lanes::default(),
            bytes: 0,
            held_events: 0,
            held_bytes: 0,
            out: 0,
            timers: Timers::default(),
            done: DoneSet::default(),
            attempted: BTreeMap::new(),
            leases: 0,
            high_water: start,
            intake: true,
            effects: Vec::new(),
            random,
            revoked: false,
            counters: Counters::default(),
        }
    }

    /// How it works.
    pub fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// What an earlier session knew: offsets that are done already, and are not delivered when they are
    /// read, and deliveries that counted; what lies before the start is left out. To be said before
    /// anything is read.
    pub fn with_progress(&mut self, done: DoneSet, attempts: BTreeMap<Offset, u32>) {
        let attempted = attempts.last_key_value().map_or(0, |(offset, _)| *offset + 1);
        self.high_water = self.high_water.max(done.end().unwrap_or_default()).max(attempted);
        self.done = done;
        self.attempted = attempts;
        self.done.forget_before(self.position);
        self.attempted = self.attempted.split_off(&self.position);
    }

    // ---- what is read ----

    /// What was read, in the order of offsets, and where to read on. What lies between is not there.
    pub fn fetched(&mut self, now: Now, events: Vec<Incoming>, next: Offset) {
        if self.revoked {
            return;
        }
        for incoming in events {
            let offset = incoming.record.offset;
            if offset < self.position {
                continue;
            }
            self.position = offset + 1;
            if self.done.contains(offset) {
                self.attempted.remove(&offset);
                self.index.push_done(offset);
                continue;
            }
            if incoming.passed_over {
                self.attempted.remove(&offset);
                self.counters.passed_over += 1;
                self.index.push_done(offset);
                continue;
            }
            self.enter(now, incoming);
        }
        self.position = self.position.max(next);
        self.done.forget_before(self.position);
        self.came_on();
    }

    fn enter(&mut self, now: Now, incoming: Incoming) {
        let offset = incoming.record.offset;
        let key = match self.config.ordering {
            Ordering::None => None,
            Ordering::Partition => Some(0),
            Ordering::Key => incoming.key,
        };
        let lane = self.lanes.of(key);
        let counted = self.attempted.get(&offset).copied().unwrap_or_default();
        let state = match incoming.not_before.filter(|until| *until > now.steady) {
            Some(until) => State::Held { until },
            None => State::Ready,
        };
        let mut event = Event::new(incoming.record, lane, incoming.attempts.max(counted), state);
        event.failures = incoming.retried.as_ref().and_then(|of| of.failures.clone()).map(Box::new);
        event.retried = incoming.retried;
        event.alone = event.is_last_after_lapses(self.config.deliveries_max);
        let (bytes, used_up) = (event.bytes, self.is_used_up(event.attempts));
        event.before = self.lanes.get(lane).tail;
        let slot = self.events.insert(event) as u32;
        self.index.push(offset, slot);
        self.bytes += bytes;
        let of = self.lanes.get_mut(lane);
        if of.tail == NONE {
            of.head = slot;
        } else {
            self.events[of.tail as usize].after = slot;
        }
        of.tail = slot;
        of.events += 1;
        of.bytes += bytes;
        if of.held > 0 {
            self.held_events += 1;
            self.held_bytes += bytes;
        }
        if let State::Held { until } = state {
            self.timers.set(until, slot);
            self.count_held(lane, true);
        }
        if used_up {
            // The session before could not make a dead letter of it any more.
            self.reserve(slot);
            self.dead_letter(now, slot);
        }
        self.offer(lane);
    }

    /// Gives up what lies before `offset`, as the log has deleted it. Answers how many offsets were neither
    /// done nor out at a client.
    pub fn skip_to(&mut self, now: Now, offset: Offset) -> u64 {
        if self.revoked {
            return 0;
        }
        let mut lost = 0;
        if offset > self.position {
            let unread = self.position..offset;
            let done: u64 = self.done.ranges().map(|range| overlap(&range, &unread)).sum();
            lost += offset - self.position - done;
        }
        while let Some((at, slot)) = self.index.first()
            && at < offset
        {
            let state = self.events[slot as usize].state;
            // One that is being claimed does not go out any more.
            lost += u64::from(!state.is_out() || state == State::Reserved);
            self.remove(now, slot);
        }
        self.position = self.position.max(offset);
        self.done.forget_before(self.position);
        self.came_on();
        lost
    }

    /// Passes over one undecided event, on somebody's word. Answers whether there was one; what is out of
    /// it decides nothing any more.
    pub fn skip(&mut self, now: Now, offset: Offset) -> bool {
        let Some(slot) = self.index.get(offset).filter(|_| !self.revoked) else { return false };
        self.finish(now, slot);
        true
    }

    /// How many more events and bytes are to be read. What is held has a bound of its own, so that a key
    /// that is tried again does not keep others from being read, until there are too many of them.
    pub fn room(&self) -> (usize, usize) {
        let held_full =
            self.held_events >= self.config.held_events_max || self.held_bytes >= self.config.held_bytes_max;
        if self.revoked || held_full {
            return (0, 0);
        }
        let events = self.index.len() - self.held_events;
        let bytes = self.bytes - self.held_bytes;
        (
            self.config.buffer_events_max.saturating_sub(events),
            self.config.buffer_bytes_max.saturating_sub(bytes),
        )
    }

    /// Whether reading waits for what is held.
    pub fn is_held_up(&self) -> bool {
        self.held_events >= self.config.held_events_max || self.held_bytes >= self.config.held_bytes_max
    }

    /// Whether events may go out that lie beyond all that ever were. Those up to there go on, and so does
    /// always the first of all: what it keeps from being committed may be all that there is no room for.
    pub fn set_intake(&mut self, open: bool) {
        if open && !self.intake {
            self.lanes.unpark();
        }
        self.intake = open;
    }

    // ---- what goes out ----

    /// Whether [`Self::take`] may give something.
    pub fn has_ready(&self) -> bool {
        self.lanes.waiting() > 0 && !self.revoked
    }

    /// Reserves at most `max` events of at most `lanes_max` lanes and about `bytes_max` bytes, but always one
    /// that is ready; appends them to `out` and answers of how many lanes they are. Events of one lane are a
    /// run and follow each other. `others` says whether the
    /// response holds something already: an event that is to be alone is then left where it is.
    ///
    /// Each is to be told [`Self::deliver`], [`Self::done_already`], [`Self::held_elsewhere`] or
    /// [`Self::unreserve`], in this order.
    pub fn take(
        &mut self,
        max: usize,
        lanes_max: usize,
        bytes_max: usize,
        others: bool,
        out: &mut Vec<Taken>,
    ) -> usize {
        let mut lanes = 0;
        if self.revoked {
            return lanes;
        }
        let before = out.len();
        let mut bytes = 0;
        while out.len() - before < max && lanes < lanes_max {
            let Some(lane) = self.lanes.next() else { return lanes };
            let count = out.len() - before;
            let (head, run) = (self.lanes.get(lane).head, self.leases + 1);
            if head == NONE || self.lanes.get(lane).out > 0 {
                continue;
            }
            let event = &self.events[head as usize];
            if event.state != State::Ready {
                continue;
            }
            if !self.intake && event.offset() >= self.high_water && event.offset() > self.committable() {
                self.lanes.park(lane);
                continue;
            }
            let first = count == 0 && !others;
            let fits = count == 0 || bytes + event.bytes <= bytes_max;
            if !fits || (event.alone && !first) {
                self.lanes.enqueue(lane, true);
                return lanes;
            }
            lanes += 1;
            let alone = event.alone;
            let share = (max - count).div_ceil(self.lanes.waiting() + 1).min(self.config.run_max);
            let mut slot = head;
            let mut given = 0;
            while slot != NONE && given < if alone { 1 } else { share } {
                let event = &self.events[slot as usize];
                let may = event.state == State::Ready
                    && (given == 0
                        || (!event.alone
                            && bytes + event.bytes <= bytes_max
                            && (self.intake || event.offset() < self.high_water)));
                if !may {
                    break;
                }
                bytes += event.bytes;
                let after = event.after;
                self.high_water = self.high_water.max(event.offset() + 1);
                out.push(self.reserve(slot));
                given += 1;
                slot = after;
            }
            let of = self.lanes.get_mut(lane);
            (of.run, of.turn) = (run, 0);
            if alone {
                return lanes;
            }
        }
        lanes
    }

    fn reserve(&mut self, slot: u32) -> Taken {
        self.leases += 1;
        let Event { state, lane, .. } = self.events[slot as usize];
        if let State::Held { until } = state {
            self.timers.remove(until, slot, &self.events);
            self.count_held(lane, false);
        }
        let event = &mut self.events[slot as usize];
        event.state = State::Reserved;
        event.number = self.leases;
        event.superseded = false;
        self.lanes.get_mut(event.lane).out += 1;
        self.out += 1;
        let ticket = Ticket { slot, number: self.leases, offset: event.offset() };
        Taken { ticket, own: event.own, alone: event.alone, bytes: event.bytes }
    }

    /// The event of a reservation that still holds.
    pub fn record(&self, ticket: Ticket) -> Option<&Arc<StoredRecord>> {
        self.live(ticket).map(|slot| &self.events[slot as usize].record)
    }

    /// Where the event of a reservation that still holds first lay, if it came by a retry topic.
    pub fn retried(&self, ticket: Ticket) -> Option<&Retried> {
        self.live(ticket).and_then(|slot| self.events[slot as usize].retried.as_deref())
    }

    fn live(&self, ticket: Ticket) -> Option<u32> {
        let event = self.events.get(ticket.slot as usize)?;
        (event.number == ticket.number && event.offset() == ticket.offset).then_some(ticket.slot)
    }

    fn reserved(&self, ticket: Ticket) -> Option<u32> {
        self.live(ticket).filter(|slot| self.events[*slot as usize].state == State::Reserved)
    }

    /// Notes that what was reserved had so many attempts before it came into this log, by whomever they were counted,
    /// and answers how many of them count: whatever they are, one delivery is left.
    pub fn tried_before(&mut self, ticket: Ticket, attempts: u32) -> u32 {
        let most = self.config.deliveries_max.map_or(u32::MAX, |max| max.saturating_sub(1));
        let counted = attempts.min(most);
        if counted > 0
            && let Some(slot) = self.reserved(ticket)
        {
            let event = &mut self.events[slot as usize];
            event.attempts = event.attempts.max(counted);
        }
        counted
    }

    /// Gives out what was reserved, with claims under `claim`, which is `attempt` by the store's count and
    /// lasts until `claim_until`. `None` where it is not to go out after all: it is gone, it has no
    /// delivery left and becomes a dead letter, it is to be alone and is not (as `others` says), or one
    /// before it in its run did not go out.
    pub fn deliver(
        &mut self,
        now: Now,
        ticket: Ticket,
        claim: Option<(ClaimTag, u32, Monotonic)>,
        others: bool,
    ) -> Option<Delivery> {
        let slot = self.reserved(ticket)?;
        let event = &mut self.events[slot as usize];
        match claim {
            Some((tag, attempt, until)) => {
                // Of deliveries that went out without a claim the store knows nothing.
                event.attempts = event.attempts.max(attempt.saturating_sub(1));
                event.own = Some(Own { tag, counted: false, asked: None });
                event.own_until = until;
            }
            None => event.own = None,
        }
        let must_be_alone = event.is_last_after_lapses(self.config.deliveries_max);
        // Where only the claim tells that it is to be alone, others were reserved with it: its next turn.
        let is_alone = std::mem::replace(&mut event.alone, must_be_alone) && !others;
        if !self.is_next(slot) {
            self.put_back(slot, State::Ready);
            return None;
        }
        if self.is_used_up(self.events[slot as usize].attempts) {
            self.dead_letter(now, slot);
            return None;
        }
        if must_be_alone && !is_alone {
            self.put_back(slot, State::Ready);
            return None;
        }
        let event = &mut self.events[slot as usize];
        let lane = self.lanes.get_mut(event.lane);
        lane.turn += 1;
        let deadline = now.steady + self.config.ack_timeout.saturating_mul(lane.turn);
        if lane.clock == NONE {
            lane.clock = slot;
            event.state = State::Out { deadline };
            self.timers.set_lapse(deadline, slot, event.number);
        } else {
            event.state = State::Waiting { extended: None };
        }
        if let Some(own) = &mut event.own {
            own.counted = true;
        }
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(event.seen);
        event.seen = true;
        let id = LeaseId { session: self.session, number: ticket.number };
        Some(Delivery {
            lease: Lease { id, offset: ticket.offset },
            claim: event.own.map(|own| own.tag),
            attempt: event.attempts.saturating_add(1),
            deadline,
            run: lane.run,
            record: event.record.clone(),
            retried: event.retried.clone(),
        })
    }

    /// What was reserved was done already, by whomever.
    pub fn done_already(&mut self, now: Now, ticket: Ticket) {
        if let Some(slot) = self.reserved(ticket) {
            self.counters.duplicates += 1;
            self.finish(now, slot);
        }
    }

    /// Whether all that comes before a reserved event in its lane goes out too. What becomes a dead letter
    /// instead is to be kept first.
    fn is_next(&self, slot: u32) -> bool {
        let before = self.events[slot as usize].before;
        before == NONE || self.events[before as usize].state.is_at_client()
    }

    /// What was reserved can never be delivered: it becomes a dead letter at once, under `claim`.
    pub fn reject(&mut self, now: Now, ticket: Ticket, claim: Option<ClaimTag>, failure: Failure) {
        if let Some(slot) = self.reserved(ticket) {
            let event = &mut self.events[slot as usize];
            event.own = claim.map(|tag| Own { tag, counted: false, asked: None });
            if self.is_next(slot) {
                self.events[slot as usize].failed(now.wall, failure);
                self.dead_letter(now, slot);
            } else {
                self.put_back(slot, State::Ready);
            }
        }
    }

    /// Whether an event is read and undecided.
    pub fn knows(&self, offset: Offset) -> bool {
        self.index.get(offset).is_some()
    }

    /// Whether a client has what a ticket names, and may decide it.
    pub fn is_at_client(&self, ticket: Ticket) -> bool {
        self.live(ticket).is_some_and(|slot| self.events[slot as usize].state.is_at_client())
    }

    /// Somebody else is at what was reserved, until `until` at most.
    pub fn held_elsewhere(&mut self, ticket: Ticket, until: Monotonic) {
        if let Some(slot) = self.reserved(ticket) {
            self.events[slot as usize].own = None;
            self.put_back(slot, State::Held { until });
        }
    }

    /// What was reserved is not given out before `until`, and has the claim that it had.
    pub fn hold_back(&mut self, ticket: Ticket, until: Monotonic) {
        if let Some(slot) = self.reserved(ticket) {
            self.put_back(slot, State::Held { until });
        }
    }

    /// What was reserved goes back. `own` is a claim that it may have now.
    pub fn unreserve(&mut self, ticket: Ticket, own: Option<Own>) {
        if let Some(slot) = self.reserved(ticket) {
            let event = &mut self.events[slot as usize];
            event.own = own.or(event.own);
            self.put_back(slot, State::Ready);
        }
    }

    /// Takes back a delivery that never reached its client.
    pub fn give_back(&mut self, lease: Lease) {
        if lease.id.session != self.session {
            return;
        }
        let Some(slot) = self.index.get(lease.offset) else { return };
        let event = &mut self.events[slot as usize];
        if event.number == lease.id.number && event.state.is_at_client() {
            if let Some(own) = &mut event.own {
                own.counted = false;
            }
            self.put_back(slot, State::Ready);
        }
    }

    // ---- what is decided ----

    /// Applies a decision. Those of one request are to be given in the order of their offsets. `None`
    /// where it holds once the effect that was added last is settled: [`Self::settled`],
    /// [`Self::dead_lettered`] or [`Self::extended`] is then the answer.
    pub fn decide(&mut self, now: Now, lease: Lease, decision: Decision) -> Option<Status> {
        if lease.id.session != self.session || self.revoked {
            return Some(Status::Expired);
        }
        let Some(slot) = self.index.get(lease.offset) else {
            // Done, or not a lease of ours at all. Saying so again changes nothing.
            let unknown = lease.offset >= self.position || !self.was_given(lease.id);
            return Some(match decision {
                _ if unknown => Status::Unknown,
                Decision::Ack | Decision::Reject { .. } => Status::Ok,
                Decision::Retry { .. } | Decision::Release { .. } | Decision::Extend(_) => Status::Expired,
            });
        };
        let event = &mut self.events[slot as usize];
        if event.number != lease.id.number || event.number == NO_LEASE {
            return Some(if self.was_given(lease.id) { Status::Expired } else { Status::Unknown });
        }
        if event.superseded {
            return Some(Status::Superseded);
        }
        match (event.state, decision) {
            // It is being settled already; whether it will be is not known yet.
            (State::Settling, _) => Some(Status::Unavailable),
            (State::Reserved, _) => Some(Status::Expired),
            // Late is good too while it is not out again.
            (_, Decision::Ack) => self.ack(now, slot),
            (_, Decision::Reject { failure }) => {
                event.failed(now.wall, failure);
                self.counters.failed += 1;
                self.settle(now, slot);
                self.dead_letter(now, slot);
                None
            }
            (State::Ready | State::Held { .. }, _) => Some(Status::Expired),
            (State::Out { .. } | State::Waiting { .. }, Decision::Retry { after, failure }) => {
                event.failed(now.wall, failure);
                self.counters.failed += 1;
                self.again(now, slot, after)
            }
            (State::Out { .. } | State::Waiting { .. }, Decision::Release { after }) => {
                if let Some(own) = &mut event.own {
                    own.counted = false;
                }
                let until = now.steady + after;
                let state = if after.is_zero() { State::Ready } else { State::Held { until } };
                self.put_back(slot, state);
                Some(Status::Ok)
            }
            (State::Out { .. } | State::Waiting { .. }, Decision::Extend(by)) => match event.own {
                Some(Own { tag: claim, .. }) => {
                    let ticket = Ticket { slot, number: event.number, offset: lease.offset };
                    let lease = by.saturating_add(CLAIM_MARGIN);
                    self.effects.push(Effect::Extend { ticket, claim, lease, answer: true });
                    None
                }
                None => Some(self.extend(now.steady + by, slot)),
            },
        }
    }

    /// Whether a lease of that number was ever given.
    fn was_given(&self, id: LeaseId) -> bool {
        (1..=self.leases).contains(&id.number)
    }

    fn ack(&mut self, now: Now, slot: u32) -> Option<Status> {
        self.settle(now, slot);
        let event = &self.events[slot as usize];
        match event.own {
            Some(Own { tag: claim, .. }) => {
                let ticket = Ticket { slot, number: event.number, offset: event.offset() };
                self.effects.push(Effect::Complete { ticket, claim });
                None
            }
            None => {
                self.finish(now, slot);
                Some(Status::Ok)
            }
        }
    }

    /// What failed comes again, or, when that was its last delivery, never. What came after it in its run
    /// comes again behind it.
    fn again(&mut self, now: Now, slot: u32, after: Option<Duration>) -> Option<Status> {
        let attempts = self.events[slot as usize].attempts;
        self.note_attempts(slot);
        if self.is_used_up(attempts) {
            self.take_back_after(slot);
            self.settle(now, slot);
            self.dead_letter(now, slot);
            return None;
        }
        let delay = match after {
            Some(after) => self.config.backoff.asked(after),
            None => {
                let random = self.random();
                self.config.backoff.delay(attempts, random)
            }
        };
        if self.config.retry_elsewhere && !delay.is_zero() {
            self.take_back_after(slot);
            self.settle(now, slot);
            let letter = Box::new(self.letter(now, slot));
            self.effects.push(Effect::RetryElsewhere { letter, after: delay });
            return None;
        }
        if delay.is_zero() {
            // Behind those that wait, or what fails over and over would keep them all from their turn.
            self.bring_back(slot, State::Ready);
            self.offer_behind(self.events[slot as usize].lane);
        } else {
            self.put_back(slot, State::Held { until: now.steady + delay });
        }
        Some(Status::Ok)
    }

    fn extend(&mut self, until: Monotonic, slot: u32) -> Status {
        let event = &mut self.events[slot as usize];
        match event.state {
            State::Out { deadline } => {
                event.state = State::Out { deadline: until };
                self.timers.remove(deadline, slot, &self.events);
                self.timers.set(until, slot);
                Status::Ok
            }
            State::Waiting { .. } => {
                event.state = State::Waiting { extended: Some(until) };
                Status::Ok
            }
            _ => Status::Expired,
        }
    }

    /// Makes of a decided event a dead letter. It keeps its lane until that is kept.
    fn dead_letter(&mut self, now: Now, slot: u32) {
        self.note_attempts(slot);
        self.events[slot as usize].state = State::Settling;
        let letter = self.letter(now, slot);
        self.effects.push(Effect::DeadLetter(Box::new(letter)));
    }

    /// What is to be kept of an event elsewhere.
    fn letter(&self, now: Now, slot: u32) -> DeadLetter {
        let event = &self.events[slot as usize];
        let lost = || Failures {
            first_at: now.wall,
            last_at: now.wall,
            last: Failure::new(LAPSED, "its deliveries ended without an answer, in another process"),
            lapses_only: true,
        };
        DeadLetter {
            ticket: Ticket { slot, number: event.number, offset: event.record.offset },
            claim: event.own.map(|own| own.tag),
            record: event.record.clone(),
            retried: event.retried.clone(),
            attempts: event.attempts,
            failures: event.failures.as_deref().cloned().unwrap_or_else(lost),
        }
    }

    /// Takes what is to be made durable.
    pub fn take_effects(&mut self, out: &mut Vec<Effect>) {
        out.append(&mut self.effects);
    }

    /// An effect, but an extension, is settled. Answers the status for those who wait for it.
    pub fn settled(&mut self, now: Now, ticket: Ticket, outcome: Outcome) -> Status {
        let settling = |slot: &u32| self.events[*slot as usize].state == State::Settling;
        let Some(slot) = self.live(ticket).filter(settling) else { return Status::Expired };
        match outcome {
            Outcome::Done => {
                self.finish(now, slot);
                Status::Ok
            }
            Outcome::Fenced => {
                let event = &mut self.events[slot as usize];
                event.own = None;
                // Whoever has the claim decides it; saying the same again does not.
                event.number = NO_LEASE;
                self.put_back(slot, State::Ready);
                Status::Expired
            }
        }
    }

    /// A dead letter was kept (or let go): as [`Self::settled`], counted as one.
    pub fn dead_lettered(&mut self, now: Now, ticket: Ticket, outcome: Outcome) -> Status {
        let status = self.settled(now, ticket, outcome);
        self.counters.dead_lettered += u64::from(status == Status::Ok);
        status
    }

    /// What is to wait elsewhere lies there, and is done here.
    pub fn moved(&mut self, now: Now, ticket: Ticket) -> Status {
        let status = self.settled(now, ticket, Outcome::Done);
        self.counters.moved += u64::from(status == Status::Ok);
        status
    }

    /// A claim was extended by `lease` from now. Answers the status for who asked for it.
    pub fn extended(
        &mut self,
        now: Now,
        ticket: Ticket,
        lease: Duration,
        asked: bool,
        outcome: Outcome,
    ) -> Status {
        let Some(slot) = self.live(ticket) else { return Status::Expired };
        let event = &mut self.events[slot as usize];
        match outcome {
            Outcome::Done => event.own_until = event.own_until.max(now.steady + lease),
            Outcome::Fenced => return Status::Expired,
        }
        if asked { self.extend(now.steady + lease.saturating_sub(CLAIM_MARGIN), slot) } else { Status::Ok }
    }

    // ---- what other sessions' leases do ----

    /// An event was completed by a lease of an earlier session. Where it is out again that goes on, and
    /// will find that it is done.
    pub fn done_elsewhere(&mut self, now: Now, offset: Offset) {
        if self.revoked {
            return;
        }
        match self.index.get(offset) {
            Some(slot) if !self.events[slot as usize].state.is_out() => self.finish(now, slot),
            // Not read yet.
            None if offset >= self.position => self.done.insert(offset..offset + 1),
            Some(_) | None => {}
        }
    }

    /// A lease of an earlier session was given up: the event is free, from `until` on.
    pub fn freed_elsewhere(&mut self, offset: Offset, until: Monotonic) {
        let Some(slot) = self.index.get(offset).filter(|_| !self.revoked) else { return };
        let Event { state, lane, .. } = self.events[slot as usize];
        match state {
            State::Held { until: held } => {
                self.timers.remove(held, slot, &self.events);
            }
            State::Ready => self.count_held(lane, true),
            State::Reserved | State::Out { .. } | State::Waiting { .. } | State::Settling => return,
        }
        self.events[slot as usize].state = State::Held { until };
        self.timers.set(until, slot);
    }

    // ---- time ----

    /// Takes back what was not decided in time, and lets go what was held until now.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, slot)) = self.timers.first(&self.events)
            && at <= now.steady
        {
            let event = &mut self.events[slot as usize];
            match event.state {
                State::Out { .. } => {
                    event.failed(now.wall, Failure::new(LAPSED, "no decision came within the time for it"));
                    event.alone = event.is_last_after_lapses(self.config.deliveries_max);
                    self.counters.lapsed += 1;
                    self.again(now, slot, Some(Duration::ZERO));
                }
                State::Held { .. } => {
                    event.state = State::Ready;
                    let lane = event.lane;
                    self.timers.remove(at, slot, &self.events);
                    self.count_held(lane, false);
                    self.offer(lane);
                }
                State::Ready | State::Reserved | State::Waiting { .. } | State::Settling => {
                    // None of these keeps a timer.
                    self.timers.remove(at, slot, &self.events);
                }
            }
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        self.timers.first(&self.events).map(|(at, _)| at)
    }

    /// Ends the session: another may own the partition now. Nothing more is delivered, every lease is over
    /// and its decisions are answered [`Status::Expired`]. What was done stays done, to be committed.
    ///
    /// Answers the claims that nobody needs any more: of events that are at no client. What a client has
    /// keeps its claim, so that it can finish.
    pub fn revoke(&mut self) -> Vec<Own> {
        self.revoked = true;
        let mut unused = Vec::new();
        for (_, event) in &mut self.events {
            let kept = event.state.is_at_client() || event.state == State::Settling;
            if !kept && let Some(own) = event.own.take() {
                unused.push(own);
            }
            // A reservation or an effect that is answered later finds nothing.
            event.number = NO_LEASE;
            event.state = State::Ready;
        }
        self.out = 0;
        self.timers.clear();
        self.lanes.clear_queue();
        self.effects.clear();
        unused
    }

    // ---- what is known of it ----

    /// The offset to commit: everything before it is done.
    pub fn committable(&self) -> Offset {
        self.index.first().map_or(self.position, |(offset, _)| offset)
    }

    /// What is done beyond [`Self::committable`]. It may hold offsets at which there is no event.
    ///
    /// Made anew at every call, at a cost that grows with what is buffered: once a commit, not once an event.
    pub fn done_beyond(&self) -> DoneSet {
        self.index.done_ranges().chain(self.done.ranges()).collect()
    }

    /// The deliveries that counted, of undecided events; without claims alone.
    pub fn attempts(&self) -> &BTreeMap<Offset, u32> {
        &self.attempted
    }

    /// The next offset to be read.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// How many events are out.
    pub fn in_flight(&self) -> usize {
        self.out
    }

    /// How many events wait because they, or earlier ones of their key, are to be tried again.
    pub fn held(&self) -> usize {
        self.held_events
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    // ---- the machinery ----

    fn is_used_up(&self, attempts: u32) -> bool {
        self.config.deliveries_max.is_some_and(|max| attempts >= max)
    }

    fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): drawn from a seed, so that a run can be played again.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn note_attempts(&mut self, slot: u32) {
        let event = &self.events[slot as usize];
        if !self.config.claims && event.attempts > 0 {
            self.attempted.insert(event.offset(), event.attempts);
        }
    }

    /// Puts a lane in the queue where it has something to give.
    fn offer(&mut self, lane: u32) {
        if let Some(head) = self.next_of(lane) {
            // What was out already comes before what was not.
            let again = self.events[head as usize].seen;
            self.lanes.enqueue(lane, again);
        }
    }

    /// As [`Self::offer`], behind all that wait.
    fn offer_behind(&mut self, lane: u32) {
        if self.next_of(lane).is_some() {
            self.lanes.enqueue(lane, false);
        }
    }

    /// What a lane may give now.
    fn next_of(&self, lane: u32) -> Option<u32> {
        let of = self.lanes.get(lane);
        let ready = of.head != NONE && self.events[of.head as usize].state == State::Ready;
        (of.out == 0 && ready).then_some(of.head)
    }

    /// Counts an event of a lane that is held, or is not any more.
    fn count_held(&mut self, lane: u32, held: bool) {
        let of = self.lanes.get_mut(lane);
        let before = of.held > 0;
        of.held = if held { of.held + 1 } else { of.held - 1 };
        match (before, of.held > 0) {
            (false, true) => {
                self.held_events += of.events;
                self.held_bytes += of.bytes;
            }
            (true, false) => {
                self.held_events -= of.events;
                self.held_bytes -= of.bytes;
            }
            _ => {}
        }
    }

    /// An event is decided: its clock stops and that of the next of its run starts. It keeps its lane.
    fn settle(&mut self, now: Now, slot: u32) {
        let event = &mut self.events[slot as usize];
        let before = std::mem::replace(&mut event.state, State::Settling);
        let lane = event.lane;
        match before {
            State::Out { deadline } => {
                self.timers.remove(deadline, slot, &self.events);
            }
            State::Held { until } => {
                self.timers.remove(until, slot, &self.events);
                self.count_held(lane, false);
            }
            _ => {}
        }
        if !before.is_out() {
            self.lanes.get_mut(lane).out += 1;
            self.out += 1;
        }
        self.pass_clock(now, slot);
    }

    /// Where the clock of the run is an event's that is decided, it goes to the next one that is not.
    fn pass_clock(&mut self, now: Now, slot: u32) {
        let event = &self.events[slot as usize];
        let (lane, mut next) = (event.lane, event.after);
        if self.lanes.get(lane).clock != slot {
            return;
        }
        while next != NONE && self.events[next as usize].state == State::Settling {
            next = self.events[next as usize].after;
        }
        let clock = if next != NONE
            && let State::Waiting { extended } = self.events[next as usize].state
        {
            self.start_clock(now, next, extended);
            next
        } else {
            NONE
        };
        self.lanes.get_mut(lane).clock = clock;
    }

    fn start_clock(&mut self, now: Now, slot: u32, extended: Option<Monotonic>) {
        let deadline = now.steady + self.config.ack_timeout;
        let deadline = extended.map_or(deadline, |extended| extended.max(deadline));
        let event = &mut self.events[slot as usize];
        event.state = State::Out { deadline };
        self.timers.set_lapse(deadline, slot, event.number);
        if let Some(own) = event.own
            && event.own_until < deadline + CLAIM_MARGIN
        {
            let ticket = Ticket { slot, number: event.number, offset: event.record.offset };
            let lease = (deadline + CLAIM_MARGIN).since(now.steady);
            self.effects.push(Effect::Extend { ticket, claim: own.tag, lease, answer: false });
        }
    }

    /// An event that is out is not any more: it is ready, or held. Those of its run after it come again
    /// behind it.
    fn put_back(&mut self, slot: u32, state: State) {
        self.bring_back(slot, state);
        self.offer(self.events[slot as usize].lane);
    }

    /// As [`Self::put_back`]; the lane is still to be offered.
    fn bring_back(&mut self, slot: u32, state: State) {
        self.take_back_after(slot);
        let event = &mut self.events[slot as usize];
        let before = std::mem::replace(&mut event.state, state);
        let lane = event.lane;
        match before {
            State::Out { deadline } => {
                self.timers.remove(deadline, slot, &self.events);
            }
            // No client has a lease of it.
            State::Reserved => event.number = NO_LEASE,
            _ => {}
        }
        self.let_out(lane, slot);
        if let State::Held { until } = state {
            self.timers.set(until, slot);
            self.count_held(lane, true);
        }
    }

    fn let_out(&mut self, lane: u32, slot: u32) {
        let of = self.lanes.get_mut(lane);
        of.out -= 1;
        self.out -= 1;
        if of.clock == slot {
            of.clock = NONE;
        }
    }

    /// Takes back what clients have of a run after an event of it.
    fn take_back_after(&mut self, slot: u32) {
        let mut next = self.events[slot as usize].after;
        while next != NONE {
            let event = &mut self.events[next as usize];
            let (after, lane) = (event.after, event.lane);
            match event.state {
                State::Ready | State::Held { .. } => return,
                // One that is being claimed learns by itself that one before it did not go out; one that
                // is decided stays so.
                State::Reserved | State::Settling => {}
                State::Out { .. } | State::Waiting { .. } => {
                    let before = std::mem::replace(&mut event.state, State::Ready);
                    event.superseded = true;
                    if let Some(own) = &mut event.own {
                        own.counted = false;
                    }
                    if let State::Out { deadline } = before {
                        self.timers.remove(deadline, next, &self.events);
                    }
                    self.let_out(lane, next);
                }
            }
            next = after;
        }
    }

    /// An event is done.
    fn finish(&mut self, now: Now, slot: u32) {
        self.remove(now, slot);
        self.counters.done += 1;
        self.came_on();
    }

    /// Forgets an event that is no longer to be delivered.
    fn remove(&mut self, now: Now, slot: u32) {
        if self.lanes.get(self.events[slot as usize].lane).clock == slot {
            self.pass_clock(now, slot);
        }
        let event = self.events.remove(slot as usize);
        let offset = event.offset();
        self.index.done(offset);
        self.attempted.remove(&offset);
        self.bytes -= event.bytes;
        match event.state {
            State::Out { deadline } => {
                self.timers.remove(deadline, slot, &self.events);
            }
            State::Held { until } => {
                self.timers.remove(until, slot, &self.events);
                self.count_held(event.lane, false);
            }
            _ => {}
        }
        let lane = self.lanes.get_mut(event.lane);
        if event.state.is_out() {
            lane.out -= 1;
            self.out -= 1;
        }
        if lane.held > 0 {
            self.held_events -= 1;
            self.held_bytes -= event.bytes;
        }
        lane.events -= 1;
        lane.bytes -= event.bytes;
        if event.before == NONE {
            lane.head = event.after;
        } else {
            self.events[event.before as usize].after = event.after;
        }
        if event.after == NONE {
            lane.tail = event.before;
        } else {
            self.events[event.after as usize].before = event.before;
        }
        if lane.events == 0 {
            self.lanes.forget(event.lane);
        } else {
            self.offer(event.lane);
        }
    }

    /// The prefix may have grown.
    fn came_on(&mut self) {
        if !self.intake
            && let Some((_, first)) = self.index.first()
        {
            self.lanes.unpark_one(self.events[first as usize].lane);
        }
        let committable = self.committable();
        // What was counted for an event that is not there any more.
        while let Some(entry) = self.attempted.first_entry().filter(|entry| *entry.key() < committable) {
            entry.remove();
        }
    }
}

fn overlap(one: &Range<Offset>, other: &Range<Offset>) -> u64 {
    one.end.min(other.end).saturating_sub(one.start.max(other.start))
}
