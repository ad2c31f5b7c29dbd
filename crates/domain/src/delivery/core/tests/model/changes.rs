//! What each input changes.

use super::*;

impl Model {
    /// Reads what the log holds from the position on.
    pub(in super::super) fn read(&mut self, offsets: &[Offset], next: Offset) {
        for offset in offsets {
            let at = self.events.iter().position(|event| event.offset() == *offset).unwrap();
            self.position = offset + 1;
            let event = &mut self.events[at];
            if event.done {
                continue;
            }
            if event.incoming.passed_over {
                event.done = true;
                self.counters.passed_over += 1;
                continue;
            }
            event.read = true;
            event.doing = match event.incoming.not_before.filter(|until| *until > self.now) {
                Some(until) => Doing::Held(until),
                None => Doing::Ready,
            };
            if self.is_used_up(at) {
                self.reserve(at);
                self.dead_letter(at);
            }
        }
        self.position = self.position.max(next);
    }

    pub(in super::super) fn reserve(&mut self, at: usize) -> u64 {
        self.leases += 1;
        let event = &mut self.events[at];
        (event.doing, event.lease, event.superseded) = (Doing::Reserved, self.leases, false);
        self.leases
    }

    /// Whether what is reserved goes out, where it was reserved alone or not.
    pub(in super::super) fn deliver(&mut self, at: usize, alone: bool) -> Option<Monotonic> {
        if !self.is_next(at) {
            self.put_back(at, Doing::Ready);
            return None;
        }
        if self.is_used_up(at) {
            self.dead_letter(at);
            return None;
        }
        if self.must_be_alone(at) && !alone {
            self.put_back(at, Doing::Ready);
            return None;
        }
        let turn = self.turns.entry(self.events[at].run).or_default();
        *turn += 1;
        let deadline = self.now + self.config.ack_timeout * *turn;
        let has_clock = self
            .lane(at)
            .iter()
            .any(|other| matches!(self.events[*other].doing, Doing::Out { deadline: Some(_), .. }));
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(self.events[at].seen);
        let event = &mut self.events[at];
        event.count(true);
        event.seen = true;
        event.doing = Doing::Out { deadline: (!has_clock).then_some(deadline), extended: None };
        Some(deadline)
    }

    fn is_next(&self, at: usize) -> bool {
        self.before(at).last().is_none_or(|before| self.events[*before].is_at_client())
    }

    pub(in super::super) fn claimed(&mut self, at: usize, own: Option<(Own, Monotonic)>) {
        let event = &mut self.events[at];
        event.own = own.map(|(own, _)| own);
        event.own_until = own.map_or(event.own_until, |(_, until)| until);
    }

    pub(in super::super) fn finish(&mut self, at: usize) {
        self.events[at].done = true;
        self.counters.done += 1;
        self.wind();
    }

    pub(in super::super) fn put_back(&mut self, at: usize, doing: Doing) {
        for other in self.after(at) {
            if self.events[other].is_at_client() {
                let event = &mut self.events[other];
                (event.doing, event.superseded) = (Doing::Ready, true);
                event.count(false);
            }
        }
        let event = &mut self.events[at];
        if event.doing == Doing::Reserved {
            event.lease = 0;
        }
        event.doing = doing;
        self.wind();
    }

    /// The first of a run that is at a client has its clock running.
    pub(in super::super) fn wind(&mut self) {
        for at in self.undecided() {
            let Doing::Out { deadline: None, extended } = self.events[at].doing else { continue };
            if self.before(at).iter().any(|before| self.events[*before].is_at_client()) {
                continue;
            }
            let deadline = (self.now + self.config.ack_timeout).max(extended.unwrap_or_default());
            let event = &mut self.events[at];
            event.doing = Doing::Out { deadline: Some(deadline), extended };
            if event.own.is_some() && event.own_until < deadline + CLAIM_MARGIN {
                let lease = (deadline + CLAIM_MARGIN).since(self.now);
                self.wants.push(Want::Extend(event.offset(), lease, false));
            }
        }
    }

    pub(in super::super) fn dead_letter(&mut self, at: usize) {
        let event = &mut self.events[at];
        event.doing = Doing::Settling;
        self.wants.push(Want::DeadLetter(event.offset(), event.attempts));
        self.wind();
    }

    /// A reservation turns out to be undecodable.
    pub(in super::super) fn reject(&mut self, at: usize) {
        if self.is_next(at) {
            self.events[at].failed(false);
            self.dead_letter(at);
        } else {
            self.put_back(at, Doing::Ready);
        }
    }

    fn again(&mut self, at: usize, delay: Duration) -> Option<Status> {
        if self.is_used_up(at) {
            self.put_back(at, Doing::Ready);
            self.dead_letter(at);
            return None;
        }
        if self.config.retry_elsewhere && !delay.is_zero() {
            self.put_back(at, Doing::Ready);
            let event = &mut self.events[at];
            event.doing = Doing::Settling;
            self.wants.push(Want::RetryElsewhere(event.offset(), event.attempts, delay));
            self.wind();
            return None;
        }
        let doing = if delay.is_zero() { Doing::Ready } else { Doing::Held(self.now + delay) };
        self.put_back(at, doing);
        Some(Status::Ok)
    }

    pub(in super::super) fn tick(&mut self) {
        while let Some((at, _)) = self.timers().into_iter().min_by_key(|(_, time)| *time)
            && self.timers().iter().any(|(other, time)| *other == at && *time <= self.now)
        {
            if let Doing::Held(_) = self.events[at].doing {
                self.events[at].doing = Doing::Ready;
                continue;
            }
            self.events[at].failed(true);
            self.counters.lapsed += 1;
            self.again(at, Duration::ZERO);
        }
    }

