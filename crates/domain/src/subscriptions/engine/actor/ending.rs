//! The end, and what goes on in its place.

use super::{Actor, LAST_COMMIT_WITHIN, Stopping};
use crate::subscriptions::{Definition, engine::nothing};
use futures::StreamExt as _;
use ports::Monotonic;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Actor {
    pub(super) fn stop(&mut self, drain_until: Option<Monotonic>, reply: Option<oneshot::Sender<()>>) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.reply.send(nothing());
        }
        let stopping = self.stopping.get_or_insert(Stopping { drain_until, replies: Vec::new(), then: None });
        stopping.drain_until = stopping.drain_until.min(drain_until);
        stopping.replies.extend(reply);
        stopping.then = None;
    }

    /// As [`Self::stop`], to go on as another; those who wait wait on.
    pub(super) fn redefine(&mut self, definition: Arc<Definition>, drain_until: Monotonic) {
        match &mut self.stopping {
            // It ends, or waits for what is out already: what is new goes on from there.
            Some(stopping) => stopping.then = stopping.then.take().map(|_| definition),
            None => {
                let (drain_until, then) = (Some(drain_until), Some(definition));
                self.stopping = Some(Stopping { drain_until, replies: Vec::new(), then });
            }
        }
    }

    /// Whether nobody is to be given anything any more.
    pub(in crate::subscriptions::engine) fn is_ending(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.then.is_none())
    }

    pub(super) fn is_over(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            let drained = stopping.drain_until.is_none_or(|until| until <= self.context.now());
            drained || self.in_flight == 0
        })
    }

    pub(super) async fn finish(mut self) -> Option<Self> {
        let keys = self.owned.keys().copied().collect();
        self.commit_now(&keys).await;
        if !self.unmirrored.is_empty() {
            self.mirror();
        }
        let keys: Vec<_> = self.owned.keys().copied().collect();
        keys.into_iter().for_each(|key| self.drop_partition(key));
        self.let_claims_go().await;
        self.member.leave().await;
        let Stopping { replies, then, .. } = self.stopping.take()?;
        for reply in replies {
            let _ = reply.send(());
        }
        let context = Arc::new(self.context.with(then?));
        let mut next = Self::new(context, self.inbox, self.waiters_max);
        (next.waiters, next.paused) = (self.waiters, self.paused);
        (next.returned, next.back) = (self.returned, self.back);
        next.left = self.left;
        Some(next)
    }

    /// Lets claims go that are not needed any more, as well as that goes in a short time: what was reserved
    /// and not sent, and what waits to be tried again. What does not work ends by itself.
    pub(super) async fn let_claims_go(&mut self) {
        let clock = self.context.ports.clock.clone();
        let until = clock.monotonic() + LAST_COMMIT_WITHIN;
        loop {
            self.settle_if_due();
            let idle = self.claiming.is_empty() && self.settles.is_empty() && self.mirroring.is_empty();
            if idle {
                return;
            }
            tokio::select! {
                Some(claimed) = self.claiming.next(), if !self.claiming.is_empty() => self.claimed(claimed),
                Some(settled) = self.settles.next(), if !self.settles.is_empty() => self.settled(settled),
                Some(()) = self.mirroring.next(), if !self.mirroring.is_empty() => {}
                () = clock.sleep_until(until) => return,
            }
        }
    }
}
