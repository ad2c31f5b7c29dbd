//! Dead letters as a resource: listed, looked at, edited, discarded, and given back to their subscription.
//!
//! | module | holds |
//! | --- | --- |
//! | `letter` | a dead letter as it is read, those of other programs too |
//! | `decision` | what was decided about one, as a record of the topic `{dead letter topic}.decisions` |
//! | `table`, `lane`, `names` | the index in memory |
//! | `index` | the task that keeps an index up with its topics |
//! | `reading` | the dead letters that an index names |
//! | `listing`, `deciding`, `selecting` | the use cases |
//!
//! Invariants:
//! 1. The topics are the truth: dead letters are never changed, and what is decided about them is appended beside
//!    them, for ever. An index can be thrown away at any time.
//! 2. An answer knows all that was written, by whatever replica, before the request came.
//! 3. A decision is durable before it is answered. What became of a dead letter is what folding the decisions in their
//!    order gives, at every replica: of two that exclude each other the later one does not hold, and is refused.
//! 4. No request reads more than a page of the topic, and memory has a bound, whatever lies there.

mod deciding;
mod decision;
mod index;
mod lane;
mod letter;
mod listing;
mod names;
mod reading;
mod selecting;
mod table;
#[cfg(test)]
mod table_tests;

pub use deciding::{EditData, EditLetter};
pub use decision::{DecisionKind, Edit, Recorded};
pub use letter::{Letter, LetterError, LetterId, LetterStatus, Original};
pub use listing::{LetterDetail, LetterPage, LetterSummary, ListLetters};
pub use selecting::{Selected, Selection};

use crate::{
    error::{Error, ErrorCode, Result},
    event_schemas::EventSchemas,
    limits::Limits,
    subscriptions::Subscriptions,
    topics::Topics,
};
use index::{Follower, Index};
use parking_lot::Mutex;
use ports::{Clock, EventLog, GroupId};
use std::{collections::HashMap, sync::Arc};
use tokio::task::JoinSet;

/// How dead letters are kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLettersConfig {
    /// The most dead letters of a subscription that are listed; beyond it the oldest are not.
    pub index_max: usize,
}

impl Default for DeadLettersConfig {
    fn default() -> Self {
        Self { index_max: 1_000_000 }
    }
}

/// What dead letters need of the outside.
#[derive(Clone, Debug)]
pub struct DeadLetterPorts {
    /// Reads dead letters, and keeps decisions.
    pub log: Arc<dyn EventLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Shared {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    subscriptions: Arc<Subscriptions>,
    topics: Arc<Topics>,
    limits: Arc<Limits>,
    schemas: Option<Arc<EventSchemas>>,
    config: DeadLettersConfig,
}

#[derive(Debug, Default)]
struct Indexes {
    by_subscription: HashMap<GroupId, Arc<Index>>,
    tasks: JoinSet<()>,
    stopped: bool,
}

/// The dead letters of subscriptions. Dropping it ends what keeps its indexes up.
#[derive(Debug)]
pub struct DeadLetters {
    shared: Arc<Shared>,
    indexes: Arc<Mutex<Indexes>>,
}

impl DeadLetters {
    /// The dead letters of `subscriptions`. Nothing is read before somebody asks.
    pub fn new(
        ports: DeadLetterPorts,
        subscriptions: Arc<Subscriptions>,
        topics: Arc<Topics>,
        limits: Arc<Limits>,
        schemas: Option<Arc<EventSchemas>>,
        config: DeadLettersConfig,
    ) -> Arc<Self> {
        let DeadLetterPorts { log, clock } = ports;
        let shared = Shared { log, clock, subscriptions, topics, limits, schemas, config };
        Arc::new(Self { shared: Arc::new(shared), indexes: Arc::default() })
    }

    /// How many subscriptions' dead letters are known in memory.
    pub fn indexes(&self) -> usize {
        self.indexes.lock().by_subscription.len()
    }

    /// Ends what keeps the indexes up. Nothing is lost; who still asks is told that the service stops.
    pub fn shutdown(&self) {
        let mut indexes = self.indexes.lock();
        indexes.stopped = true;
        indexes.by_subscription.clear();
        indexes.tasks.abort_all();
    }

    /// The index of a subscription, caught up; `None` where it has no dead letter topic.
    ///
    /// # Errors
    /// `subscription_not_found`; `Unavailable` where the log does not serve, or it takes long to be read.
    async fn index(&self, name: &str) -> Result<Option<Arc<Index>>> {
        let shared = &self.shared;
        let definition = shared.subscriptions.definition(name)?;
        let topic = definition.dead_letter_policy().topic;
        if shared.topics.meta_if_there(&topic).await?.is_none() {
            return Ok(None);
        }
        let index = {
            let mut indexes = self.indexes.lock();
            if indexes.stopped {
                return Err(Error::new(ErrorCode::Unavailable, "the service stops"));
            }
            let now = shared.clock.monotonic();
            match indexes.by_subscription.get(&definition.name).filter(|index| index.topic == topic) {
                Some(index) => {
                    index.touch(now);
                    index.clone()
                }
                None => {
                    let max = shared.config.index_max;
                    let index = Arc::new(Index::new(definition.name.clone(), topic, max, now));
                    indexes.by_subscription.insert(definition.name.clone(), index.clone());
                    self.follow(&mut indexes, index.clone());
                    index
                }
            }
        };
        index.catch_up(shared).await?;
        Ok(Some(index))
    }

    fn follow(&self, indexes: &mut Indexes, index: Arc<Index>) {
        let follower = Follower::new(index, self.shared.clone());
        let (of, clock) = (Arc::downgrade(&self.indexes), self.shared.clock.clone());
        while indexes.tasks.try_join_next().is_some() {}
        indexes.tasks.spawn(follower.run(move |index| {
            let Some(indexes) = of.upgrade() else { return true };
            let mut indexes = indexes.lock();
            // Under the lock, so that nobody is given an index that ends.
            let current = indexes.by_subscription.get(&index.subscription);
            let is_current = current.is_some_and(|current| std::ptr::eq(&raw const **current, index));
            let is_over = !is_current || index.is_idle(clock.monotonic());
            if is_current && is_over {
                indexes.by_subscription.remove(&index.subscription);
            }
            is_over
        }));
    }

    /// The error for a dead letter that is not there.
    fn not_found(name: &str, id: &str) -> Error {
        let (name, id) = (crate::error::short(name), crate::error::short(id));
        let detail = format!("subscription `{name}` has no dead letter `{id}`");
        Error::new(ErrorCode::DeadLetterNotFound, detail)
    }
}
