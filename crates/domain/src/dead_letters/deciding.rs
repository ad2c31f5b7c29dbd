//! Decisions: edit, discard, and whatever else is recorded.

use super::{
    DeadLetters,
    decision::{Decision, DecisionKind, Edit, REASON_MAX},
    index::Index,
    lane::Entry,
    letter::{Letter, LetterId, LetterStatus},
    listing::LetterDetail,
};
use crate::{
    dead_letter::HEADROOM_BYTES,
    error::{Error, ErrorCode, Result},
    event::Event,
    event_schemas::says_framed,
    publish::ANONYMOUS,
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{AppendRequest, Headers, PartitionId};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long one append may take.
const APPEND_WITHIN: Duration = Duration::from_secs(30);
/// The media type of a value that was given as JSON.
const JSON: ByteString = ByteString::from_static("application/json");

/// What an event is to be instead; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditLetter {
    /// Its key; `Some(None)` is null.
    pub key: Option<Option<Bytes>>,
    /// Its value.
    pub data: Option<EditData>,
    /// Its headers, all but those that carry its own fields.
    pub headers: Option<Headers>,
}

/// A value that is given for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditData {
    /// Null.
    Null,
    /// The text of a JSON value. Where the topic's values follow a schema it is written by that; a string is its own
    /// text where the event's type is none of JSON.
    Json(Bytes),
    /// These bytes.
    Bytes(Bytes),
}

impl DeadLetters {
    /// Changes the event of a dead letter that is parked. What it was is kept.
    ///
    /// # Errors
    /// `subscription_not_found`, `dead_letter_not_found`; `conflict` where it was redriven or discarded;
    /// `invalid_request`, `schema_rejected` and `event_too_large` by field; `Unavailable` or `Timeout` where the log
    /// does not serve: with the effect unknown it may have been changed, and the same may be said again.
    ///
    /// # Cancellation
    /// Leaves the effect unknown.
    pub async fn edit(&self, name: &str, id: &str, edit: EditLetter) -> Result<LetterDetail> {
        if edit == EditLetter::default() {
            let detail = "an edit must hold `key`, `data`, `data_base64` or `headers`";
            return Err(Error::new(ErrorCode::InvalidRequest, detail));
        }
        let given = Event {
            key: edit.key.clone().flatten(),
            headers: edit.headers.clone().unwrap_or_default(),
            ..Event::default()
        };
        given.check(&self.shared.limits)?;
        let (index, ..) = self.find(name, id).await?;
        let one = index.deciding.lock().await;
        let (_, partition, entry) = self.find(name, id).await?;
        check_parked(&entry, "edited")?;
        let gone = || Self::not_found(name, id);
        let letter = self.as_it_was(&index, partition, &entry).await?.ok_or_else(gone)?;
        let mut letters = self.as_decided(&index, vec![(letter, entry)]).await?;
        let letter = letters.pop().ok_or_else(gone)?;
        let before = match entry.edit() {
            Some(at) => {
                self.decisions(&index, &[at]).await?.pop().map(|recorded| recorded.edit).unwrap_or_default()
            }
            None => Edit::default(),
        };
        let edit = self.decide_edit(&letter, before, edit).await?;
        let by = ANONYMOUS.to_owned();
        let decision =
            Decision { id: entry.id, kind: DecisionKind::Edited, edit, by, reason: None, job: None };
        self.write(&index, vec![decision]).await?;
        drop(one);
        let (partition, entry) = index.table.read().get(&entry.id).ok_or_else(gone)?;
        check_parked(&entry, "edited")?;
        tracing::info!(subscription = name, dead_letter = %entry.id, by = ANONYMOUS, "a dead letter was edited");
        self.detail(name, &index, partition, &entry).await
    }

    /// Says that a dead letter is not needed. One that was discarded already stays so.
    ///
    /// # Errors
    /// `subscription_not_found`, `dead_letter_not_found`; `conflict` where it was redriven; `invalid_request` for a
    /// reason that is too long; `Unavailable` or `Timeout` where the log does not serve: with the effect unknown it may
    /// have been discarded, and the same may be said again.
    ///
    /// # Cancellation
    /// Leaves the effect unknown.
    pub async fn discard(&self, name: &str, id: &str, reason: Option<String>) -> Result<()> {
        if let Some(reason) = &reason {
            let characters = reason.chars().count();
            if characters > REASON_MAX || reason.chars().any(char::is_control) {
                let message = format!(
                    "must have at most {REASON_MAX} characters, none of them a control character (has {characters})"
                );
                return Err(Error::invalid("reason", message));
            }
        }
        let (index, ..) = self.find(name, id).await?;
        let one = index.deciding.lock().await;
        let (_, _, entry) = self.find(name, id).await?;
        if entry.status() == Some(LetterStatus::Discarded) {
            return Ok(());
        }
        check_parked(&entry, "discarded")?;
        let by = ANONYMOUS.to_owned();
        let (kind, edit) = (DecisionKind::Discarded, Edit::default());
        let decision = Decision { id: entry.id, kind, edit, by, reason: reason.clone(), job: None };
        self.write(&index, vec![decision]).await?;
        drop(one);
        let now = index.table.read().get(&entry.id);
        if now.is_some_and(|(_, entry)| entry.status() != Some(LetterStatus::Discarded)) {
            return Err(conflict("redriven meanwhile", "discarded"));
        }
        tracing::info!(
            subscription = name, dead_letter = %entry.id, by = ANONYMOUS, reason = reason.as_deref().unwrap_or_default(),
            "a dead letter was discarded"
        );
        Ok(())
    }

