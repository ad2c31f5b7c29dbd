//! Decisions, and what makes them hold: claims completed, extended and released, a batch at a time.
//!
//! Invariants:
//! - With claims on, an acknowledgement is answered `ok` only after its claim was completed.
//! - What the core wants to be completed is tried until the store answers; whoever waits for it is told
//!   `unavailable` at the first failure, and may say it again.
//! - A decision by a lease of an earlier session, or of another replica's partition, holds where the store
//!   says so: its claim was not taken over by the next one.

use super::{
    Item, PartitionKey,
    actor::Actor,
    leaving::{Goes, Kept},
};
use crate::delivery::{CLAIM_MARGIN, ClaimTag, Decision, Effect, Now, Outcome, Own, Status, Ticket};
use bytes::Bytes;
use futures::future::BoxFuture;
use ports::{ClaimKey, Monotonic, Offset, PortError, Settled, Settlement};
use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};
use tokio::sync::oneshot;

/// The most settlements of one call.
const BATCH_MAX: usize = 2_000;
/// The most calls under way at once.
const CALLS_MAX: usize = 4;

/// The outcome that a handled event leaves at the store.
const HANDLED: &[u8] = b"h";
/// And one that became a dead letter; its id follows.
const DEAD: &[u8] = b"d";

/// Who waits for a decision: a request, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) reply: usize,
    pub(super) index: usize,
}

/// A request whose answers are not all known.
pub(super) struct Reply {
    statuses: Vec<(usize, Status)>,
    open: usize,
    to: oneshot::Sender<Vec<(usize, Status)>>,
}

/// Something that the store is to make hold.
pub(super) struct ToSettle {
    key: PartitionKey,
    session: u32,
    claim: ClaimTag,
    what: What,
    asked: Option<Asked>,
}

enum What {
    /// An event of a core is handled.
    Complete { ticket: Ticket },
    /// A dead letter of a core is kept.
    Dead { ticket: Ticket, id: Bytes },
    /// An event of a core waits elsewhere.
    Moved { ticket: Ticket, goes: Goes },
    /// A claim of a core goes on.
    Extend { ticket: Ticket, lease: Duration },
    /// A claim that nobody needs.
    Release { counted: bool },
    /// A decision by a lease of another session.
    Elsewhere { offset: Offset, decision: Elsewhere },
}

#[derive(Clone, Copy)]
enum Elsewhere {
    Ack,
    Retry { after: Duration },
    Release,
    Extend { by: Duration },
}

impl ToSettle {
    fn settlement(&self, keep: Duration) -> Settlement {
        let complete = |outcome: Bytes| Settlement::Complete { outcome, keep };
        match &self.what {
            What::Complete { .. } | What::Elsewhere { decision: Elsewhere::Ack, .. } => {
                complete(Bytes::from_static(HANDLED))
            }
            What::Dead { id, .. } => complete([DEAD, id].concat().into()),
            What::Extend { lease, .. } => Settlement::Extend { lease: *lease },
            What::Release { counted } => Settlement::Release { counted: *counted },
            What::Moved { .. } => Settlement::Release { counted: true },
            What::Elsewhere { decision: Elsewhere::Retry { .. }, .. } => {
                Settlement::Release { counted: true }
            }
            What::Elsewhere { decision: Elsewhere::Release, .. } => Settlement::Release { counted: false },
            What::Elsewhere { decision: Elsewhere::Extend { by }, .. } => {
                Settlement::Extend { lease: *by + CLAIM_MARGIN }
            }
        }
    }

    /// Whether it is tried until it holds: the core waits for it.
    fn must_hold(&self) -> bool {
        matches!(self.what, What::Complete { .. } | What::Dead { .. } | What::Moved { .. })
    }
}

/// What a call to the store came to.
pub(super) struct SettledBatch {
    batch: Vec<ToSettle>,
    outcome: Result<Vec<Settled>, PortError>,
}

