//! Giving out what is ready to the pulls that wait.

use super::{
    Handed, Offer, PartitionKey,
    actor::Actor,
    claiming::{Batch, Reserved},
    nothing,
};
use crate::delivery::Taken;
use tokio::sync::oneshot;

/// A pull that is to be answered.
pub(super) struct Waiter {
    pub(super) max: usize,
    /// Of so many runs at most.
    pub(super) lanes_max: usize,
    pub(super) bytes_max: usize,
    /// It is answered at once, with what there is.
    pub(super) at_once: bool,
    pub(super) reply: oneshot::Sender<Offer>,
}

impl Actor {
    pub(super) fn pull(&mut self, waiter: Waiter) {
        if self.is_ending() {
            let _ = waiter.reply.send(nothing());
            return;
        }
        if self.waiters.len() >= self.waiters_max {
            self.waiters.retain(|waiter| !waiter.reply.is_closed());
            if self.waiters.len() >= self.waiters_max {
                // The dropped reply says so.
                return;
            }
        }
        if !waiter.at_once {
            self.waiters.push_back(waiter);
        } else if self.waiters.is_empty() && self.may_deliver() {
            self.give(waiter);
        } else {
            // Those who wait come first; there is nothing for them, so there is nothing for this one.
            let _ = waiter.reply.send(nothing());
        }
    }

    /// Whether anything may go out now.
    pub(super) fn may_deliver(&self) -> bool {
        self.stopping.is_none()
            && self.paused.is_none()
            && !self.dead_letters.is_failing()
            && !self.retries.is_failing()
            && !self.store.keeps_back(&self.context)
    }

    /// Gives what is ready to those who wait, first come first served.
    pub(super) fn serve(&mut self) {
        if !self.may_deliver() {
            return;
        }
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.reply.is_closed() {
                continue;
            }
            if let Some(waiter) = self.give(waiter) {
                self.waiters.push_front(waiter);
                return;
            }
        }
    }

    /// Reserves what is ready for a pull and, with claims, asks for them; gives the pull back where there is
    /// nothing for it and it waits.
    fn give(&mut self, waiter: Waiter) -> Option<Waiter> {
        let reserved = self.reserve(&waiter);
        if reserved.is_empty() {
            if waiter.at_once {
                let _ = waiter.reply.send(nothing());
                return None;
            }
            return Some(waiter);
        }
        let to_read = self.to_read(&reserved);
        match (self.claims(), to_read) {
            (Some(store), to_read) => self.claim(store, waiter, reserved, to_read),
            (None, Some(to_read)) => self.read_values(Batch::unclaimed(waiter, reserved), to_read),
            (None, None) => {
                let batch = Batch::unclaimed(waiter, reserved);
                self.deliver(batch, Vec::new(), |_| None);
            }
        }
        None
    }

    /// Reserves for one pull, a fair share from each partition that has something.
    fn reserve(&mut self, waiter: &Waiter) -> Vec<Reserved> {
        let room = (self.context.definition.max_in_flight as usize).saturating_sub(self.in_flight);
        let mut left = waiter.max.min(room);
        let mut lanes_left = waiter.lanes_max;
        let mut bytes_left = waiter.bytes_max;
        let mut reserved = Vec::new();
        let mut taken: Vec<Taken> = Vec::new();
        let mut alone = false;
        let mut passed = Vec::new();
        // A partition that could give nothing has left the queue, or has only what must go alone.
        for _ in 0..self.ready.len() {
            if left == 0 || lanes_left == 0 || bytes_left == 0 || alone {
                break;
            }
            let Some(key) = self.ready.pop_front() else { break };
            let share = left.div_ceil(self.ready.len() + 1);
            let Some(owned) = self.owned.get_mut(&key) else { continue };
            owned.queued = false;
            lanes_left -= owned.core.take(share, lanes_left, bytes_left, !reserved.is_empty(), &mut taken);
            left -= taken.len().min(left);
            if taken.is_empty() && !reserved.is_empty() && owned.core.has_ready() {
                // What it has is too large for the rest, or is to go alone: it is the first of the next pull.
                owned.queued = true;
                passed.push(key);
            }
            for taken in taken.drain(..) {
                bytes_left = bytes_left.saturating_sub(taken.bytes);
                alone |= taken.alone;
                reserved.push(Reserved { key, session: owned.session, taken });
            }
            self.touch(key);
        }
        passed.into_iter().rev().for_each(|key| self.ready.push_front(key));
        reserved
    }

    /// Gives out what a batch holds, as far as it may; answers the pull, or lets it wait on.
    pub(super) fn answer(&mut self, waiter: Waiter, handed: Vec<Handed>) {
        if handed.is_empty() && !waiter.at_once && !self.is_ending() {
            // It was the first in the queue, and is again.
            self.waiters.push_front(waiter);
            return;
        }
        // An offer that nobody takes gives itself back.
        let _ = waiter.reply.send(Offer { handed, back: self.back.clone() });
    }

    /// Brings up to date what changed in these partitions; each once.
    pub(super) fn touch_all(&mut self, mut keys: Vec<PartitionKey>) {
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().for_each(|key| self.touch(key));
    }
}
