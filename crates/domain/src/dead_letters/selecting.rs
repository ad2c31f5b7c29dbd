//! Which dead letters are to be redriven.

use super::{
    DeadLetters,
    letter::{Letter, LetterId, LetterStatus},
};
use crate::{
    error::{Error, ErrorCode, Result},
    filter::Filter,
    jobs::Span,
};
use ports::{Offset, PartitionId, StoredRecord, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// The most ids of one selection.
const IDS_MAX: usize = 10_000;

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<String>),
    /// Those that a CEL expression is true of.
    Filter(String),
    /// All of them.
    All,
}

/// What is to be read for a selection. Where it lies is fixed; what is decided meanwhile is known by
/// [`DeadLetters::open`] when it is read.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The dead letter topic.
    pub topic: TopicName,
    /// What tells it from another one that is given its name.
    pub topic_id: String,
    /// The parts of it that hold them.
    pub spans: BTreeMap<PartitionId, Span>,
    /// The places of those that are meant; `None` where all in the spans may be.
    pub places: Option<BTreeSet<(PartitionId, Offset)>>,
    /// The filter, compiled.
    pub filter: Option<Filter>,
}

impl DeadLetters {
    /// Finds what is to be read for a selection; `None` where the subscription has no dead letters.
    ///
    /// # Errors
    /// `subscription_not_found`; `dead_letter_not_found` with the id as its field; `invalid_request` for a filter that
    /// is none, and for too many ids; `Unavailable` where the log does not serve.
    pub async fn select(&self, name: &str, selection: &Selection) -> Result<Option<Selected>> {
        let filter = match selection {
            Selection::Filter(text) => Some(self.compile(text)?),
            _ => None,
        };
        let index = self.index(name).await?;
        let Some(index) = index else {
            return match selection {
                Selection::Ids(ids) if !ids.is_empty() => Err(unknown(name, 0, &ids[0])),
                _ => Ok(None),
            };
        };
        let meta = self.shared.topics.meta_if_there(&index.topic).await?;
        let Some(topic_id) = meta.map(|meta| meta.id.clone()) else { return Ok(None) };
        let table = index.table.read();
        let span = |from: Offset, to: Offset| Span { from, to, next: from, gone: 0 };
        let (spans, places) = match selection {
            Selection::Ids(ids) => {
                if ids.len() > IDS_MAX {
                    let message = format!("must hold at most {IDS_MAX} ids (given: {})", ids.len());
                    return Err(Error::invalid("ids", message));
                }
                let mut places = BTreeSet::new();
                for (at, id) in ids.iter().enumerate() {
                    let found = LetterId::parse(id).and_then(|id| table.get(&id));
                    let (partition, entry) = found.ok_or_else(|| unknown(name, at, id))?;
                    places.insert((partition, entry.offset));
                }
                let mut spans: BTreeMap<PartitionId, Span> = BTreeMap::new();
                for (partition, offset) in &places {
                    spans.entry(*partition).or_insert(span(*offset, *offset)).to = offset + 1;
                }
                (spans, Some(places))
            }
            Selection::Filter(_) | Selection::All => (table.spans(), None),
        };
        Ok(Some(Selected { topic: index.topic.clone(), topic_id, spans, places, filter }))
    }

    /// Makes dead letters of records that were read from the subscription's dead letter topic, each as it is to be
    /// handled now: with what was decided about it and what it was edited to. What is no dead letter of this
    /// subscription, a copy, or not listed is left out. The order stays.
    ///
    /// # Errors
    /// `subscription_not_found`; `Unavailable` where the log does not serve.
    pub async fn open(&self, name: &str, records: Vec<(PartitionId, StoredRecord)>) -> Result<Vec<Letter>> {
        let Some(index) = self.index(name).await? else { return Ok(Vec::new()) };
        let letters: Vec<_> = {
            let table = index.table.read();
            let letter = |(partition, stored): (PartitionId, StoredRecord)| {
                let entry = table.at(partition, stored.offset)?;
                Some((Letter::read(&index.topic, partition, stored), entry))
            };
            records.into_iter().filter_map(letter).collect()
        };
        self.as_decided(&index, letters).await
    }

    /// What became of a dead letter; `None` where there is none of that id.
    ///
    /// # Errors
    /// `subscription_not_found`; `Unavailable` where the log does not serve.
    pub async fn status_of(&self, name: &str, id: &LetterId) -> Result<Option<LetterStatus>> {
        let Some(index) = self.index(name).await? else { return Ok(None) };
        let found = index.table.read().get(id);
        Ok(found.and_then(|(_, entry)| entry.status()))
    }
}

fn unknown(name: &str, at: usize, id: &str) -> Error {
    let (name, shown) = (crate::error::short(name), crate::error::short(id));
    let detail = format!("subscription `{name}` has no dead letter `{shown}`");
    Error::new(ErrorCode::DeadLetterNotFound, detail)
        .with_field(format!("ids[{at}]"), "is no dead letter's id")
}
