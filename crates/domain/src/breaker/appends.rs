//! A log whose appends stand behind circuits, one a topic.

use super::{Breaker, BreakerStatus, LOG};
use async_trait::async_trait;
use parking_lot::RwLock;
use ports::{
    AppendRequest, AppendResult, Capabilities, Clock, EventLog, LogReader, Offset, PartitionId, PortError,
    Position, Result, TopicName, TopicPartition,
};
use std::{collections::HashMap, fmt, sync::Arc};

/// So many topics have a circuit; what is appended to others is always passed on.
const TOPICS_MAX: usize = 10_000;

/// A log to which nothing is appended while a topic takes nothing: an append is refused at once then, instead of
/// waiting for its timeout. A topic that serves is not kept from it by one that does not. Otherwise as the log.
pub struct GuardedAppends {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    breakers: RwLock<HashMap<TopicName, Arc<Breaker>>>,
}

impl fmt::Debug for GuardedAppends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedAppends").field("log", &self.log).finish_non_exhaustive()
    }
}

impl GuardedAppends {
    /// Puts circuits before `log`.
    pub fn new(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Self {
        Self { log, clock, breakers: RwLock::default() }
    }

    /// The topics whose circuits are not closed, by name, at most `max`.
    pub fn open(&self, max: usize) -> Vec<(TopicName, BreakerStatus)> {
        let breakers = self.breakers.read();
        let all = breakers.iter().map(|(topic, breaker)| (topic.clone(), breaker.status()));
        let mut open: Vec<_> = all.filter(|(_, status)| *status != BreakerStatus::Closed).collect();
        open.sort_by(|(one, _), (other, _)| one.cmp(other));
        open.truncate(max);
        open
    }

    fn breaker(&self, topic: &TopicName) -> Option<Arc<Breaker>> {
        if let Some(breaker) = self.breakers.read().get(topic) {
            return Some(breaker.clone());
        }
        let mut breakers = self.breakers.write();
        if breakers.len() >= TOPICS_MAX {
            return None;
        }
        let new = || Arc::new(Breaker::new("the log", LOG, self.clock.clone()));
        Some(breakers.entry(topic.clone()).or_insert_with(new).clone())
    }
}

#[async_trait]
impl EventLog for GuardedAppends {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        let count = request.records.len();
        let Some(breaker) = self.breaker(&request.topic).filter(|_| count > 0) else {
            return self.log.append(request).await;
        };
        let mut result = None;
        let call = async {
            let appended = result.insert(self.log.append(request).await);
            // Where one was taken the topic serves; what became of a partition is not the topic's matter.
            match appended.outcomes.iter().find(|outcome| outcome.is_ok()).or(appended.outcomes.first()) {
                Some(Err(error)) => Err(error.duplicate()),
                _ => Ok(()),
            }
        };
        let called = breaker.call("event_log.append", call).await;
        result.unwrap_or_else(|| {
            let refused = |error: &PortError| (0..count).map(|_| Err(error.duplicate())).collect();
            AppendResult::complete(called.as_ref().err().map(refused).unwrap_or_default())
        })
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        self.log.open(partition, from).await
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        self.log.locate(topic, at).await
    }
}
