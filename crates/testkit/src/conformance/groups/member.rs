//! Members of a group, each with a task of its own that does what an owner does.

use crate::{
    conformance::{
        Backend,
        backend::{PATIENCE, within},
    },
    fixtures,
};
use bytestring::ByteString;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use ports::{
    Committed, Generation, GroupId, Membership, MembershipEvent, Offset, OffsetCommit, OffsetStore,
    PortError, Result, Retry, TopicName, TopicPartition,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// What a member owns, each with the generation under which it does.
pub(super) type Owned = BTreeMap<TopicPartition, Generation>;

/// What a member does with revoked partitions before it lets them go.
pub(super) type OnRevoke = Arc<dyn Fn(Owned) -> BoxFuture<'static, ()> + Send + Sync>;

/// What all members of a group own. Checks that no partition has two owners, and no generation is given
/// twice.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    owners: BTreeMap<TopicPartition, u64>,
    generations: BTreeSet<Generation>,
    members: u64,
    /// What was found wrong; tasks of members cannot fail a test themselves.
    wrong: Vec<String>,
}

/// A group of a test.
pub(super) struct Group {
    pub(super) id: GroupId,
    backend: Arc<Backend>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Group {
    pub(super) fn new(backend: &Arc<Backend>) -> Self {
        Self::named(backend, fixtures::group_id("group"))
    }

    /// The group of that name.
    pub(super) fn named(backend: &Arc<Backend>, id: GroupId) -> Self {
        Self { id, backend: backend.clone(), ledger: Arc::default() }
    }

    /// One more member.
    pub(super) async fn join(&self, topics: &[&TopicName]) -> Member {
        self.join_with(topics, Arc::new(|_| Box::pin(async {}))).await
    }

    /// One more member, which does something in the window of a revocation.
    pub(super) async fn join_with(&self, topics: &[&TopicName], on_revoke: OnRevoke) -> Member {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic).clone()).collect();
        let joining = self.backend.membership().join(&self.id, &topics);
        let membership = within("joining", joining).await.expect("the group can be joined");
        Member::spawn(membership, self.ledger.clone(), on_revoke)
    }

    /// Waits until these members together own all of `partitions`, each at least `least` of them.
    pub(super) async fn settle(
        &self,
        members: &mut [&mut Member],
        partitions: &BTreeSet<TopicPartition>,
        least: usize,
    ) {
        let settled = async {
            loop {
                let owned: Vec<_> = members.iter().map(|member| member.owned()).collect();
                let all: BTreeSet<_> = owned.iter().flat_map(Owned::keys).cloned().collect();
                if all == *partitions && owned.iter().all(|owned| owned.len() >= least) {
                    return;
                }
                let changes = members.iter_mut().map(|member| Box::pin(member.changed()));
                futures::future::select_all(changes).await;
            }
        };
        within("sharing all partitions", settled).await;
        self.check();
    }

    /// Commits, which must succeed.
    pub(super) async fn commit(&self, commits: &[OffsetCommit]) {
        for outcome in commit(self.backend.offsets(), &self.id, commits).await {
            outcome.expect("the position is committed");
        }
    }

    /// Commits and gives back what became of each.
    pub(super) async fn try_commit(&self, commits: &[OffsetCommit]) -> Vec<Result<()>> {
        commit(self.backend.offsets(), &self.id, commits).await
    }

    /// The positions.
    pub(super) async fn committed(&self, of: &[TopicPartition]) -> Vec<Option<Committed>> {
        let asking = self.backend.offsets().committed(&self.id, of);
        let committed = within("reading positions", asking).await.expect("positions can be read");
        assert_eq!(committed.len(), of.len(), "one answer a partition");
        committed
    }

    /// The position of one partition, without its metadata.
    pub(super) async fn position(&self, of: &TopicPartition) -> Option<Offset> {
        self.committed(std::slice::from_ref(of)).await.remove(0).map(|committed| committed.next)
    }

    /// Fails where the members found something wrong.
    pub(super) fn check(&self) {
        let wrong = &self.ledger.lock().wrong;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// Commits, again while the backend says that it may go better later: committing the same again is always
/// right.
pub(super) async fn commit(
    offsets: &Arc<dyn OffsetStore>,
    group: &GroupId,
    commits: &[OffsetCommit],
) -> Vec<Result<()>> {
    let committing = async {
        loop {
            let outcomes = offsets.commit(group, commits.to_vec()).await;
            assert_eq!(outcomes.len(), commits.len(), "one outcome a commit");
            let again = |error: &PortError| matches!(error.retry(), Retry::Transient { .. });
            if !outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(again)) {
                return outcomes;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("a commit", committing).await
}

/// A position to commit.
pub(super) fn position(
    partition: &TopicPartition,
    generation: Generation,
    next: Offset,
    metadata: impl Into<ByteString>,
) -> OffsetCommit {
    OffsetCommit { partition: partition.clone(), generation, next, metadata: metadata.into() }
}

/// All partitions of a topic.
pub(super) fn partitions(topic: &TopicName, count: u32) -> BTreeSet<TopicPartition> {
    (0..count).map(|number| TopicPartition::new(topic.clone(), number)).collect()
}

/// A member. Dropping it drops its membership.
#[derive(Debug)]
pub(super) struct Member {
    owned: watch::Receiver<Owned>,
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Member {
    fn spawn(membership: Box<dyn Membership>, ledger: Arc<Mutex<Ledger>>, on_revoke: OnRevoke) -> Self {
        let (publish, owned) = watch::channel(Owned::new());
        let (leave, leaving) = oneshot::channel();
        let number = {
            let mut ledger = ledger.lock();
            ledger.members += 1;
            ledger.members
        };
        let body = Body { number, publish, ledger, on_revoke, last: None, membership: Some(membership) };
        let task = tokio::spawn(body.run(leaving));
        Self { owned, leave: Some(leave), task }
    }

    /// What it owns now.
    pub(super) fn owned(&self) -> Owned {
        self.owned.borrow().clone()
    }

    async fn changed(&mut self) {
        self.owned.changed().await.expect("the membership goes on");
    }

    /// Waits until what it owns is as wanted.
    pub(super) async fn until(&mut self, what: &str, wanted: impl Fn(&Owned) -> bool) -> Owned {
        let owned = within(what, self.owned.wait_for(wanted)).await;
        owned.expect("the membership goes on").clone()
    }

    /// Waits until it owns exactly these.
    pub(super) async fn until_owns(&mut self, partitions: &BTreeSet<TopicPartition>) -> Owned {
        self.until("being assigned all partitions", |owned| owned.keys().eq(partitions)).await
    }

    /// Leaves the group.
    pub(super) async fn leave(mut self) {
        if let Some(leave) = self.leave.take() {
            // A task that has ended already is seen below.
            let _ = leave.send(());
        }
        within("leaving", &mut self.task).await.expect("the member ends");
    }

    /// Drops the membership without a word.
    pub(super) async fn vanish(mut self) {
        // What was sent never comes, so the task ends without leaving.
        drop(self.leave.take());
        within("dropping the membership", &mut self.task).await.expect("the member ends");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task of a member has.
struct Body {
    number: u64,
    publish: watch::Sender<Owned>,
    ledger: Arc<Mutex<Ledger>>,
    on_revoke: OnRevoke,
    last: Option<Generation>,
    /// Dropped after the ledger is told.
    membership: Option<Box<dyn Membership>>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.forget(|_| true);
    }
}

impl Body {
    async fn run(mut self, mut leaving: oneshot::Receiver<()>) {
        while let Some(membership) = &mut self.membership {
            let event = tokio::select! {
                event = membership.next() => event,
                left = &mut leaving => {
                    self.forget(|_| true);
                    if let (Ok(()), Some(membership)) = (left, self.membership.take()) {
                        let left = tokio::time::timeout(PATIENCE, membership.leave()).await;
                        if !matches!(left, Ok(Ok(()))) {
                            self.ledger.lock().wrong.push(format!("leaving failed: {left:?}"));
                        }
                    }
                    return;
                }
            };
            match event {
                Ok(MembershipEvent::Assigned { generation, partitions }) => {
                    self.assigned(generation, partitions);
                }
                Ok(MembershipEvent::Revoked { partitions, handover }) => {
                    let mut revoked = self.publish.borrow().clone();
                    revoked.retain(|partition, _| partitions.contains(partition));
                    (self.on_revoke)(revoked).await;
                    self.forget(|partition| partitions.contains(partition));
                    handover.release();
                }
                Ok(MembershipEvent::Lost { partitions }) => {
                    self.forget(|partition| partitions.contains(partition));
                }
                Err(error) if matches!(error.retry(), Retry::Transient { .. }) => {}
                Err(error) => {
                    self.ledger
                        .lock()
                        .wrong
                        .push(format!("the membership of {} ended: {error}", self.number));
                    return;
                }
            }
        }
    }

    fn assigned(&mut self, generation: Generation, partitions: Vec<TopicPartition>) {
        let mut ledger = self.ledger.lock();
        if self.last.is_some_and(|last| last >= generation) || !ledger.generations.insert(generation) {
            let wrong = format!(
                "{} was given {generation:?} after {:?}, or it was given before",
                self.number, self.last
            );
            ledger.wrong.push(wrong);
        }
        self.last = Some(generation);
        for partition in &partitions {
            if let Some(owner) = ledger.owners.insert(partition.clone(), self.number) {
                let wrong = format!("{partition} was given to {} while {owner} had it", self.number);
                ledger.wrong.push(wrong);
            }
        }
        drop(ledger);
        self.publish.send_modify(|owned| owned.extend(partitions.into_iter().map(|it| (it, generation))));
    }

    fn forget(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        self.ledger.lock().owners.retain(|partition, owner| *owner != self.number || !which(partition));
        self.publish.send_modify(|owned| owned.retain(|partition, _| !which(partition)));
    }
}
