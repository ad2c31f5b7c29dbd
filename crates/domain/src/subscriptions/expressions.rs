//! A subscription's expressions: which events it wants, and what makes two of them copies of each other.
//!
//! They are kept as text, and compiled when the subscription is made, to be checked, and when its engine
//! begins. An evaluation that fails decides nothing by itself: an event whose filter fails is not wanted,
//! and one whose key fails has the key of an event without an expression. Both are counted, and the last
//! reason is kept.

use super::{Definition, policy::DedupPolicy};
use crate::{
    error::{Error, Result},
    event_schemas::ShownValue,
    filter::{Filter, FilterError, FilterInput, FilterLimits, KeyExpression},
};
use bytes::Bytes;
use ports::{
    Clock, Monotonic, Offset, PartitionId, Record, StoredRecord, Timestamp, TopicName, TopicPartition,
};
use std::time::Duration;

/// How long expressions are evaluated at a time, about, until others have their turn.
const TURN: Duration = Duration::from_millis(1);

/// Evaluations that failed, at this replica, since it began to serve the subscription as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpressionErrors {
    /// How many.
    pub count: u64,
    /// The last one.
    pub last: Option<ExpressionError>,
}

/// An evaluation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// The event's topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When it was evaluated.
    pub at: Timestamp,
    /// Why it failed, in a sentence.
    pub reason: String,
}

impl ExpressionErrors {
    /// Counts an evaluation that failed.
    pub(super) fn note(&mut self, partition: &TopicPartition, offset: Offset, at: Timestamp, reason: String) {
        self.count += 1;
        let TopicPartition { topic, partition } = partition.clone();
        self.last = Some(ExpressionError { topic, partition, offset, at, reason });
    }

    /// Counts those of a batch. Answers whether they are the first ones.
    pub(super) fn add(&mut self, batch: Self) -> bool {
        let first = self.count == 0 && batch.count > 0;
        self.count += batch.count;
        self.last = batch.last.or(self.last.take());
        first
    }
}

/// What a definition's expressions are, compiled.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    filter: Option<Filter>,
    dedup_key: Option<KeyExpression>,
}

impl Expressions {
    /// Compiles what a definition says. Blocks for some milliseconds an expression.
    ///
    /// # Errors
    /// `invalid_request`, with the field, the line and the column.
    pub(super) fn compile(definition: &Definition, limits: &FilterLimits) -> Result<Self> {
        let Definition { filter, dedup: DedupPolicy { key, enabled, .. }, .. } = definition;
        let compile_key = |text: &String| {
            KeyExpression::compile(text, limits).map_err(|error| refused("dedup.key", &error))
        };
        let compile_filter =
            |text: &String| Filter::compile(text, limits).map_err(|error| refused("filter", &error));
        Ok(Self {
            filter: filter.as_ref().map(compile_filter).transpose()?,
            // One that is not used is to be right all the same.
            dedup_key: key.as_ref().map(compile_key).transpose()?.filter(|_| *enabled),
        })
    }

    /// What tells copies of an event, where the subscription says.
    pub(super) fn dedup_key(&self) -> Option<&KeyExpression> {
        self.dedup_key.as_ref()
    }

    /// Whether the filter may have to read values.
    pub(super) fn filter_needs_data(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::needs_data)
    }

    /// Whether the filter asks for an attribute that a record's headers leave out.
    pub(super) fn filter_lacks(&self, record: &Record) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.lacks(record))
    }

    /// Whether values may have to be read to tell copies of an event.
    pub(super) fn key_needs_data(&self) -> bool {
        self.dedup_key.as_ref().is_some_and(KeyExpression::needs_data)
    }

    /// Which events of a batch are not wanted. `values` are theirs, as far as they were read by a schema.
    ///
    /// # Cancellation
    /// Has no effect but its answer.
    pub(super) async fn sift(
        &self,
        clock: &dyn Clock,
        partition: &TopicPartition,
        records: &[StoredRecord],
        values: &[ShownValue],
    ) -> Sifted {
        let mut sifted = Sifted::default();
        let Some(filter) = &self.filter else { return sifted };
        sifted.unwanted.reserve_exact(records.len());
        let mut turn = Turn::new(clock);
        for (at, stored) in records.iter().enumerate() {
            let outcome = filter.matches(&input(partition, stored, values.get(at)));
            sifted.unwanted.push(outcome != Ok(true));
            if let Err(reason) = outcome {
                sifted.errors.note(partition, stored.offset, clock.wall(), reason);
            }
            turn.pass().await;
        }
        sifted
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// Whether each event is not wanted. Empty where all are.
    pub(super) unwanted: Vec<bool>,
    /// What could not be told.
    pub(super) errors: ExpressionErrors,
}

