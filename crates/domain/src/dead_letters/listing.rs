//! What there is: pages, one in full, and how many.

use super::{
    DeadLetters,
    decision::Recorded,
    index::Index,
    lane::Entry,
    letter::{Letter, LetterId, LetterStatus},
    table::{Before, Want},
};
use crate::{
    browse::{Browsed, Cursor},
    error::{Error, Result},
    event_schemas::ShownValue,
    filter::Filter,
    subscriptions::one_of,
};
use ports::{PartitionId, StoredRecord};
use std::{collections::BTreeMap, sync::Arc};

/// The most dead letters of a page.
const LIMIT_MAX: i64 = 1_000;
/// What a page has where nobody says.
const LIMIT: usize = 100;
/// The most dead letters that a filter looks at for a page.
const LOOK_MAX: usize = 5_000;
/// So many are read for a filter at once.
const LOOK_BATCH: usize = 500;
/// So many bytes of them.
const LOOK_BYTES: usize = 8 << 20;

/// Which dead letters to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListLetters {
    /// The most of a page; 100 where nothing is said.
    pub limit: Option<i64>,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Those of this error kind alone.
    pub error: Option<String>,
    /// Those of this status alone.
    pub status: Option<String>,
    /// Those that this CEL expression is true of.
    pub filter: Option<String>,
}

/// A page of dead letters.
#[derive(Debug, Default)]
pub struct LetterPage {
    /// The newest first; within a partition by offset, among partitions by the time of the last failure.
    pub letters: Vec<Letter>,
    /// Where the next page begins; `None` at the end. With a filter a page may be short, or empty, and not the last.
    pub cursor: Option<String>,
    /// The oldest dead letters, as many as this, are not listed, as there are too many.
    pub unlisted: u64,
    /// Dead letters of which the filter could not tell; they are not listed.
    pub filter_errors: u64,
}

/// A dead letter in full.
#[derive(Debug)]
pub struct LetterDetail {
    /// The dead letter.
    pub letter: Letter,
    /// The event as it was, where it was edited since.
    pub original: Option<(Browsed, ShownValue)>,
    /// What was decided about it, the first decision first.
    pub history: Vec<Recorded>,
}

/// How many dead letters there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterSummary {
    /// Those of the status that was asked for, by error kind.
    pub kinds: BTreeMap<String, u64>,
    /// The same ones, by event type.
    pub types: BTreeMap<String, u64>,
    /// All of them, by status.
    pub statuses: BTreeMap<LetterStatus, u64>,
    /// The oldest, as many as this, are not counted, as there are too many.
    pub unlisted: u64,
}

impl DeadLetters {
    /// A page of a subscription's dead letters, the newest first. What comes while pages are turned is not in them.
    ///
    /// # Errors
    /// `subscription_not_found`; `invalid_request` by field; `Unavailable` where the log, or for a filter the
    /// registry, does not serve, or the dead letters are still being read.
    pub async fn list(&self, name: &str, list: ListLetters) -> Result<LetterPage> {
        let limit = match list.limit {
            None => LIMIT,
            Some(limit) if (1..=LIMIT_MAX).contains(&limit) => limit as usize,
            Some(limit) => {
                let message = format!("must lie between 1 and {LIMIT_MAX} (given: {limit})");
                return Err(Error::invalid("limit", message));
            }
        };
        let before = list.cursor.map(|text| text.parse::<Cursor>()).transpose()?.map(|cursor| cursor.0);
        let status = list.status.as_deref().map(read_status).transpose()?;
        let filter = list.filter.map(|text| self.compile(&text)).transpose()?;
        let Some(index) = self.index(name).await? else { return Ok(LetterPage::default()) };
        let kind = match &list.error {
            None => None,
            Some(word) => match index.table.read().kind(word) {
                Some(kind) => Some(kind),
                None => return Ok(LetterPage { unlisted: index.unlisted(), ..LetterPage::default() }),
            },
        };
        let mut page = match filter {
            None => self.page(&index, before.as_ref(), Want { kind, status }, limit).await?,
            Some(filter) => self.filtered(&index, before, Want { kind, status }, limit, &filter).await?,
        };
        self.decode(&mut page.letters).await;
        page.unlisted = index.unlisted();
        Ok(page)
    }

    async fn page(
        &self,
        index: &Index,
        before: Option<&Before>,
        want: Want,
        limit: usize,
    ) -> Result<LetterPage> {
        let bytes_max = self.shared.limits.response_bytes_max;
        let picked = index.table.read().newest(before, want, limit, bytes_max);
        let letters = self.read(index, &picked.entries).await?;
        Ok(LetterPage { letters, cursor: cursor(picked.rest), ..LetterPage::default() })
    }