    /// Records that dead letters were redriven by a job, by one append. To be said once each is queued; saying it again
    /// changes nothing.
    ///
    /// # Errors
    /// `subscription_not_found`; `conflict` where there can be no decisions; `Unavailable` or `Timeout` where the log
    /// does not serve: some of them may be recorded.
    ///
    /// # Cancellation
    /// Leaves the effect unknown.
    pub async fn record_redriven(&self, name: &str, ids: &[LetterId], by: &str, job: &str) -> Result<()> {
        let decision = |id: &LetterId| Decision {
            id: *id,
            kind: DecisionKind::Redriven,
            edit: Edit::default(),
            by: by.to_owned(),
            reason: None,
            job: Some(job.to_owned()),
        };
        self.record(name, ids.iter().map(decision).collect()).await
    }

    /// Records decisions, by one append, and answers once they are durable and known here.
    pub(crate) async fn record(&self, name: &str, decisions: Vec<Decision>) -> Result<()> {
        if decisions.is_empty() {
            return Ok(());
        }
        let not_found = || Self::not_found(name, &decisions[0].id.to_string());
        let index = self.index(name).await?.ok_or_else(not_found)?;
        let one = index.deciding.lock().await;
        index.catch_up(&self.shared).await?;
        self.write(&index, decisions).await?;
        drop(one);
        Ok(())
    }

    /// Appends decisions, each with what it follows on. To be called by one at a time, of an index that is caught up.
    async fn write(&self, index: &Arc<Index>, decisions: Vec<Decision>) -> Result<()> {
        let shared = &self.shared;
        let topic = index.decisions.clone().ok_or_else(|| {
            let detail = format!(
                "the name of the dead letter topic `{}` is too long for a topic `….decisions` beside it",
                index.topic
            );
            Error::new(ErrorCode::Conflict, detail)
        })?;
        if shared.topics.meta_if_there(&topic).await?.is_none() {
            shared.topics.derive_with(&topic, &index.topic, HEADROOM_BYTES, Some(1)).await?;
        }
        let at = shared.clock.wall();
        // Two about one dead letter in one batch follow on each other only in the topic's order.
        let known: BTreeMap<LetterId, Entry> = {
            let table = index.table.read();
            decisions.iter().filter_map(|of| Some((of.id, table.get(&of.id)?.1))).collect()
        };
        let records = decisions.iter().map(|decision| {
            let entry = known.get(&decision.id);
            let previous = entry.map(|entry| entry.decision).filter(|offset| *offset != Entry::UNDECIDED);
            let edit = match decision.kind {
                DecisionKind::Edited => None,
                _ => entry.and_then(Entry::edit),
            };
            Ok((0, decision.record(at, previous, edit)?))
        });
        let records: Vec<(PartitionId, _)> = records.collect::<Result<_>>()?;
        let request = AppendRequest { topic: topic.clone(), records, timeout: APPEND_WITHIN };
        for outcome in shared.log.append(request).await.outcomes {
            if let Err(error) = outcome {
                shared.topics.forget(&topic);
                return Err(error.into());
            }
        }
        index.catch_up(shared).await
    }

    /// What is to be recorded for an edit: with what was edited before, so that the last one says all.
    async fn decide_edit(&self, letter: &Letter, before: Edit, edit: EditLetter) -> Result<Edit> {
        let shared = &self.shared;
        let mut decided = before;
        decided.key = edit.key.or(decided.key);
        decided.headers = edit.headers.or(decided.headers);
        if let Some(data) = edit.data {
            let mut event = Event::from_record(&letter.event.record.record);
            let kind = event.content_type.clone();
            let is_framed = kind.as_deref().is_some_and(|kind| says_framed(kind).is_some());
            event.data = match data {
                EditData::Null => None,
                EditData::Bytes(bytes) => Some(bytes),
                EditData::Json(json) => {
                    let is_text = kind.as_deref().is_some_and(|kind| !is_framed && !is_json(kind));
                    match serde_json::from_slice::<String>(&json) {
                        Ok(text) if is_text => Some(text.into()),
                        _ => {
                            if is_framed {
                                event.content_type = Some(JSON);
                            }
                            Some(json)
                        }
                    }
                }
            };
            if let Some(schemas) = &shared.schemas {
                let topic = &letter.event.topic;
                let mut writer = schemas.writer(topic).unwrap_or_else(|| schemas.writer_of_framed(topic));
                writer.write(&event).await?.put(&mut event);
            }
            if event.content_type != kind {
                decided.content_type = event.content_type;
            }
            decided.data = Some(event.data);
        }
        let mut record = letter.event.record.record.clone();
        decided.apply(&mut record);
        if let Some(meta) = shared.topics.meta_if_there(&letter.event.topic).await?
            && record.size() > meta.max_message_bytes
        {
            let (size, most, topic) = (record.size(), meta.max_message_bytes, &letter.event.topic);
            let detail = format!(
                "the event takes {size} bytes with its headers; topic `{topic}` takes at most {most} (`max.message.bytes`)"
            );
            let error = Error::new(ErrorCode::EventTooLarge, detail);
            return Err(error.with_field("data", "is too large for its topic"));
        }
        Ok(decided)
    }
}

fn check_parked(entry: &Entry, wanted: &str) -> Result<()> {
    match entry.status() {
        Some(LetterStatus::Parked) => Ok(()),
        Some(status) => Err(conflict(status.as_str(), wanted)),
        None => Err(conflict("written again meanwhile", wanted)),
    }
}

fn conflict(is: &str, wanted: &str) -> Error {
    let detail = format!("the dead letter was {is} and cannot be {wanted} any more");
    Error::new(ErrorCode::Conflict, detail)
}

fn is_json(kind: &str) -> bool {
    let subtype = kind.split(';').next().unwrap_or_default().trim().split_once('/').map_or("", |(_, of)| of);
    let subtype = subtype.to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}
