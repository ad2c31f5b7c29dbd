//! What the log says after the deadline of a call has passed.

use super::{flow::Core, request::Receipt};
use crate::error::Result;
use bytestring::ByteString;
use ports::{Appended, Effect, LateReports, PartitionId, TopicName};
use std::sync::Arc;

/// An append of which something was not known when its deadline passed.
pub(super) struct Open {
    pub(super) topic: TopicName,
    /// For each record, its item's index and its event's id.
    pub(super) items: Vec<(usize, ByteString)>,
    /// For each record, its partition.
    pub(super) partitions: Vec<PartitionId>,
    pub(super) reports: LateReports,
}

/// What became of an item after all.
pub(super) struct Heard {
    pub(super) index: usize,
    pub(super) outcome: Result<Receipt>,
    /// Of a failure.
    pub(super) effect: Effect,
    /// The chain of what caused a failure.
    pub(super) cause: Option<String>,
}

impl Open {
    /// Waits for the log's report, and says what it is in a log line an event, so that an operator can tell
    /// which of those that were answered `timeout` are there after all. An event of which the log says
    /// nothing any more is not among the answers.
    pub(super) async fn hear(self, core: Arc<Core>) -> Vec<Heard> {
        let Self { topic, items, partitions, reports } = self;
        let mut heard = Vec::new();
        for (at, outcome) in reports.await {
            let (Some((index, id)), Some(partition)) = (items.get(at), partitions.get(at)) else { continue };
            let (index, id) = (*index, id.clone());
            heard.push(match outcome {
                Ok(Appended { offset, timestamp }) => {
                    tracing::warn!(%topic, id = &*id, offset, "an event beyond its deadline was appended");
                    let (topic, partition) = (topic.clone(), *partition);
                    let receipt = Receipt { id, topic, partition, offset, timestamp, duplicate: false };
                    Heard { index, outcome: Ok(receipt), effect: Effect::Unknown, cause: None }
                }
                Err(error) => {
                    tracing::warn!(%topic, id = &*id, %error, "an event beyond its deadline was not appended");
                    let effect = error.effect();
                    let cause = Some(super::flow::chain(&error));
                    Heard { index, outcome: Err(core.append_error(&topic, &error)), effect, cause }
                }
            });
        }
        heard
    }
}
