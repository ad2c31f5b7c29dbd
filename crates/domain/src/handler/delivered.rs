//! One event at its handler.

use crate::Event;
use bytes::Bytes;
use ports::{HandlerDelivery, Monotonic, Offset, PartitionId, StoredRecord, Timestamp, TopicName};
use std::sync::Arc;

/// One event, decoded, with what is known of its delivery.
#[derive(Clone, Debug)]
pub struct Delivered<T> {
    /// The decoded value.
    pub data: T,
    /// Stays the same over all attempts.
    pub id: String,
    /// Which delivery of this event it is, from 1.
    pub attempt: u32,
    /// When an answer is no longer waited for, by the service's steady clock.
    pub deadline: Monotonic,
    /// Where the event lies.
    pub topic: TopicName,
    /// Where the event lies.
    pub partition: PartitionId,
    /// The record as it lies there.
    pub record: Arc<StoredRecord>,
}

impl<T> Delivered<T> {
    pub(super) fn new(data: T, delivery: &HandlerDelivery) -> Self {
        Self {
            data,
            id: delivery.id.clone(),
            attempt: delivery.attempt,
            deadline: delivery.deadline,
            topic: delivery.topic.clone(),
            partition: delivery.partition,
            record: delivery.record.clone(),
        }
    }

    /// Where the event lies in its partition.
    pub fn offset(&self) -> Offset {
        self.record.offset
    }

    /// The event's key; `None` is null.
    pub fn key(&self) -> Option<&Bytes> {
        self.record.record.key.as_ref()
    }

    /// The record's time.
    pub fn timestamp(&self) -> Timestamp {
        self.record.record.timestamp
    }

    /// The value of the first header of this name, as it lies in the record: attributes are `ce_…`. `None`
    /// where there is none, or it is null.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let header = self.record.record.headers.iter().find(|header| *header.name == *name)?;
        header.value.as_ref()
    }

    /// The event with its CloudEvents attributes. They are read anew at every call; bytes are shared with
    /// the record, not copied.
    pub fn event(&self) -> Event {
        Event::from_record(&self.record.record)
    }
}
