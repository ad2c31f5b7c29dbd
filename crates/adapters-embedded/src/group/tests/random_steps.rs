//! Drives the state machine through random steps and holds it against what its members believe.

use super::super::{
    assign::MemberId,
    state::{Seen, State, Told},
};
use ports::{Generation, Monotonic, TopicName, TopicPartition};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    Join(BTreeSet<u8>),
    Leave(usize),
    /// The topic of that number is seen with so many partitions, made anew or not; 0 for deleted.
    See {
        topic: u8,
        partitions: u32,
        anew: bool,
    },
    Pop(usize),
    Release(usize),
    Pin(usize),
    Unpin(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let any = 0..1000_usize;
    prop_oneof![
        2 => prop::collection::btree_set(0..3_u8, 1..=3).prop_map(Step::Join),
        1 => any.clone().prop_map(Step::Leave),
        2 => (0..3_u8, 0..6_u32, prop::bool::weighted(0.2))
            .prop_map(|(topic, partitions, anew)| Step::See { topic, partitions, anew }),
        8 => any.clone().prop_map(Step::Pop),
        4 => any.clone().prop_map(Step::Release),
        2 => any.clone().prop_map(Step::Pin),
        2 => any.prop_map(Step::Unpin),
        2 => (0..4000_u64).prop_map(Step::Pass),
    ]
}

fn topic(number: u8) -> TopicName {
    TopicName::new(&format!("t{number}")).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    Owns(Generation),
    Leaving(u64),
}

type Beliefs = BTreeMap<TopicPartition, Belief>;

/// What a member does when it is told something.
fn learn(beliefs: &mut Beliefs, told: &Told) {
    match told {
        Told::Assigned { generation, partitions } => {
            beliefs.extend(partitions.iter().map(|it| (it.clone(), Belief::Owns(*generation))));
        }
        Told::Revoked { revocation, partitions } => {
            beliefs.extend(partitions.iter().map(|it| (it.clone(), Belief::Leaving(*revocation))));
        }
        Told::Lost { partitions } => beliefs.retain(|it, _| !partitions.contains(it)),
    }
}

#[derive(Default)]
struct World {
    state: State,
    now: Monotonic,
    generations: u64,
    members: u64,
    ids: [u64; 3],
    /// What each member has learned.
    beliefs: BTreeMap<MemberId, Beliefs>,
    /// Revocations that members have learned of and not let go of.
    revocations: Vec<u64>,
    /// Commits under way.
    pinned: Vec<(TopicPartition, Generation)>,
    /// All that was ever assigned.
    given: BTreeMap<TopicPartition, BTreeSet<Generation>>,
}

