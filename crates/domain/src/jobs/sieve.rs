//! Which of the events that are read are wanted.

use super::job::Task;
use crate::{
    dead_letters::{DeadLetters, Letter, LetterStatus},
    error::{Error, ErrorCode, Result},
    event_schemas::{EventSchemas, ShownValue},
    filter::{Filter, FilterInput, FilterLimits},
};
use ports::{PartitionId, StoredRecord, TopicName};
use std::sync::Arc;

/// A task's range of time and filter.
pub(super) struct Sieve {
    topic: TopicName,
    since: Option<i64>,
    until: Option<i64>,
    /// All of them must want an event.
    filters: Vec<Filter>,
    schemas: Option<Arc<EventSchemas>>,
}

/// What is left.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    pub(super) events: Vec<(PartitionId, StoredRecord)>,
    /// Events of which the filter could not tell.
    pub(super) errors: u64,
}

impl Sieve {
    /// # Errors
    /// The filter compiles no more: the service's limits have changed since.
    pub(super) fn new(
        task: &Task,
        topic: TopicName,
        limits: &FilterLimits,
        schemas: Option<Arc<EventSchemas>>,
    ) -> Result<Self> {
        let texts = [&task.target_filter, &task.filter].into_iter().flatten();
        let filters = texts.map(|text| Filter::compile(text, limits));
        let filters = filters.collect::<std::result::Result<_, _>>().map_err(|error| {
            Error::new(ErrorCode::InvalidRequest, format!("its filter does not compile any more: {error}"))
        })?;
        Ok(Self { topic, since: task.since, until: task.until, filters, schemas })
    }

    /// Takes out what is not wanted.
    ///
    /// # Errors
    /// `Unavailable`: a value must be read by its schema, and the registry does not serve.
    pub(super) async fn sift(&self, mut events: Vec<(PartitionId, StoredRecord)>) -> Result<Sifted> {
        let (since, until) = (self.since.unwrap_or(i64::MIN), self.until);
        events.retain(|(_, stored)| {
            let time = stored.record.timestamp.0;
            time >= since && until.is_none_or(|until| time < until)
        });
        if self.filters.is_empty() {
            return Ok(Sifted { events, errors: 0 });
        }
        let values = self.values(&events).await?;
        let mut values = values.into_iter();
        let mut sifted = Sifted { events: Vec::with_capacity(events.len()), errors: 0 };
        for (partition, record) in events {
            let value = values.next();
            let decoded = match &value {
                Some(ShownValue::Decoded(decoded)) => Some(&decoded.json),
                _ => None,
            };
            let topic = self.topic.as_str();
            let metadata = value.as_ref().and_then(ShownValue::metadata);
            let input = FilterInput { topic, partition, record: &record, decoded, metadata };
            match self
                .filters
                .iter()
                .map(|filter| filter.matches(&input))
                .find(|matches| *matches != Ok(true))
            {
                None => sifted.events.push((partition, record)),
                Some(Err(_)) => sifted.errors += 1,
                Some(Ok(_)) => {}
            }
            // Evaluating is work for a processor: others have their turn.
            tokio::task::coop::consume_budget().await;
        }
        Ok(sifted)
    }

    /// Takes out the dead letters that are not to be redriven: those that were already, or were discarded, and those
    /// that the filter does not want. Answers of how many it could not tell.
    ///
    /// # Errors
    /// `Unavailable`: a value must be read by its schema, and the registry does not serve.
    pub(super) async fn letters(&self, of: &DeadLetters, letters: Vec<Letter>) -> Result<(Vec<Letter>, u64)> {
        let parked = letters.into_iter().filter(|letter| letter.status == LetterStatus::Parked);
        let (mut wanted, mut unknown): (Vec<_>, _) = (parked.collect(), 0);
        for filter in &self.filters {
            let (matching, errors) = of.sift(filter, wanted).await?;
            wanted = matching.into_iter().map(|(_, letter)| letter).collect();
            unknown += errors;
        }
        Ok((wanted, unknown))
    }

    async fn values(&self, events: &[(PartitionId, StoredRecord)]) -> Result<Vec<ShownValue>> {
        let Some(schemas) = &self.schemas else { return Ok(Vec::new()) };
        // Attributes that headers leave out may stand in the value.
        let lacks = |filter: &Filter| events.iter().any(|(_, stored)| filter.lacks(&stored.record));
        let wanted = self.filters.iter().any(Filter::needs_data)
            || schemas.says_metadata(&self.topic) && self.filters.iter().any(lacks);
        if !wanted {
            return Ok(Vec::new());
        }
        let framed = |(_, stored): &(_, StoredRecord)| EventSchemas::looks_framed(&stored.record);
        if !schemas.follows(&self.topic) && !events.iter().any(framed) {
            return Ok(Vec::new());
        }
        let values = events.iter().map(|(_, stored)| (&self.topic, &stored.record)).collect();
        schemas.read(values).await.into_iter().collect()
    }
}
