//! Group membership for one process: the members of a group share its partitions.
//!
//! [`assign`] says who should have what, [`state`] is the group's state machine, which holds the invariants,
//! and [`commit`] lets commits of current owners through to a store of positions; [`outside`] is what is
//! seen and changed of a group from outside. This module is the shell:
//! it has the lock, the clock and the topics. It needs no task and no thread of its own: whoever waits in
//! [`Membership::next`] ends revocations whose time is up and looks after the topics.
//!
//! All members are in this process, so a group is empty when the process begins, and generations need not
//! outlive it.

mod admin;
mod assign;
mod commit;
mod outside;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use commit::CommitPermit;
pub(crate) use outside::{Need, check_offsets, describe, list, no_such_group};

use assign::MemberId;
use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    Clock, Generation, GroupId, GroupMembership, Handover, Membership, MembershipEvent, Monotonic, Result,
    TopicAdmin, TopicName,
};
use state::{Seen, State, Told};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The times of group membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long a member may keep what it was told that it loses.
    pub revocation_patience: Duration,
    /// How often to look for new topics and partitions. Changes made through [`Groups::admin`] are seen at
    /// once.
    pub topics_interval: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { revocation_patience: Duration::from_secs(5), topics_interval: Duration::from_secs(1) }
    }
}

/// The groups of this process; `GroupMembership` of the embedded backend. Clones are handles on the same.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

struct Inner {
    groups: Mutex<HashMap<GroupId, Group>>,
    admin: Arc<dyn TopicAdmin>,
    clock: Arc<dyn Clock>,
    config: GroupConfig,
    members: AtomicU64,
    generations: AtomicU64,
}

struct Group {
    state: State,
    /// Wakes the members.
    news: Arc<Notify>,
    /// One member at a time looks after the topics.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// When to look next.
    look_at: Monotonic,
    /// How often [`Groups::nudge`] was called, so that one that comes during a look is not lost.
    nudges: u64,
}

impl Groups {
    /// Groups that read the topics of `admin`.
    pub fn new(admin: Arc<dyn TopicAdmin>, clock: Arc<dyn Clock>, config: GroupConfig) -> Self {
        Self(Arc::new(Inner {
            groups: Mutex::default(),
            admin,
            clock,
            config,
            members: AtomicU64::new(0),
            generations: AtomicU64::new(0),
        }))
    }

    /// The same topics, whose creation, growth and deletion the groups see at once.
    pub fn admin(&self) -> Arc<dyn TopicAdmin> {
        Arc::new(admin::NudgingAdmin::new(self.0.admin.clone(), self.clone()))
    }

    /// Lets all groups look for new topics and partitions now.
    pub fn nudge(&self) {
        for group in self.0.groups.lock().values_mut() {
            group.look_at = Monotonic::default();
            group.nudges += 1;
            group.news.notify_waiters();
        }
    }

