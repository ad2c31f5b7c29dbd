//! What goes out: takes, and what becomes of what they reserve.

use super::*;

impl World {
    pub(super) fn take(&mut self, max: usize, lanes_max: usize, bytes_max: usize, others: bool) -> Checked {
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
            prop_assert!(self.model.may_go(at), "it was never out");
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
                let beyond = self.model.events[at].offset() + 1;
                self.model.high_water = self.model.high_water.max(beyond);
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
    pub(super) fn resolve(&mut self, which: usize, how: How) -> Checked {
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
                    (event.store_token, event.store_differs) = (None, true);
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
                let own = claims.then_some(match own {
                    Some(own) => Own { asked: Some(tag.token), ..own },
                    None => Own { tag, counted: false, asked: Some(tag.token) },
                });
                self.core.unreserve(ticket, own);
                let event = &mut self.model.events[at];
                event.own = own;
                event.store_token = own.map(|own| own.tag.token);
                event.store_differs |= event.store_attempts != event.attempts;
                self.model.put_back(at, Doing::Ready);
            }
            How::Reject => {
                // How often it was out by the store's count is not said here.
                let attempts = self.model.events[at].attempts;
                let tag = if claims { Some(self.claim(at, own, 0)?.0) } else { None };
                let event = &mut self.model.events[at];
                event.attempts = attempts;
                event.store_differs |= event.store_attempts != attempts;
                self.core.reject(now, ticket, tag, failure());
                self.model.events[at].own = tag.map(|tag| Own { tag, counted: false, asked: None });
                self.model.reject(at);
            }
        }
        Ok(())
    }

    pub(super) fn tag(&mut self, at: usize) -> ClaimTag {
        self.tokens += 1;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.model.events[at].offset().to_be_bytes());
        ClaimTag { key: ClaimKey(key), token: Token(self.tokens) }
    }

    /// What a store of claims says: what is given up counts as an attempt, or does not.
    pub(super) fn claim(
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
                if !event.store_differs {
                    prop_assert_eq!(event.store_attempts, event.attempts, "counted wrongly: {:?}", own);
                }
            }
            None => event.store_attempts += others_failed,
        }
        event.store_token = Some(tag.token);
        event.store_differs = event.store_attempts < event.attempts;
        event.attempts = event.attempts.max(event.store_attempts);
        Ok((tag, event.store_attempts + 1))
    }

    pub(super) fn deliver(
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
            retried: None,
        };
        prop_assert_eq!(delivery, expected);
        // Nothing of the lane that is not decided comes behind what goes out, its run apart.
        for before in self.model.before(at).into_iter().map(|before| &self.model.events[before]) {
            prop_assert!(before.is_out(), "{} overtakes {}", ticket.offset, before.offset());
            prop_assert!(!before.is_at_client() || before.run == event.run, "two runs are out");
        }
        Ok(())
    }
}
