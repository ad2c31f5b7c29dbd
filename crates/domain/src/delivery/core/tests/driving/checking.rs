//! What must hold: after each step, after the end of a session, and in the end.

use super::*;

impl World {
    /// The session ends, and another begins with what this one says.
    pub(super) fn restart(&mut self) -> Checked {
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
    pub(super) fn check_revoked(&mut self, committable: Offset) -> Checked {
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

    pub(super) fn gather(&mut self) {
        let known = self.effects.len();
        self.core.take_effects(&mut self.effects);
        self.asked_for.extend(self.effects[known..].iter().map(want_of));
    }

    pub(super) fn check(&mut self) -> Checked {
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
    pub(super) fn drain(&mut self) -> Checked {
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
                    self.model.decide(lease, &Decision::Ack);
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