/// What is to be settled, and what is under way.
#[derive(Default)]
pub(super) struct Settling {
    queue: VecDeque<ToSettle>,
    not_before: Option<Monotonic>,
    under_way: usize,
}

impl Settling {
    /// When there is something to do that nobody else wakes the task for.
    pub(super) fn timer(&self) -> Option<Monotonic> {
        self.not_before.filter(|_| !self.queue.is_empty() && self.under_way < CALLS_MAX)
    }
}

impl Actor {
    pub(super) fn decide(&mut self, mut items: Vec<Item>, to: oneshot::Sender<Vec<(usize, Status)>>) {
        let now = self.context.both();
        // Decisions of one request apply in offset order, whichever list they stand in.
        items.sort_by_key(|item| (item.key, item.lease.offset));
        self.decided += items.len();
        // Here before anything is decided: what holds at once is answered at once.
        let statuses = Vec::with_capacity(items.len());
        let reply = self.replies.insert(Reply { statuses, open: items.len(), to });
        let mut touched = Vec::new();
        let mut effects = Vec::new();
        for item in items {
            let Item { index, key, lease, claim, decision } = item;
            let asked = Asked { reply, index };
            // What is decided already is known to the store: whether by an acknowledgement or otherwise.
            let owned = self.owned.get_mut(&key).filter(|owned| {
                owned.session == lease.id.session && (claim.is_none() || owned.core.knows(lease.offset))
            });
            let status = match owned {
                Some(owned) => {
                    let status = owned.core.decide(now, lease, decision);
                    let session = owned.session;
                    owned.core.take_effects(&mut effects);
                    let last = effects.len();
                    for (nth, effect) in effects.drain(..).enumerate() {
                        // What waits for it is the effect that was added last.
                        let asked = (status.is_none() && nth + 1 == last).then_some(asked);
                        self.queue_effect(key, session, effect, asked);
                    }
                    status
                }
                None => self.decide_elsewhere(key, lease.id.session, lease.offset, claim, &decision, asked),
            };
            if let Some(status) = status {
                self.reply(Some(asked), status);
            }
            if touched.last() != Some(&key) {
                touched.push(key);
            }
        }
        touched.into_iter().for_each(|key| self.touch(key));
    }

    /// A decision by a lease that no core here knows: what was out under another owner.
    fn decide_elsewhere(
        &mut self,
        key: PartitionKey,
        session: u32,
        offset: Offset,
        claim: Option<ClaimTag>,
        decision: &Decision,
        asked: Asked,
    ) -> Option<Status> {
        let claim = match claim {
            Some(claim) if self.context.definition.dedup.enabled => claim,
            // Nobody holds it for the client: it comes again where it is owned.
            _ => return Some(Status::Expired),
        };
        let decision = match decision {
            Decision::Ack => Elsewhere::Ack,
            Decision::Retry { after, .. } => Elsewhere::Retry { after: after.unwrap_or_default() },
            Decision::Release { .. } => Elsewhere::Release,
            Decision::Extend(by) => Elsewhere::Extend { by: *by },
            // A dead letter needs the event, which only a delivery of this session's has.
            Decision::Reject { .. } => return Some(Status::Unavailable),
        };
        let what = What::Elsewhere { offset, decision };
        self.settling_queue().push_back(ToSettle { key, session, claim, what, asked: Some(asked) });
        None
    }

    fn settling_queue(&mut self) -> &mut VecDeque<ToSettle> {
        &mut self.settling.queue
    }

