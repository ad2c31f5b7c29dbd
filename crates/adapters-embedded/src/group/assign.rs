//! Which member should have which partition: a pure function.

use ports::{TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// The number of a member, unique in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(crate) u64);

/// An owner for each partition that some member reads.
///
/// * Complete and disjoint: each partition of a topic that is read has exactly one owner, who reads it.
/// * Balanced: no single move would make it more even. Where all members read the same topics, the numbers
///   of their partitions differ by 1 at most.
/// * Sticky: a partition leaves its owner in `current` only where the owner is gone, or no longer reads it,
///   or has at least two more than the one who gets it.
///
/// The same input gives the same output.
pub(crate) fn assign(
    members: &BTreeMap<MemberId, &BTreeSet<TopicName>>,
    partitions: impl IntoIterator<Item = TopicPartition>,
    current: &BTreeMap<TopicPartition, MemberId>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut plan = Plan::new(members);
    let mut free = Vec::new();
    for partition in partitions {
        match current.get(&partition) {
            Some(owner) if plan.reads(*owner, &partition.topic) => plan.give(partition, *owner),
            _ => free.push(partition),
        }
    }
    for partition in free {
        if let Some(member) = plan.least_loaded(&partition.topic) {
            plan.give(partition, member);
        }
    }
    while plan.move_one() {}
    plan.owned.into_iter().flat_map(|(member, owned)| owned.into_iter().map(move |it| (it, member))).collect()
}

struct Plan<'a> {
    members: &'a BTreeMap<MemberId, &'a BTreeSet<TopicName>>,
    owned: BTreeMap<MemberId, BTreeSet<TopicPartition>>,
}

impl<'a> Plan<'a> {
    fn new(members: &'a BTreeMap<MemberId, &'a BTreeSet<TopicName>>) -> Self {
        Self { members, owned: members.keys().map(|member| (*member, BTreeSet::new())).collect() }
    }

    fn reads(&self, member: MemberId, topic: &TopicName) -> bool {
        self.members.get(&member).is_some_and(|topics| topics.contains(topic))
    }

    fn load(&self, member: MemberId) -> usize {
        self.owned.get(&member).map_or(0, BTreeSet::len)
    }

    fn give(&mut self, partition: TopicPartition, member: MemberId) {
        self.owned.entry(member).or_default().insert(partition);
    }

    fn least_loaded(&self, topic: &TopicName) -> Option<MemberId> {
        let readers = self.members.keys().copied().filter(|member| self.reads(*member, topic));
        readers.min_by_key(|member| (self.load(*member), *member))
    }

