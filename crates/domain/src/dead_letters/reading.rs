//! Reads the dead letters that an index names, and what was decided about them.

use super::{
    DeadLetters,
    decision::{Edit, Recorded},
    index::Index,
    lane::Entry,
    letter::{Letter, LetterStatus},
};
use crate::{
    error::{Error, Result},
    event::header::{CE_PREFIX, CONTENT_TYPE, OWN_PREFIX, TRACEPARENT, TRACESTATE},
    event_schemas::ShownValue,
    filter::{Filter, FilterInput},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ports::{
    ErrorKind, EventLog, Header, Offset, PartitionId, PortError, ReadLimits, Record, StoredRecord, TopicName,
    TopicPartition,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// Records that lie no further apart are read in one go, with what lies between.
const GAP_MAX: Offset = 16;
/// So many partitions are read at a time.
const AT_ONCE: usize = 8;
/// What one read may bring.
const READ_BYTES: usize = 4 << 20;
/// How long a read waits for what should be there.
const WAIT: Duration = Duration::from_secs(2);
/// The most decisions about one dead letter that are shown.
const HISTORY_MAX: usize = 100;

/// Reads records by their places. What is not there any more is left out.
pub(super) async fn records(
    log: &Arc<dyn EventLog>,
    topic: &TopicName,
    places: impl IntoIterator<Item = (PartitionId, Offset)>,
) -> Result<HashMap<(PartitionId, Offset), Record>> {
    let mut wanted: BTreeMap<PartitionId, Vec<Offset>> = BTreeMap::new();
    for (partition, offset) in places {
        wanted.entry(partition).or_default().push(offset);
    }
    let reads = wanted.into_iter().map(|(partition, mut offsets)| {
        offsets.sort_unstable();
        offsets.dedup();
        let (log, place) = (log.clone(), TopicPartition::new(topic.clone(), partition));
        async move { Ok::<_, Error>((partition, of_partition(&log, &place, &offsets).await?)) }
    });
    let read: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    let all = read.into_iter().flat_map(|(partition, found)| {
        found.into_iter().map(move |StoredRecord { offset, record }| ((partition, offset), record))
    });
    Ok(all.collect())
}

async fn of_partition(
    log: &Arc<dyn EventLog>,
    place: &TopicPartition,
    offsets: &[Offset],
) -> Result<Vec<StoredRecord>, PortError> {
    let mut found = Vec::with_capacity(offsets.len());
    let Some(first) = offsets.first() else { return Ok(found) };
    let mut reader = log.open(place, *first).await?;
    let mut position = *first;
    for run in offsets.chunk_by(|one, next| next - one <= GAP_MAX) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        if position != *first {
            reader.seek(*first).await?;
            position = *first;
        }
        while position <= *last {
            let records_max = (last - position + 1) as usize;
            let fetched =
                match reader.next(ReadLimits { records_max, bytes_max: READ_BYTES, wait_max: WAIT }).await {
                    Ok(fetched) => fetched,
                    // Retention was faster; what lies further on may still be there.
                    Err(error) if error.kind() == ErrorKind::OutOfRange => {
                        match run.iter().find(|of| **of > position) {
                            Some(next) => {
                                position = *next;
                                reader.seek(position).await?;
                                continue;
                            }
                            None => break,
                        }
                    }
                    Err(error) => return Err(error),
                };
            let stuck = fetched.next <= position;
            position = fetched.next;
            found.extend(
                fetched.records.into_iter().filter(|stored| run.binary_search(&stored.offset).is_ok()),
            );
            if stuck {
                break;
            }
        }
    }
    Ok(found)
}

impl DeadLetters {
    /// Reads dead letters, in the order that is given, each as it is to be handled now. What went meanwhile is left
    /// out. Values are not decoded.
    pub(super) async fn read(&self, index: &Index, entries: &[(PartitionId, Entry)]) -> Result<Vec<Letter>> {
        let places = entries.iter().map(|(partition, entry)| (*partition, entry.offset));
        let mut found = records(&self.shared.log, &index.topic, places).await?;
        let letters = entries.iter().filter_map(|(partition, entry)| {
            let record = found.remove(&(*partition, entry.offset))?;
            let stored = StoredRecord { offset: entry.offset, record };
            Some((Letter::read(&index.topic, *partition, stored), *entry))
        });
        self.as_decided(index, letters.collect()).await
    }

    /// Says of dead letters what became of them, and makes them what they were edited to.
    pub(super) async fn as_decided(
        &self,
        index: &Index,
        letters: Vec<(Letter, Entry)>,
    ) -> Result<Vec<Letter>> {
        let edits: Vec<Offset> = letters.iter().filter_map(|(_, entry)| entry.edit()).collect();
        let edits = self.decisions(index, &edits).await?;
        let edits: HashMap<Offset, Edit> = edits.into_iter().map(|of| (of.offset, of.edit)).collect();
        let letters = letters.into_iter().map(|(mut letter, entry)| {
            letter.status = entry.status().unwrap_or(LetterStatus::Parked);
            if let Some(edit) = entry.edit().and_then(|at| edits.get(&at)) {
                letter.edited = true;
                edit.apply(&mut letter.event.record.record);
            }
            letter
        });
        Ok(letters.collect())
    }

    /// Decisions by their places.
    pub(super) async fn decisions(&self, index: &Index, offsets: &[Offset]) -> Result<Vec<Recorded>> {
        let (Some(topic), false) = (&index.decisions, offsets.is_empty()) else { return Ok(Vec::new()) };
        let found = records(&self.shared.log, topic, offsets.iter().map(|offset| (0, *offset))).await?;
        let recorded = found
            .into_iter()
            .filter_map(|((_, offset), record)| Recorded::read(&StoredRecord { offset, record }));
        Ok(recorded.collect())
    }

    /// What was decided about a dead letter, the first decision first; of more than a hundred the last ones.
    pub(super) async fn history(&self, index: &Index, entry: &Entry) -> Result<Vec<Recorded>> {
        let mut history = Vec::new();
        let mut next = (entry.decision != Entry::UNDECIDED).then_some(entry.decision);
        while let Some(offset) = next
            && history.len() < HISTORY_MAX
        {
            let Some(recorded) = self.decisions(index, &[offset]).await?.pop() else { break };
            // Whatever stands there, it leads back.
            next = recorded.previous.filter(|previous| *previous < offset);
            history.push(recorded);
        }
        history.reverse();
        Ok(history)
    }

    /// Reads the values of dead letters by their schemas, to be shown.
    pub(super) async fn decode(&self, letters: &mut [Letter]) {
        let Some(schemas) = &self.shared.schemas else { return };
        let values = schemas.shown(letters.iter().map(|letter| &letter.event)).await;
        for (letter, value) in letters.iter_mut().zip(values) {
            letter.value = value;
        }
    }

    /// The letters that a filter is true of, each with its place in `letters`, and how many it could not tell of.
    /// It sees the event as it was, or as it was edited, where it first lay, and beside its headers those that say
    /// what became of it.
    ///
    /// # Errors
    /// `Unavailable`: a value must be read by its schema, and the registry does not serve.
    pub async fn sift(&self, filter: &Filter, letters: Vec<Letter>) -> Result<(Vec<(usize, Letter)>, u64)> {
        let values = match self.shared.schemas.as_ref().filter(|_| filter.needs_data()) {
            Some(schemas) => {
                let events = letters.iter().map(|letter| (&letter.event.topic, &letter.event.record.record));
                schemas.read(events.collect()).await.into_iter().collect::<Result<Vec<_>>>()?
            }
            None => Vec::new(),
        };
        let (mut matching, mut errors) = (Vec::new(), 0);
        for (at, letter) in letters.into_iter().enumerate() {
            let decoded = match values.get(at) {
                Some(ShownValue::Decoded(decoded)) => Some(&decoded.json),
                _ => None,
            };
            let mut seen = letter.event.record.clone();
            seen.record.headers.extend(letter.context.iter().cloned());
            let (topic, partition) = (letter.event.topic.as_str(), letter.event.partition);
            let metadata = values.get(at).and_then(ShownValue::metadata);
            match filter.matches(&FilterInput { topic, partition, record: &seen, decoded, metadata }) {
                Ok(true) => matching.push((at, letter)),
                Ok(false) => {}
                Err(_) => errors += 1,
            }
            // Evaluating is work for a processor: others have their turn.
            tokio::task::coop::consume_budget().await;
        }
        Ok((matching, errors))
    }
}

impl Edit {
    /// Makes a record what it is to be.
    pub(super) fn apply(&self, record: &mut Record) {
        if let Some(key) = &self.key {
            record.key.clone_from(key);
        }
        if let Some(data) = &self.data {
            record.value.clone_from(data);
        }
        if let Some(headers) = &self.headers {
            record.headers.retain(|of| is_reserved(&of.name));
            record.headers.extend(headers.iter().cloned());
        }
        if let Some(kind) = &self.content_type {
            record.headers.retain(|of| !matches!(&*of.name, CONTENT_TYPE | "ce_datacontenttype"));
            record.headers.push(Header::new(CONTENT_TYPE, kind.clone().into_bytes()));
        }
    }
}

/// Whether a header carries a field of the event itself, or is the service's.
fn is_reserved(name: &str) -> bool {
    name.starts_with(CE_PREFIX)
        || name.starts_with(OWN_PREFIX)
        || matches!(name, CONTENT_TYPE | TRACEPARENT | TRACESTATE)
}