    /// Takes what a core wants to be made durable.
    pub(super) fn queue_effect(
        &mut self,
        key: PartitionKey,
        session: u32,
        effect: Effect,
        asked: Option<Asked>,
    ) {
        match effect {
            Effect::Complete { ticket, claim } => {
                let what = What::Complete { ticket };
                self.settling_queue().push_back(ToSettle { key, session, claim, what, asked });
            }
            Effect::Extend { ticket, claim, lease, .. } => {
                let what = What::Extend { ticket, lease };
                self.settling_queue().push_back(ToSettle { key, session, claim, what, asked });
            }
            Effect::DeadLetter(letter) => self.queue_dead_letter(key, session, *letter, asked),
            Effect::RetryElsewhere { letter, after } => {
                self.queue_retry(key, session, *letter, after, asked);
            }
        }
    }

    /// What leaves its partition is kept elsewhere: its claim is completed, or let go where it comes again, and
    /// then it is done here.
    pub(super) fn left(&mut self, kept: Kept) {
        let Kept { key, session, ticket, claim, goes, id, asked } = kept;
        match claim {
            Some(claim) => {
                let what = match goes {
                    Goes::Dead => What::Dead { ticket, id },
                    Goes::Waits { .. } => What::Moved { ticket, goes },
                };
                self.settling_queue().push_back(ToSettle { key, session, claim, what, asked });
            }
            None => {
                let status = self.gone(key, session, ticket, goes, Outcome::Done);
                self.reply(asked, status);
            }
        }
    }

    /// Tells a core that what was to leave has left, or is not to.
    pub(super) fn gone(
        &mut self,
        key: PartitionKey,
        session: u32,
        ticket: Ticket,
        goes: Goes,
        outcome: Outcome,
    ) -> Status {
        let now = self.context.both();
        let Some(owned) = self.owned.get_mut(&key).filter(|owned| owned.session == session) else {
            // It is kept, and is found so by its claim or its id.
            return if outcome == Outcome::Done { Status::Ok } else { Status::Expired };
        };
        let status = match goes {
            Goes::Dead => owned.core.dead_lettered(now, ticket, outcome),
            Goes::Waits { .. } => owned.core.moved(now, ticket),
        };
        self.touch(key);
        status
    }

    /// Lets go of claims that nobody needs.
    pub(super) fn release(&mut self, unused: Vec<Own>) {
        let key = PartitionKey { topic: 0, partition: 0 };
        for Own { tag: claim, counted, asked } in unused {
            // Where it may have been replaced, one of the two is fenced, and the other one released.
            for token in std::iter::once(claim.token).chain(asked.filter(|asked| *asked != claim.token)) {
                let claim = ClaimTag { token, ..claim };
                let what = What::Release { counted };
                self.settling_queue().push_back(ToSettle { key, session: 0, claim, what, asked: None });
            }
        }
    }

    /// Sends what is to be settled to the store, in batches of distinct keys.
    pub(super) fn settle_if_due(&mut self) {
        let now = self.context.now();
        if self.settling.not_before.is_some_and(|at| at > now) {
            return;
        }
        while !self.settling.queue.is_empty() && self.settling.under_way < CALLS_MAX {
            let mut seen: HashSet<ClaimKey> =
                HashSet::with_capacity(self.settling.queue.len().min(BATCH_MAX));
            let mut batch = Vec::with_capacity(self.settling.queue.len().min(BATCH_MAX));
            let mut later = VecDeque::new();
            while let Some(next) = self.settling.queue.pop_front() {
                if batch.len() >= BATCH_MAX {
                    self.settling.queue.push_front(next);
                    break;
                }
                if self.is_moot(&next) {
                    continue;
                }
                if seen.insert(next.claim.key) { batch.push(next) } else { later.push_back(next) }
            }
            while let Some(next) = later.pop_back() {
                self.settling.queue.push_front(next);
            }
            if batch.is_empty() {
                return;
            }
            self.settling.under_way += 1;
            self.settles.push(self.settle(batch));
        }
    }

    /// An extension that nobody asked for, of an event that is decided by now.
    fn is_moot(&self, next: &ToSettle) -> bool {
        let What::Extend { ticket, .. } = &next.what else { return false };
        let held = self
            .owned
            .get(&next.key)
            .is_some_and(|owned| owned.session == next.session && owned.core.is_at_client(*ticket));
        next.asked.is_none() && !held
    }