    /// Whether a group has members.
    pub(crate) fn has_members(&self, group: &GroupId) -> bool {
        self.0.groups.lock().get(group).is_some_and(|group| group.state.has_members())
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Inner {
    /// Changes a group, brings it into balance and wakes its members where that is news to them. A group
    /// that is over is forgotten.
    fn change<T>(&self, id: &GroupId, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(id)?;
        let result = change(group);
        let patience = self.config.revocation_patience;
        group.state.balance(self.clock.monotonic(), patience, || self.next_generation());
        group.news.notify_waiters();
        if group.state.is_over() {
            groups.remove(id);
        }
        Some(result)
    }

    fn next_generation(&self) -> Generation {
        Generation(self.generations.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn release(&self, group: &GroupId, revocation: u64) {
        self.change(group, |group| group.state.release(revocation));
    }

    /// Looks at the topics that the group's members read, unless another member did meanwhile.
    ///
    /// A topic that cannot be described stays as it was seen last; the others are served.
    async fn look(&self, id: &GroupId, always: bool) {
        let Some(looking) = self.groups.lock().get(id).map(|group| group.looking.clone()) else { return };
        let _one_at_a_time = looking.lock().await;
        let begun = {
            let groups = self.groups.lock();
            let due = |group: &&Group| always || group.look_at <= self.clock.monotonic();
            groups.get(id).filter(due).map(|group| (group.nudges, group.state.read()))
        };
        let Some((nudges, topics)) = begun else { return };
        let mut seen = Vec::with_capacity(topics.len());
        for topic in topics {
            match self.admin.describe(&topic).await {
                Ok(info) => {
                    let info =
                        info.map(|info| Seen { id: info.id, partitions: info.partitions.len() as u32 });
                    seen.push((topic, info));
                }
                Err(error) => tracing::debug!(%topic, %error, "could not look at a topic that a group reads"),
            }
        }
        self.change(id, |group| {
            for (topic, info) in seen {
                group.state.see(&topic, info);
            }
            if group.nudges == nudges {
                group.look_at = self.clock.monotonic() + self.config.topics_interval;
            }
        });
    }
}

#[async_trait]
impl GroupMembership for Groups {
    async fn join(&self, group: &GroupId, topics: &[TopicName]) -> Result<Box<dyn Membership>> {
        let inner = &self.0;
        let id = MemberId(inner.members.fetch_add(1, Ordering::Relaxed) + 1);
        // From here on dropping it leaves the group, so that this future may be dropped too.
        let news = {
            let mut groups = inner.groups.lock();
            let entry = groups.entry(group.clone()).or_insert_with(Group::new);
            entry.state.join(id, topics.iter().cloned().collect());
            entry.news.clone()
        };
        let member = Member { inner: inner.clone(), group: group.clone(), id, news };
        inner.look(group, true).await;
        Ok(Box::new(member))
    }
}

impl Group {
    fn new() -> Self {
        Self {
            state: State::default(),
            news: Arc::default(),
            looking: Arc::default(),
            look_at: Monotonic::default(),
            nudges: 0,
        }
    }
}

/// A member. Dropping it leaves the group.
struct Member {
    inner: Arc<Inner>,
    group: GroupId,
    id: MemberId,
    news: Arc<Notify>,
}

/// What a member does next.
enum Step {
    Tell(Told),
    Look,
    WaitUntil(Monotonic),
}

impl Member {
    fn step(&self) -> Step {
        let now = self.inner.clock.monotonic();
        let lapsed = {
            let groups = self.inner.groups.lock();
            let timeout = groups.get(&self.group).and_then(|group| group.state.timeout());
            timeout.is_some_and(|timeout| timeout <= now)
        };
        if lapsed {
            self.inner.change(&self.group, |group| group.state.lapse(now));
        }
        let mut groups = self.inner.groups.lock();
        let Some(group) = groups.get_mut(&self.group) else {
            // A group is there as long as a member is.
            return Step::WaitUntil(now + self.inner.config.topics_interval);
        };
        match group.state.pop(self.id) {
            Some(told) => Step::Tell(told),
            None if group.look_at <= now => Step::Look,
            None => {
                let timeout = group.state.timeout();
                Step::WaitUntil(timeout.map_or(group.look_at, |timeout| timeout.min(group.look_at)))
            }
        }
    }

    fn event(&self, told: Told) -> MembershipEvent {
        match told {
            Told::Assigned { generation, partitions } => MembershipEvent::Assigned { generation, partitions },
            Told::Lost { partitions } => MembershipEvent::Lost { partitions },
            Told::Revoked { revocation, partitions } => {
                let (inner, group): (Weak<Inner>, _) = (Arc::downgrade(&self.inner), self.group.clone());
                let release = move || {
                    if let Some(inner) = inner.upgrade() {
                        inner.release(&group, revocation);
                    }
                };
                MembershipEvent::Revoked { partitions, handover: Handover::new(release) }
            }
        }
    }
}

#[async_trait]
impl Membership for Member {
    async fn next(&mut self) -> Result<MembershipEvent> {
        let news = self.news.clone();
        loop {
            // Listens before it looks, so that what comes in between wakes it.
            let mut notified = std::pin::pin!(news.notified());
            notified.as_mut().enable();
            match self.step() {
                Step::Tell(told) => return Ok(self.event(told)),
                Step::Look => self.inner.look(&self.group, false).await,
                Step::WaitUntil(until) => {
                    tokio::select! {
                        () = notified => {}
                        () = self.inner.clock.sleep_until(until) => {}
                    }
                }
            }
        }
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        // By being dropped.
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.inner.change(&self.group, |group| group.state.leave(self.id));
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("group", &self.group).field("id", &self.id).finish_non_exhaustive()
    }
}
