//! The members of one group and what each owns: a state machine without I/O.
//!
//! Inputs come with the time; what a member is to learn waits in its queue. Invariants:
//!
//! * A partition has at most one owner, and a commit is admitted only under the generation of its current
//!   assignment.
//! * A partition is assigned to another only after its owner was told that it goes: by a revocation that it
//!   let go of or that ran out of patience, or by a loss. An owner that left needs no telling.
//! * A commit that was admitted, or a change of positions from outside, is over before its partition is
//!   assigned anew, so that the new owner reads what it wrote.
//! * Once all revocations are over, each partition that some member reads has an owner.
//! * A queue is bounded by the partitions: what a member has not learned and would only learn to be undone
//!   is taken out again.

use super::assign::{MemberId, assign};
use ports::{Generation, Monotonic, TopicName, TopicPartition};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// What a member is to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// These came.
    Assigned { generation: Generation, partitions: Vec<TopicPartition> },
    /// These go, once the revocation of that number is let go of.
    Revoked { revocation: u64, partitions: Vec<TopicPartition> },
    /// These went.
    Lost { partitions: Vec<TopicPartition> },
}

impl Told {
    fn partitions(&mut self) -> &mut Vec<TopicPartition> {
        match self {
            Self::Assigned { partitions, .. }
            | Self::Revoked { partitions, .. }
            | Self::Lost { partitions } => partitions,
        }
    }
}

/// A topic as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Tells it from one of the same name that was deleted.
    pub(crate) id: String,
    /// How many partitions it has.
    pub(crate) partitions: u32,
}

/// The state of one group.
#[derive(Debug, Default)]
pub(crate) struct State {
    members: BTreeMap<MemberId, Member>,
    topics: BTreeMap<TopicName, Seen>,
    slots: BTreeMap<TopicPartition, Slot>,
    /// How many admitted commits, and changes from outside, are not over yet. Outlives the slot: a topic may
    /// go meanwhile.
    pins: BTreeMap<TopicPartition, usize>,
    revocations: u64,
}

#[derive(Debug, Default)]
struct Member {
    topics: BTreeSet<TopicName>,
    queue: VecDeque<Told>,
}

/// A partition that exists.
#[derive(Debug, Default)]
struct Slot {
    owner: Owner,
    /// Who is to have it in the end.
    intended: Option<MemberId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    Nobody,
    Owned(MemberId, Generation),
    /// Still owned, until it is let go of or patience ends.
    Revoking {
        member: MemberId,
        generation: Generation,
        revocation: u64,
        until: Monotonic,
    },
}

impl Owner {
    fn current(self) -> Option<(MemberId, Generation)> {
        match self {
            Self::Nobody => None,
            Self::Owned(member, generation) | Self::Revoking { member, generation, .. } => {
                Some((member, generation))
            }
        }
    }
}

impl State {
    /// One more member.
    pub(crate) fn join(&mut self, member: MemberId, topics: BTreeSet<TopicName>) {
        self.members.insert(member, Member { topics, queue: VecDeque::new() });
    }

