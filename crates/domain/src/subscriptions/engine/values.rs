//! Values are read by their schemas before their events are filtered, claimed or given out.
//!
//! Where no value of a batch can be framed nothing is done, and nothing waits. What cannot be read because the
//! registry does not serve is held, claims and attempts as they are, and read again: it is never passed over, given
//! out unread, or made a dead letter.

use super::{Context, PartitionKey, actor::Actor, claiming::Reserved};
use crate::{
    error::{Error, Result},
    event_schemas::{EventSchemas, ShownValue},
    subscriptions::Payload,
};
use ports::{StoredRecord, TopicName};
use std::sync::Arc;

/// A value that may have to be read, where it first lay.
type ToReadOne = (TopicName, Arc<StoredRecord>);

/// The values of a batch that are to be read, each in the place of its event.
pub(super) struct ToRead {
    schemas: Arc<EventSchemas>,
    values: Vec<Option<ToReadOne>>,
}

impl ToRead {
    /// Whether the value of the event at this place is read.
    pub(super) fn has(&self, at: usize) -> bool {
        self.values.get(at).is_some_and(Option::is_some)
    }

    /// Reads them.
    pub(super) async fn read(self) -> Vec<Result<ShownValue>> {
        let there = self.values.iter().flatten().map(|(topic, stored)| (topic, &stored.record));
        let mut read = self.schemas.read(there.collect()).await.into_iter();
        let plain = || Ok(ShownValue::Plain);
        self.values
            .iter()
            .map(|value| if value.is_some() { read.next().unwrap_or_else(plain) } else { plain() })
            .collect()
    }
}

impl Context {
    /// The values of what was read of a topic, where the filter looks into them; else none.
    ///
    /// # Errors
    /// `Unavailable`: the registry does not serve.
    pub(super) async fn values_to_filter(
        &self,
        topic: &TopicName,
        records: &[StoredRecord],
    ) -> Result<Vec<ShownValue>> {
        let Some(schemas) = &self.schemas else { return Ok(Vec::new()) };
        // Attributes that headers leave out may stand in the value.
        let wanted = self.expressions.filter_needs_data()
            || schemas.says_metadata(topic)
                && records.iter().any(|stored| self.expressions.filter_lacks(&stored.record));
        if !wanted {
            return Ok(Vec::new());
        }
        if !schemas.follows(topic) && !records.iter().any(|stored| EventSchemas::looks_framed(&stored.record))
        {
            return Ok(Vec::new());
        }
        let values = records.iter().map(|stored| (topic, &stored.record)).collect();
        schemas.read(values).await.into_iter().collect()
    }

    /// The value of an event as it is given out.
    pub(super) fn given(&self, value: ShownValue) -> ShownValue {
        if self.definition.payload == Payload::Json { value } else { ShownValue::Plain }
    }
}

impl Actor {
    /// What is to be read of the values of what is reserved; `None` where nothing is.
    pub(super) fn to_read(&self, reserved: &[Reserved]) -> Option<ToRead> {
        let context = &self.context;
        let wanted = context.definition.payload == Payload::Json || context.expressions.key_needs_data();
        let schemas = context.schemas.as_ref()?;
        if !wanted {
            return self.to_name(schemas, reserved);
        }
        let mut last: Option<(PartitionKey, bool)> = None;
        let is_one = |Reserved { key, taken, .. }: &Reserved| {
            let Some(owned) = self.owned.get(key) else { return false };
            let looks =
                owned.core.record(taken.ticket).is_some_and(|it| EventSchemas::looks_framed(&it.record));
            if looks {
                return true;
            }
            if let Some(of) = owned.core.retried(taken.ticket) {
                return schemas.follows(&of.topic);
            }
            // What is reserved stands by partition.
            match last {
                Some((at, follows)) if at == *key => follows,
                _ => {
                    let follows = schemas.follows(&owned.partition.topic);
                    last = Some((*key, follows));
                    follows
                }
            }
        };
        if !reserved.iter().any(is_one) {
            return None;
        }
        let value = |Reserved { key, taken, .. }: &Reserved| {
            let owned = self.owned.get(key)?;
            let record = owned.core.record(taken.ticket)?.clone();
            let topic = owned.core.retried(taken.ticket).map_or(&owned.partition.topic, |of| &of.topic);
            Some((topic.clone(), record))
        };
        Some(ToRead { schemas: schemas.clone(), values: reserved.iter().map(value).collect() })
    }

    /// As [`Self::to_read`], where values are given out as they are: those alone that name their events.
    fn to_name(&self, schemas: &Arc<EventSchemas>, reserved: &[Reserved]) -> Option<ToRead> {
        if !self.context.definition.dedup.enabled {
            return None;
        }
        let value = |Reserved { key, taken, .. }: &Reserved| {
            let owned = self.owned.get(key)?;
            let record = owned.core.record(taken.ticket)?;
            let topic = owned.core.retried(taken.ticket).map_or(&owned.partition.topic, |of| &of.topic);
            schemas.names_by_value(topic, &record.record).then(|| (topic.clone(), record.clone()))
        };
        if !reserved.iter().any(|reserved| value(reserved).is_some()) {
            return None;
        }
        Some(ToRead { schemas: schemas.clone(), values: reserved.iter().map(value).collect() })
    }

    /// Notes whether the values of a batch could be read; `None` where all could.
    pub(super) fn values_read(&mut self, failed: Option<&Error>) {
        match failed {
            None => self.schema_trouble = None,
            Some(error) if self.schema_trouble.is_none() => {
                let name = &self.context.definition.name;
                tracing::warn!(subscription = %name, %error, "values cannot be read: their events wait");
                self.schema_trouble = Some(self.context.cause("schema-registry", error.detail()));
            }
            Some(_) => {}
        }
    }
}