    /// Moves one partition from the most loaded member that has one to give. False when it is even; comes
    /// to that, as each move makes the sum of the squares of the loads smaller.
    fn move_one(&mut self) -> bool {
        let mut by_load: Vec<_> = self.members.keys().copied().collect();
        by_load.sort_by_key(|member| std::cmp::Reverse(self.load(*member)));
        for from in by_load {
            let Some(owned) = self.owned.get(&from) else { continue };
            let load = owned.len();
            let found = owned.iter().rev().find_map(|partition| {
                let to = self.least_loaded(&partition.topic)?;
                (self.load(to) + 2 <= load).then(|| (partition.clone(), to))
            });
            if let Some((partition, to)) = found {
                self.owned.entry(from).or_default().remove(&partition);
                self.give(partition, to);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Members = BTreeMap<MemberId, BTreeSet<TopicName>>;

    fn topic(number: u8) -> TopicName {
        TopicName::new(&format!("t{number}")).unwrap()
    }

    fn partitions(counts: &[u8]) -> BTreeSet<TopicPartition> {
        let of = |(number, count): (usize, &u8)| {
            let topic = topic(number as u8);
            (0..u32::from(*count)).map(move |partition| TopicPartition::new(topic.clone(), partition))
        };
        counts.iter().enumerate().flat_map(of).collect()
    }

    fn run(
        members: &Members,
        partitions: &BTreeSet<TopicPartition>,
        current: &BTreeMap<TopicPartition, MemberId>,
    ) -> BTreeMap<TopicPartition, MemberId> {
        let members = members.iter().map(|(member, topics)| (*member, topics)).collect();
        assign(&members, partitions.iter().cloned(), current)
    }

    fn loads(
        members: &Members,
        assignment: &BTreeMap<TopicPartition, MemberId>,
    ) -> BTreeMap<MemberId, usize> {
        let load = |member: &MemberId| assignment.values().filter(|owner| *owner == member).count();
        members.keys().map(|member| (*member, load(member))).collect()
    }

    /// Members that read any of four topics, and how many partitions each has.
    fn any_group() -> impl Strategy<Value = (Members, Vec<u8>)> {
        let reads = prop::collection::btree_set((0..4_u8).prop_map(topic), 0..=4);
        let members = prop::collection::btree_map((0..9_u64).prop_map(MemberId), reads, 0..6);
        (members, prop::collection::vec(0..7_u8, 4))
    }

    /// Members that all read the same.
    fn equal_group() -> impl Strategy<Value = (Members, Vec<u8>)> {
        let all: BTreeSet<_> = (0..4).map(topic).collect();
        let members = prop::collection::btree_set((0..9_u64).prop_map(MemberId), 1..6);
        let members = members.prop_map(move |ids| ids.into_iter().map(|id| (id, all.clone())).collect());
        (members, prop::collection::vec(0..12_u8, 4))
    }

    /// Any owners, also ones that are gone or never read the topic.
    fn any_current() -> impl Strategy<Value = BTreeMap<TopicPartition, MemberId>> {
        let partition = (0..4_u8, 0..12_u32).prop_map(|(of, number)| TopicPartition::new(topic(of), number));
        prop::collection::btree_map(partition, (0..9_u64).prop_map(MemberId), 0..40)
    }

    proptest! {
        #[test]
        fn each_partition_that_is_read_has_one_owner_who_reads_it(
            (members, counts) in any_group(),
            current in any_current(),
        ) {
            let partitions = partitions(&counts);
            let assignment = run(&members, &partitions, &current);
            for (partition, owner) in &assignment {
                prop_assert!(partitions.contains(partition));
                prop_assert!(members[owner].contains(&partition.topic));
            }
            for partition in &partitions {
                let is_read = members.values().any(|topics| topics.contains(&partition.topic));
                prop_assert_eq!(is_read, assignment.contains_key(partition));
            }
        }

        #[test]
        fn no_single_move_would_make_it_more_even((members, counts) in any_group(), current in any_current()) {
            let assignment = run(&members, &partitions(&counts), &current);
            let loads = loads(&members, &assignment);
            for (partition, owner) in &assignment {
                for (other, topics) in &members {
                    let better = topics.contains(&partition.topic) && loads[other] + 2 <= loads[owner];
                    prop_assert!(!better, "{} of {:?} should be {:?}'s", partition, owner, other);
                }
            }
        }

        #[test]
        fn members_that_read_the_same_differ_by_one_at_most(
            (members, counts) in equal_group(),
            current in any_current(),
        ) {
            let assignment = run(&members, &partitions(&counts), &current);
            let loads = loads(&members, &assignment);
            let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", loads);
        }

        #[test]
        fn what_is_even_stays_as_it_is((members, counts) in any_group(), current in any_current()) {
            let partitions = partitions(&counts);
            let assignment = run(&members, &partitions, &current);
            prop_assert_eq!(run(&members, &partitions, &assignment), assignment);
        }

        #[test]
        fn a_newcomer_takes_from_the_others_who_give_each_other_nothing((members, counts) in equal_group()) {
            let partitions = partitions(&counts);
            let before = run(&members, &partitions, &BTreeMap::new());
            let newcomer = MemberId(99);
            let mut more = members.clone();
            more.insert(newcomer, members.values().next().unwrap().clone());
            for (partition, owner) in run(&more, &partitions, &before) {
                prop_assert!(owner == newcomer || owner == before[&partition]);
            }
        }

        #[test]
        fn those_who_stay_keep_what_they_have((members, counts) in equal_group()) {
            let partitions = partitions(&counts);
            let before = run(&members, &partitions, &BTreeMap::new());
            let mut fewer = members.clone();
            let (gone, _) = fewer.pop_first().unwrap();
            for (partition, owner) in run(&fewer, &partitions, &before) {
                prop_assert!(before[&partition] == gone || before[&partition] == owner);
            }
        }
    }
}