    /// A member is gone, and owns nothing from here on.
    pub(crate) fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
        for slot in self.slots.values_mut() {
            if slot.owner.current().is_some_and(|(owner, _)| owner == member) {
                slot.owner = Owner::Nobody;
            }
        }
        let read = self.read();
        self.topics.retain(|topic, _| read.contains(topic));
        self.slots.retain(|partition, _| read.contains(&partition.topic));
    }

    /// The topics that some member reads.
    pub(crate) fn read(&self) -> BTreeSet<TopicName> {
        self.members.values().flat_map(|member| &member.topics).cloned().collect()
    }

    /// A topic as it is now; `None` where it does not exist. Partitions of one that is gone, or was made
    /// anew, are lost.
    pub(crate) fn see(&mut self, topic: &TopicName, seen: Option<Seen>) {
        let before = self.topics.get(topic);
        if before == seen.as_ref() || !self.members.values().any(|member| member.topics.contains(topic)) {
            return;
        }
        let is_the_same = before.zip(seen.as_ref()).is_some_and(|(before, now)| before.id == now.id);
        let kept = if is_the_same { seen.as_ref().map_or(0, |seen| seen.partitions) } else { 0 };
        let gone = |it: &TopicPartition| it.topic == *topic && it.partition >= kept;
        let mut lost: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        self.slots.retain(|partition, slot| {
            if gone(partition)
                && let Some((member, _)) = slot.owner.current()
            {
                lost.entry(member).or_default().push(partition.clone());
            }
            !gone(partition)
        });
        for (member, partitions) in lost {
            self.lose(member, partitions);
        }
        match seen {
            Some(seen) => {
                for number in 0..seen.partitions {
                    self.slots.entry(TopicPartition::new(topic.clone(), number)).or_default();
                }
                self.topics.insert(topic.clone(), seen);
            }
            None => drop(self.topics.remove(topic)),
        }
    }

    /// A member lets go of what it was told that it loses.
    pub(crate) fn release(&mut self, revocation: u64) {
        for slot in self.slots.values_mut() {
            if matches!(slot.owner, Owner::Revoking { revocation: of, .. } if of == revocation) {
                slot.owner = Owner::Nobody;
            }
        }
    }

    /// Takes what members did not let go of in time.
    pub(crate) fn lapse(&mut self, now: Monotonic) {
        let mut lost: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, slot) in &mut self.slots {
            if let Owner::Revoking { member, until, .. } = slot.owner
                && until <= now
            {
                slot.owner = Owner::Nobody;
                lost.entry(member).or_default().push(partition.clone());
            }
        }
        for (member, partitions) in lost {
            self.lose(member, partitions);
        }
    }

    /// When [`State::lapse`] has something to do next.
    pub(crate) fn timeout(&self) -> Option<Monotonic> {
        let until = |slot: &Slot| match slot.owner {
            Owner::Revoking { until, .. } => Some(until),
            _ => None,
        };
        self.slots.values().filter_map(until).min()
    }

    /// Whether that generation is the partition's, which then keeps its owner until [`State::unpin`].
    pub(crate) fn pin(&mut self, partition: &TopicPartition, generation: Generation) -> bool {
        let owner = self.slots.get(partition).and_then(|slot| slot.owner.current());
        let owns = owner.is_some_and(|(_, current)| current == generation);
        if owns {
            *self.pins.entry(partition.clone()).or_default() += 1;
        }
        owns
    }

    /// Keeps a partition that nobody owns from being assigned, until [`State::unpin`].
    pub(crate) fn hold(&mut self, partition: &TopicPartition) {
        *self.pins.entry(partition.clone()).or_default() += 1;
    }

    /// A commit is over, or a change from outside. Says whether its partition waits for that to be assigned.
    pub(crate) fn unpin(&mut self, partition: &TopicPartition) -> bool {
        let Some(pins) = self.pins.get_mut(partition) else { return false };
        *pins -= 1;
        if *pins > 0 {
            return false;
        }
        self.pins.remove(partition);
        self.slots.get(partition).is_some_and(|slot| slot.owner == Owner::Nobody)
    }

    /// Brings what members own towards what is even: to be called after any of the above. Says whether
    /// there is news for a member.
    pub(crate) fn balance(
        &mut self,
        now: Monotonic,
        patience: Duration,
        mut next_generation: impl FnMut() -> Generation,
    ) -> bool {
        let members = self.members.iter().map(|(id, member)| (*id, &member.topics)).collect();
        let intend = |(partition, slot): (&TopicPartition, &Slot)| Some((partition.clone(), slot.intended?));
        let current = self.slots.iter().filter_map(intend).collect();
        let mut target = assign(&members, self.slots.keys().cloned(), &current);
        let mut assigned: BTreeMap<MemberId, (Generation, Vec<TopicPartition>)> = BTreeMap::new();
        let mut revoked: BTreeMap<MemberId, (u64, Vec<TopicPartition>)> = BTreeMap::new();
        let revocations = &mut self.revocations;
        for (partition, slot) in &mut self.slots {
            slot.intended = target.remove(partition);
            match (slot.owner, slot.intended) {
                (Owner::Owned(member, generation), intended) if intended != Some(member) => {
                    let (revocation, partitions) = revoked.entry(member).or_insert_with(|| {
                        *revocations += 1;
                        (*revocations, Vec::new())
                    });
                    let until = now + patience;
                    slot.owner = Owner::Revoking { member, generation, revocation: *revocation, until };
                    partitions.push(partition.clone());
                }
                (Owner::Nobody, Some(member)) if !self.pins.contains_key(partition) => {
                    let (generation, partitions) =
                        assigned.entry(member).or_insert_with(|| (next_generation(), Vec::new()));
                    slot.owner = Owner::Owned(member, *generation);
                    partitions.push(partition.clone());
                }
                _ => {}
            }
        }
        let news = !assigned.is_empty() || !revoked.is_empty();
        for (member, (revocation, partitions)) in revoked {
            self.tell(member, Told::Revoked { revocation, partitions });
        }
        for (member, (generation, partitions)) in assigned {
            self.tell(member, Told::Assigned { generation, partitions });
        }
        news
    }

    /// The next thing that a member is to learn.
    pub(crate) fn pop(&mut self, member: MemberId) -> Option<Told> {
        self.members.get_mut(&member)?.queue.pop_front()
    }

    /// Whether nobody is in it and nothing is under way, so that it can be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        self.members.is_empty() && self.pins.is_empty()
    }

    /// Whether somebody is in it.
    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The members, and what each owns now.
    pub(crate) fn assignments(&self) -> BTreeMap<MemberId, BTreeSet<TopicPartition>> {
        let mut owned: BTreeMap<_, _> = self.members.keys().map(|id| (*id, BTreeSet::new())).collect();
        for (partition, slot) in &self.slots {
            let owner = slot.owner.current().and_then(|(member, _)| owned.get_mut(&member));
            if let Some(owned) = owner {
                owned.insert(partition.clone());
            }
        }
        owned
    }

    /// Whether each partition is with the member that is to have it.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |slot: &Slot| match slot.owner {
            Owner::Owned(member, _) => slot.intended == Some(member),
            Owner::Nobody => slot.intended.is_none(),
            Owner::Revoking { .. } => false,
        };
        self.slots.values().all(settled)
    }

    fn tell(&mut self, member: MemberId, told: Told) {
        if let Some(member) = self.members.get_mut(&member) {
            member.queue.push_back(told);
        }
    }

    /// Tells a member that partitions are gone. Of those that it has not learned that it had, it learns
    /// nothing.
    fn lose(&mut self, member: MemberId, partitions: Vec<TopicPartition>) {
        let Some(member) = self.members.get_mut(&member) else { return };
        let mut lost = Vec::new();
        for partition in partitions {
            let mut knows = true;
            for told in &mut member.queue {
                if matches!(told, Told::Lost { .. }) {
                    continue;
                }
                let is_assigned = matches!(told, Told::Assigned { .. });
                let listed = told.partitions();
                if let Some(at) = listed.iter().position(|it| *it == partition) {
                    listed.remove(at);
                    knows &= !is_assigned;
                }
            }
            if knows {
                lost.push(partition);
            }
        }
        member.queue.retain_mut(|told| !told.partitions().is_empty());
        if !lost.is_empty() {
            member.queue.push_back(Told::Lost { partitions: lost });
        }
    }
}

#[cfg(test)]
mod inspect {
    //! What tests see of the state.

    use super::{BTreeMap, Generation, MemberId, Owner, State, Told, TopicPartition};

    /// Who owns a partition, under which generation, and the number of the revocation where it goes.
    type Ownership = (MemberId, Generation, Option<u64>);

    impl State {
        pub(crate) fn owner(&self, partition: &TopicPartition) -> Option<Ownership> {
            match self.slots.get(partition)?.owner {
                Owner::Nobody => None,
                Owner::Owned(member, generation) => Some((member, generation, None)),
                Owner::Revoking { member, generation, revocation, .. } => {
                    Some((member, generation, Some(revocation)))
                }
            }
        }

        pub(crate) fn owners(&self) -> BTreeMap<TopicPartition, Ownership> {
            self.slots.keys().filter_map(|it| Some((it.clone(), self.owner(it)?))).collect()
        }

        pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
            self.slots.keys().cloned().collect()
        }

        pub(crate) fn queue(&self, member: MemberId) -> impl Iterator<Item = &Told> {
            self.members.get(&member).into_iter().flat_map(|member| &member.queue)
        }
    }
}
