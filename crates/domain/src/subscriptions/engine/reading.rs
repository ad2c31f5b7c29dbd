//! One read of one partition, and what to do where the log is not what it was.

use super::{
    Context,
    opening::{self, Start},
};
use crate::{
    delivery::{Incoming, Now},
    error::Error,
    retry_topic::{self, Waiting},
    subscriptions::expressions::ExpressionErrors,
};
use ports::{ErrorKind, LogReader, Offset, Position, ReadLimits, StoredRecord, TopicPartition};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    iter,
    sync::Arc,
    time::Duration,
};

/// A read that is to be made. Owns the reader until it is done.
pub(super) struct Reading {
    pub(super) partition: TopicPartition,
    pub(super) session: u32,
    /// What [`opening::log_id`] said when the partition was opened.
    pub(super) log: u64,
    /// Whether it is a retry topic.
    pub(super) retries: bool,
    /// Hashes keys to lanes.
    pub(super) hasher: DefaultHasher,
    pub(super) reader: Box<dyn LogReader>,
    /// Where the reader stands.
    pub(super) position: Offset,
    pub(super) limits: ReadLimits,
    /// How often reading has failed since it last went well.
    pub(super) failures: u32,
    /// How long to wait first.
    pub(super) delay: Duration,
}

/// What a read found.
pub(super) enum Found {
    /// Events, or none in time.
    Events {
        /// As the core takes them, what the filter passes over marked as such.
        events: Vec<Incoming>,
        /// Where to read on.
        next: Offset,
        /// The end of the log.
        end: Offset,
        /// What the filter could not tell.
        errors: ExpressionErrors,
    },
    /// Retention has deleted what was to be read; the reader stands at the first record that is left.
    Overtaken { earliest: Offset },
    /// The log ends before the position: it was cut, or made again as `log`. The reader stands where its new
    /// epoch begins.
    OtherLog { start: Start, log: u64 },
    /// It did not work; the same read is to be made again.
    Failed(Error),
}

/// Makes a read. Gives the reader back.
pub(super) async fn read(context: Arc<Context>, mut reading: Reading) -> (Reading, Found) {
    context.sleep(reading.delay).await;
    let found = match reading.reader.next(reading.limits).await {
        Ok(fetched) => {
            // Here, and not where what was read is taken in: the engine goes on meanwhile.
            let (hasher, records) = (&reading.hasher, fetched.records);
            let (next, end) = (fetched.next, fetched.end);
            if reading.retries {
                // What waits to be tried again was wanted when it was read first.
                let now = context.both();
                let events = records.into_iter().map(|record| waiting(hasher, now, record)).collect();
                Found::Events { events, next, end, errors: ExpressionErrors::default() }
            } else {
                let clock = &*context.ports.clock;
                let values = match context.values_to_filter(&reading.partition.topic, &records).await {
                    Ok(values) => values,
                    Err(error) => {
                        // What was read is read again: its filter cannot tell yet.
                        let back = reading.reader.seek(reading.position).await;
                        let found = Found::Failed(back.err().map_or(error, Error::from));
                        return (reading, found);
                    }
                };
                let sifted = context.expressions.sift(clock, &reading.partition, &records, &values).await;
                let unwanted = sifted.unwanted.into_iter().chain(iter::repeat(false));
                let events = records.into_iter().zip(unwanted);
                let events = events.map(|(record, unwanted)| incoming(hasher, record, unwanted)).collect();
                Found::Events { events, next, end, errors: sifted.errors }
            }
        }
        Err(error) if error.kind() == ErrorKind::OutOfRange => {
            mend(&context, &mut reading).await.unwrap_or_else(Found::Failed)
        }
        Err(error) => Found::Failed(error.into()),
    };
    (reading, found)
}

async fn mend(context: &Context, reading: &mut Reading) -> Result<Found, Error> {
    let partition = &reading.partition;
    let at = [(partition.partition, Position::Earliest), (partition.partition, Position::Latest)];
    let places = context.ports.log.locate(&partition.topic, &at).await?;
    let (earliest, latest) = (places[0], places[1]);
    if reading.position > latest {
        let log = opening::log_id(context, partition).await?;
        // What a cut log still holds was read before; another log is new from its start.
        let from = if log == reading.log { latest } else { earliest };
        let start = opening::begin_epoch(context, partition, from).await?;
        reading.reader.seek(from).await?;
        return Ok(Found::OtherLog { start, log });
    }
    if reading.position < earliest {
        reading.reader.seek(earliest).await?;
        return Ok(Found::Overtaken { earliest });
    }
    // Within the log after all: what was asked a moment ago has changed since.
    reading.reader.seek(reading.position).await?;
    let errors = ExpressionErrors::default();
    Ok(Found::Events { events: Vec::new(), next: reading.position, end: latest, errors })
}

/// An event as its core sees it.
fn incoming(hasher: &DefaultHasher, record: StoredRecord, passed_over: bool) -> Incoming {
    let key = record.record.key.as_ref().map(|key| {
        let mut hasher = hasher.clone();
        key.hash(&mut hasher);
        hasher.finish()
    });
    Incoming { record, key, attempts: 0, retried: None, not_before: None, passed_over }
}

/// An event of a retry topic as its core sees it.
fn waiting(hasher: &DefaultHasher, now: Now, record: StoredRecord) -> Incoming {
    let StoredRecord { offset, record } = record;
    match retry_topic::read(record) {
        Ok(Waiting { record, retried, attempts, not_before }) => {
            let left = u64::try_from(not_before.0.saturating_sub(now.wall.0)).unwrap_or_default();
            let until = now.steady + Duration::from_millis(left);
            let event = incoming(hasher, StoredRecord { offset, record }, false);
            Incoming { attempts, retried: Some(Arc::new(retried)), not_before: Some(until), ..event }
        }
        Err(record) => incoming(hasher, StoredRecord { offset, record }, false),
    }
}
