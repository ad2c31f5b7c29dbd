//! One read of one partition, and what to do where the log is not what it was.

use super::{
    Context,
    opening::{self, Start},
};
use crate::{error::Error, subscriptions::expressions::Sifted};
use ports::{ErrorKind, Fetched, LogReader, Offset, Position, ReadLimits, TopicPartition};
use std::{sync::Arc, time::Duration};

/// A read that is to be made. Owns the reader until it is done.
pub(super) struct Reading {
    pub(super) partition: TopicPartition,
    pub(super) session: u32,
    /// What [`opening::log_id`] said when the partition was opened.
    pub(super) log: u64,
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
    /// Records, or none in time, and which of them the filter passes over.
    Records(Fetched, Sifted),
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
            // What waits to be tried again was wanted when it was read first.
            let (clock, partition) = (&*context.ports.clock, &reading.partition);
            let sifted = if context.retry_topics.contains(&partition.topic) {
                Sifted::default()
            } else {
                context.expressions.sift(clock, partition, &fetched.records).await
            };
            Found::Records(fetched, sifted)
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
    let fetched = Fetched { records: Vec::new(), next: reading.position, end: latest };
    Ok(Found::Records(fetched, Sifted::default()))
}