impl World {
    fn pick<T: Clone>(of: impl IntoIterator<Item = T>, at: usize) -> Option<T> {
        let all: Vec<T> = of.into_iter().collect();
        (!all.is_empty()).then(|| all[at % all.len()].clone())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(topics) => {
                self.members += 1;
                let member = MemberId(self.members);
                self.state.join(member, topics.into_iter().map(topic).collect());
                self.beliefs.insert(member, Beliefs::new());
            }
            Step::Leave(at) => {
                if let Some(member) = Self::pick(self.beliefs.keys().copied(), at) {
                    self.state.leave(member);
                    self.beliefs.remove(&member);
                }
            }
            Step::See { topic: number, partitions, anew } => {
                let id = &mut self.ids[usize::from(number)];
                *id += u64::from(anew || partitions == 0);
                let seen = (partitions > 0).then(|| Seen { id: id.to_string(), partitions });
                self.state.see(&topic(number), seen);
            }
            Step::Pop(at) => {
                if let Some(member) = Self::pick(self.beliefs.keys().copied(), at) {
                    self.pop(member);
                }
            }
            Step::Release(at) => {
                if !self.revocations.is_empty() {
                    let revocation = self.revocations.swap_remove(at % self.revocations.len());
                    self.release(revocation);
                }
            }
            Step::Pin(at) => self.pin(at),
            Step::Unpin(at) => {
                if !self.pinned.is_empty() {
                    let (partition, _) = self.pinned.swap_remove(at % self.pinned.len());
                    self.state.unpin(&partition);
                }
            }
            Step::Pass(millis) => {
                self.now = self.now + Duration::from_millis(millis);
                self.state.lapse(self.now);
            }
        }
        let generations = &mut self.generations;
        self.state.balance(self.now, PATIENCE, || {
            *generations += 1;
            Generation(*generations)
        });
        self.check();
    }

    fn pop(&mut self, member: MemberId) -> bool {
        let Some(told) = self.state.pop(member) else { return false };
        if let Told::Revoked { revocation, .. } = told {
            self.revocations.push(revocation);
        }
        learn(self.beliefs.get_mut(&member).unwrap(), &told);
        true
    }

    fn release(&mut self, revocation: u64) {
        self.state.release(revocation);
        for beliefs in self.beliefs.values_mut() {
            beliefs.retain(|_, belief| *belief != Belief::Leaving(revocation));
        }
    }

    /// A member begins a commit under whatever generation was ever given; only the owner's goes through.
    fn pin(&mut self, at: usize) {
        let all = self
            .given
            .iter()
            .flat_map(|(partition, given)| given.iter().map(move |it| (partition.clone(), *it)));
        let Some((partition, generation)) = Self::pick(all, at) else { return };
        let owner = self.state.owner(&partition).map(|(_, current, _)| current);
        let pinned = self.state.pin(&partition, generation);
        assert_eq!(pinned, owner == Some(generation), "{partition} under {generation:?}");
        if pinned {
            self.pinned.push((partition, generation));
        }
    }

    /// What each member will believe once it has learned all that waits for it.
    fn expected(&self) -> BTreeMap<MemberId, Beliefs> {
        let mut all = self.beliefs.clone();
        for (member, beliefs) in &mut all {
            for told in self.state.queue(*member) {
                learn(beliefs, told);
            }
        }
        all
    }

    fn check(&mut self) {
        let mut owned: BTreeMap<TopicPartition, (MemberId, Belief)> = BTreeMap::new();
        for (member, beliefs) in self.expected() {
            for (partition, belief) in beliefs {
                let before = owned.insert(partition.clone(), (member, belief));
                assert_eq!(before, None, "{partition} has two owners, {member:?} too");
            }
            let mut times: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
            for told in self.state.queue(member) {
                if let Told::Assigned { generation, partitions } = told {
                    for partition in partitions {
                        self.given.entry(partition.clone()).or_default().insert(*generation);
                    }
                }
                let (Told::Assigned { partitions, .. }
                | Told::Revoked { partitions, .. }
                | Told::Lost { partitions }) = told;
                assert!(!partitions.is_empty());
                for partition in partitions {
                    *times.entry(partition).or_default() += 1;
                }
            }
            assert!(times.values().all(|times| *times <= 3), "a queue grows: {times:?}");
        }
        for (partition, (member, generation, revocation)) in self.state.owners() {
            let belief = revocation.map_or(Belief::Owns(generation), Belief::Leaving);
            assert_eq!(
                owned.remove(&partition),
                Some((member, belief)),
                "what its owner is told of {partition}"
            );
            for (pinned, of) in &self.pinned {
                assert!(
                    *pinned != partition || *of == generation,
                    "{partition} moved while a commit was under way"
                );
            }
        }
        assert_eq!(owned, BTreeMap::new(), "owned by members only in their belief");
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        loop {
            let members: Vec<_> = self.beliefs.keys().copied().collect();
            let mut progress = false;
            for member in members {
                while self.pop(member) {
                    progress = true;
                }
            }
            if !self.pinned.is_empty() {
                self.step(Step::Unpin(0));
                progress = true;
            }
            if !self.revocations.is_empty() {
                self.step(Step::Release(0));
                progress = true;
            }
            if !progress {
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn a_partition_has_one_owner_and_nobody_is_surprised(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.settle();
        prop_assert_eq!(world.state.timeout(), None);
        let read = world.state.read();
        let owners = world.state.owners();
        for (partition, (member, generation, _)) in &owners {
            prop_assert!(read.contains(&partition.topic));
            prop_assert_eq!(world.beliefs[member].get(partition), Some(&Belief::Owns(*generation)));
        }
        for partition in world.state.partitions() {
            prop_assert!(owners.contains_key(&partition), "{} has no owner in the end", partition);
        }
        let members: Vec<_> = world.beliefs.keys().copied().collect();
        for _ in &members {
            world.step(Step::Leave(0));
        }
        prop_assert!(world.state.is_over());
    }
}