    async fn filtered(
        &self,
        index: &Index,
        mut before: Option<Before>,
        want: Want,
        limit: usize,
        filter: &Filter,
    ) -> Result<LetterPage> {
        let mut page = LetterPage::default();
        let (mut looked, mut bytes) = (0, 0);
        let bytes_max = self.shared.limits.response_bytes_max;
        loop {
            let picked = index.table.read().newest(before.as_ref(), want, LOOK_BATCH, LOOK_BYTES);
            if picked.entries.is_empty() {
                return Ok(page);
            }
            looked += picked.entries.len();
            let letters = self.read(index, &picked.entries).await?;
            // Where each lies among those that were picked: some may be gone.
            let at: BTreeMap<(PartitionId, u64), usize> =
                picked.entries.iter().enumerate().map(|(at, (p, entry))| ((*p, entry.offset), at)).collect();
            let (matching, errors) = self.sift(filter, letters).await?;
            page.filter_errors += errors;
            for (_, letter) in matching {
                let place = at.get(&(letter.partition, letter.offset)).copied().unwrap_or_default();
                if page.letters.len() >= limit
                    || (bytes + letter.size() > bytes_max && !page.letters.is_empty())
                {
                    page.cursor = cursor(picked.after(place));
                    return Ok(page);
                }
                bytes += letter.size();
                page.letters.push(letter);
            }
            if picked.rest.is_empty() {
                return Ok(page);
            }
            if looked >= LOOK_MAX || page.letters.len() >= limit {
                page.cursor = cursor(picked.rest);
                return Ok(page);
            }
            before = Some(picked.rest);
        }
    }

    /// One dead letter in full.
    ///
    /// # Errors
    /// `subscription_not_found`, `dead_letter_not_found`, `Unavailable`.
    pub async fn get(&self, name: &str, id: &str) -> Result<LetterDetail> {
        let (index, partition, entry) = self.find(name, id).await?;
        self.detail(name, &index, partition, &entry).await
    }

    pub(super) async fn detail(
        &self,
        name: &str,
        index: &Index,
        partition: PartitionId,
        entry: &Entry,
    ) -> Result<LetterDetail> {
        let gone = || Self::not_found(name, &entry.id.to_string());
        let letter = self.as_it_was(index, partition, entry).await?.ok_or_else(gone)?;
        let was = letter.event.clone();
        let mut letters = self.as_decided(index, vec![(letter, *entry)]).await?;
        self.decode(&mut letters).await;
        let letter = letters.pop().ok_or_else(gone)?;
        let original = if letter.edited {
            let value = match &self.shared.schemas {
                Some(schemas) => schemas.shown([&was]).await.pop().unwrap_or_default(),
                None => ShownValue::Plain,
            };
            Some((was, value))
        } else {
            None
        };
        let history = self.history(index, entry).await?;
        Ok(LetterDetail { letter, original, history })
    }

    /// A dead letter as its record says it.
    pub(super) async fn as_it_was(
        &self,
        index: &Index,
        partition: PartitionId,
        entry: &Entry,
    ) -> Result<Option<Letter>> {
        let place = (partition, entry.offset);
        let mut found = super::reading::records(&self.shared.log, &index.topic, [place]).await?;
        let record = found.remove(&place);
        Ok(record.map(|record| {
            Letter::read(&index.topic, partition, StoredRecord { offset: entry.offset, record })
        }))
    }

    /// How many dead letters there are: by error kind and event type of those of a status (`parked` where nothing is
    /// said), and by status of all.
    ///
    /// # Errors
    /// `subscription_not_found`, `invalid_request`, `Unavailable`.
    pub async fn summary(&self, name: &str, status: Option<&str>) -> Result<LetterSummary> {
        let status = status.map(read_status).transpose()?.unwrap_or(LetterStatus::Parked);
        let Some(index) = self.index(name).await? else { return Ok(LetterSummary::default()) };
        let counts = index.table.read().count(status);
        let unlisted = index.unlisted();
        Ok(LetterSummary { kinds: counts.kinds, types: counts.types, statuses: counts.statuses, unlisted })
    }

    /// Finds a dead letter by its id.
    pub(super) async fn find(&self, name: &str, id: &str) -> Result<(Arc<Index>, PartitionId, Entry)> {
        let not_found = || Self::not_found(name, id);
        let index = self.index(name).await?.ok_or_else(not_found)?;
        let id = LetterId::parse(id).ok_or_else(not_found)?;
        let (partition, entry) = index.table.read().get(&id).ok_or_else(not_found)?;
        Ok((index, partition, entry))
    }

    pub(super) fn compile(&self, text: &str) -> Result<Filter> {
        Filter::compile(text, &self.shared.limits.expressions).map_err(|error| {
            Error::invalid("filter", format!("is not an expression that can be evaluated: {error}"))
        })
    }
}

impl Index {
    fn unlisted(&self) -> u64 {
        self.table.read().unlisted()
    }
}

fn cursor(before: Before) -> Option<String> {
    (!before.is_empty()).then(|| Cursor(before).to_string())
}

fn read_status(text: &str) -> Result<LetterStatus> {
    let known = LetterStatus::ALL.into_iter().find(|status| status.as_str() == text);
    known.ok_or_else(|| one_of("status", text, "`parked`, `redriven` or `discarded`"))
}