    fn settle(&self, batch: Vec<ToSettle>) -> BoxFuture<'static, SettledBatch> {
        let keep = self.context.definition.dedup.ttl;
        let store = self.context.ports.idempotency.clone();
        let settlements =
            batch.iter().map(|one| (one.claim.key, one.claim.token, one.settlement(keep))).collect();
        Box::pin(async move {
            let outcome = store.settle(settlements).await;
            SettledBatch { batch, outcome }
        })
    }

    /// Applies what the store said.
    pub(super) fn settled(&mut self, settled: SettledBatch) {
        let SettledBatch { batch, outcome } = settled;
        self.settling.under_way -= 1;
        match outcome {
            Ok(outcomes) => {
                self.store.answered();
                self.settling.not_before = None;
                let (now, mut touched) = (self.context.both(), Vec::with_capacity(8));
                for (one, outcome) in batch.into_iter().zip(outcomes) {
                    let outcome = match outcome {
                        Settled::Applied => Outcome::Done,
                        Settled::Fenced => Outcome::Fenced,
                    };
                    if touched.last() != Some(&one.key) {
                        touched.push(one.key);
                    }
                    let status = self.apply(now, &one, outcome);
                    self.reply(one.asked, status);
                }
                self.touch_all(touched);
            }
            Err(error) => {
                self.store.failed(&self.context, &error);
                self.settling.not_before = self.store.away_until();
                for mut one in batch.into_iter().rev() {
                    self.reply(one.asked.take(), Status::Unavailable);
                    if one.must_hold() {
                        self.settling.queue.push_front(one);
                    }
                }
            }
        }
    }

    fn apply(&mut self, now: Now, one: &ToSettle, outcome: Outcome) -> Status {
        let holds = if outcome == Outcome::Done { Status::Ok } else { Status::Expired };
        let owned = self.owned.get_mut(&one.key);
        match &one.what {
            // A core that is gone does not matter: what the store says is what holds.
            What::Complete { ticket } => match owned.filter(|owned| owned.session == one.session) {
                Some(owned) => owned.core.settled(now, *ticket, outcome),
                None => holds,
            },
            What::Dead { ticket, .. } => self.gone(one.key, one.session, *ticket, Goes::Dead, outcome),
            // It waits elsewhere, whoever has the claim by now.
            What::Moved { ticket, goes } => self.gone(one.key, one.session, *ticket, *goes, Outcome::Done),
            What::Extend { ticket, lease } => match owned.filter(|owned| owned.session == one.session) {
                Some(owned) => owned.core.extended(now, *ticket, *lease, one.asked.is_some(), outcome),
                None => holds,
            },
            What::Release { .. } => holds,
            What::Elsewhere { offset, decision } => {
                if let Some(owned) = owned.filter(|_| outcome == Outcome::Done) {
                    match decision {
                        Elsewhere::Ack => owned.core.done_elsewhere(now, *offset),
                        Elsewhere::Retry { after } => {
                            let after = owned.core.config().backoff.asked(*after);
                            owned.core.freed_elsewhere(*offset, now.steady + after);
                        }
                        Elsewhere::Release => owned.core.freed_elsewhere(*offset, now.steady),
                        Elsewhere::Extend { .. } => {}
                    }
                }
                holds
            }
        }
    }

    /// Answers one decision; the request, when it was the last.
    pub(super) fn reply(&mut self, asked: Option<Asked>, status: Status) {
        let Some(Asked { reply, index }) = asked else { return };
        let Some(waiting) = self.replies.get_mut(reply) else { return };
        waiting.statuses.push((index, status));
        waiting.open -= 1;
        if waiting.open == 0 {
            let Reply { statuses, to, .. } = self.replies.remove(reply);
            let _ = to.send(statuses);
        }
    }
}