    pub(in super::super) fn timers(&self) -> Vec<(usize, Monotonic)> {
        let time_of = |at: usize| match self.events[at].doing {
            Doing::Held(until) => Some((at, until)),
            Doing::Out { deadline, .. } => deadline.map(|deadline| (at, deadline)),
            Doing::Ready | Doing::Reserved | Doing::Settling => None,
        };
        self.undecided().into_iter().filter_map(time_of).collect()
    }

    /// What becomes of a decision by a lease of this session.
    pub(in super::super) fn decide(&mut self, lease: Lease, decision: &Decision) -> Option<Status> {
        let was_given = lease.id.number > 0 && lease.id.number <= self.leases;
        let Some(at) = self.find(lease.offset) else {
            return Some(match decision {
                _ if !was_given || lease.offset >= self.position => Status::Unknown,
                Decision::Ack | Decision::Reject { .. } => Status::Ok,
                _ => Status::Expired,
            });
        };
        let event = &mut self.events[at];
        if !was_given {
            return Some(Status::Unknown);
        }
        if event.lease != lease.id.number || event.doing == Doing::Reserved {
            return Some(Status::Expired);
        }
        if event.superseded {
            return Some(Status::Superseded);
        }
        if event.doing == Doing::Settling {
            return Some(Status::Unavailable);
        }
        match decision {
            Decision::Ack => {
                event.doing = Doing::Settling;
                if event.own.is_none() {
                    self.finish(at);
                    return Some(Status::Ok);
                }
                self.wants.push(Want::Complete(lease.offset));
                self.wind();
                None
            }
            Decision::Reject { .. } => {
                event.failed(false);
                self.counters.failed += 1;
                self.dead_letter(at);
                None
            }
            _ if !event.is_at_client() => Some(Status::Expired),
            &Decision::Retry { after, .. } => {
                event.failed(false);
                self.counters.failed += 1;
                let attempts = event.attempts;
                let delay = after.unwrap_or_else(|| self.config.backoff.delay(attempts, 0));
                self.again(at, delay.min(self.config.backoff.max))
            }
            &Decision::Release { after } => {
                event.count(false);
                let until = self.now + after;
                self.put_back(at, if after.is_zero() { Doing::Ready } else { Doing::Held(until) });
                Some(Status::Ok)
            }
            &Decision::Extend(by) if event.own.is_some() => {
                self.wants.push(Want::Extend(lease.offset, by + CLAIM_MARGIN, true));
                None
            }
            &Decision::Extend(by) => Some(self.extend(at, self.now + by)),
        }
    }

    fn extend(&mut self, at: usize, until: Monotonic) -> Status {
        let event = &mut self.events[at];
        event.doing = match event.doing {
            Doing::Out { deadline: Some(_), extended } => Doing::Out { deadline: Some(until), extended },
            Doing::Out { deadline: None, .. } => Doing::Out { deadline: None, extended: Some(until) },
            _ => return Status::Expired,
        };
        Status::Ok
    }

    /// The event that a lease or a reservation still names.
    pub(in super::super) fn live(&self, ticket: Ticket) -> Option<usize> {
        self.find(ticket.offset).filter(|at| self.events[*at].lease == ticket.number)
    }

    pub(in super::super) fn settled(&mut self, ticket: Ticket, outcome: Outcome) -> Status {
        let Some(at) = self.live(ticket).filter(|at| self.events[*at].doing == Doing::Settling) else {
            return Status::Expired;
        };
        if outcome == Outcome::Done {
            self.finish(at);
            return Status::Ok;
        }
        let event = &mut self.events[at];
        (event.own, event.store_token, event.lease) = (None, None, 0);
        self.put_back(at, Doing::Ready);
        Status::Expired
    }

    pub(in super::super) fn extended(
        &mut self,
        ticket: Ticket,
        lease: Duration,
        asked: bool,
        outcome: Outcome,
    ) -> Status {
        match self.live(ticket) {
            Some(at) if outcome == Outcome::Done => {
                let event = &mut self.events[at];
                event.own_until = event.own_until.max(self.now + lease);
                if asked {
                    self.extend(at, self.now + lease.saturating_sub(CLAIM_MARGIN))
                } else {
                    Status::Ok
                }
            }
            _ => Status::Expired,
        }
    }

    pub(in super::super) fn freed(&mut self, offset: Offset, until: Monotonic) {
        if let Some(at) = self.find(offset).filter(|at| !self.events[*at].is_out()) {
            self.events[at].doing = Doing::Held(until);
        }
    }

    /// Another session begins at `start`, with what this one says is done.
    pub(in super::super) fn restart(&mut self, start: Offset, high_water: Offset) {
        let claims = self.config.claims;
        for event in &mut self.events {
            if claims {
                // What was at no client was let go; what was lapses.
                let counted = event.own.is_some_and(|own| own.counted) || event.is_at_client();
                event.store_attempts += u32::from(event.read && event.own.is_some() && counted);
                event.store_token = None;
                event.attempts = event.incoming.attempts;
            }
            let fresh = Self::fresh(event);
            *event = fresh;
            event.read &= event.offset() < start;
        }
        (self.position, self.high_water, self.intake, self.leases) = (start, high_water, true, 0);
        (self.turns, self.counters, self.wants) = (HashMap::new(), Counters::default(), Vec::new());
    }

    fn fresh(event: &Known) -> Known {
        Known {
            read: event.read,
            done: event.done,
            attempts: event.attempts,
            store_attempts: event.store_attempts,
            ..Known::new(event.incoming.clone())
        }
    }
}