/// What a key expression gives for an event.
pub(super) fn key_of(
    expression: &KeyExpression,
    partition: &TopicPartition,
    stored: &StoredRecord,
    value: Option<&ShownValue>,
) -> std::result::Result<Bytes, String> {
    expression.evaluate(&input(partition, stored, value))
}

fn input<'a>(
    partition: &'a TopicPartition,
    record: &'a StoredRecord,
    value: Option<&'a ShownValue>,
) -> FilterInput<'a> {
    let decoded = match value {
        Some(ShownValue::Decoded(decoded)) => Some(&decoded.json),
        _ => None,
    };
    let metadata = value.and_then(ShownValue::metadata);
    FilterInput { topic: partition.topic.as_str(), partition: partition.partition, record, decoded, metadata }
}

fn refused(field: &str, error: &FilterError) -> Error {
    Error::invalid(field, format!("is not an expression that can be evaluated: {error}"))
}

/// Lets others have their turn between evaluations, each of which is bounded by itself.
pub(super) struct Turn<'a> {
    clock: &'a dyn Clock,
    until: Monotonic,
}

impl<'a> Turn<'a> {
    pub(super) fn new(clock: &'a dyn Clock) -> Self {
        Self { clock, until: clock.monotonic() + TURN }
    }

    /// Between two evaluations.
    pub(super) async fn pass(&mut self) {
        if self.clock.monotonic() >= self.until {
            tokio::task::yield_now().await;
            self.until = self.clock.monotonic() + TURN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use parking_lot::Mutex;

    /// A clock on which each look takes as long as it is told.
    #[derive(Debug)]
    struct Slow(Mutex<Duration>, Duration);

    #[async_trait::async_trait]
    impl Clock for Slow {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Monotonic {
            let mut now = self.0.lock();
            *now += self.1;
            Monotonic(*now)
        }

        async fn sleep_until(&self, _until: Monotonic) {}
    }

    fn expressions() -> Expressions {
        let filter = Filter::compile("offset % 2 == 0", &FilterLimits::default()).unwrap();
        Expressions { filter: Some(filter), dedup_key: None }
    }

    fn records() -> Vec<StoredRecord> {
        (0..100).map(|offset| StoredRecord { offset, record: Record::default() }).collect()
    }

    #[tokio::test]
    async fn a_batch_that_takes_long_is_evaluated_in_turns() {
        let partition = TopicPartition::new(TopicName::new("orders").unwrap(), 0);
        let (expressions, records) = (expressions(), records());
        let mut turns = Vec::new();
        for look in [Duration::ZERO, TURN / 10] {
            let clock = Slow(Mutex::default(), look);
            let mut sifting = std::pin::pin!(expressions.sift(&clock, &partition, &records, &[]));
            let mut count = 1;
            let sifted = loop {
                match sifting.as_mut().now_or_never() {
                    Some(sifted) => break sifted,
                    None => count += 1,
                }
            };
            assert!(sifted.unwanted.iter().enumerate().all(|(n, unwanted)| *unwanted == (n % 2 == 1)));
            turns.push(count);
        }
        assert_eq!(turns[0], 1, "what is quick is done at once");
        assert!(turns[1] > 5, "{turns:?}");
    }

    #[test]
    fn errors_are_counted_and_the_last_is_kept() {
        let partition = TopicPartition::new(TopicName::new("orders").unwrap(), 3);
        let (mut all, mut batch) = (ExpressionErrors::default(), ExpressionErrors::default());
        assert!(!all.add(ExpressionErrors::default()));
        batch.note(&partition, 7, Timestamp(1), "one".into());
        batch.note(&partition, 8, Timestamp(2), "two".into());
        assert!(all.add(batch.clone()), "the first are told from the others");
        assert!(!all.add(batch));
        assert!(!all.add(ExpressionErrors::default()));
        assert_eq!((all.count, all.last.unwrap().offset), (4, 8));
    }
}
