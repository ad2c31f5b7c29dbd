//! Decisions about dead letters, as records of a topic beside theirs.
//!
//! The record's key is the dead letter's id. What an edit says stands as it is to be written: the value is the
//! record's, key and headers are headers of their own, byte for byte; the rest is JSON in one header.

use super::letter::LetterId;
use crate::error::{Error, ErrorCode, Result};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{Header, Headers, Offset, Record, StoredRecord, Timestamp};
use serde::{Deserialize, Serialize};

/// Names of the headers of a decision.
mod header {
    /// What was decided, by whom and why.
    pub(super) const DECISION: &str = "es_decision";
    /// The key that the event is to have.
    pub(super) const KEY: &str = "es_decision_key";
    /// What stands before the name of each header that the event is to have.
    pub(super) const HEADER_PREFIX: &str = "es_decision_header.";
}

/// The most characters of a reason.
pub(super) const REASON_MAX: usize = 1_000;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    /// The event is to be another.
    Edited,
    /// It is not needed.
    Discarded,
    /// It was given back to the subscription.
    Redriven,
}

impl DecisionKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Discarded => "discarded",
            Self::Redriven => "redriven",
        }
    }
}

/// What an event is to be instead. What is `None` stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Its key, which may be null.
    pub key: Option<Option<Bytes>>,
    /// Its value, which may be null.
    pub data: Option<Option<Bytes>>,
    /// The media type of its value.
    pub content_type: Option<ByteString>,
    /// Its headers, all of them but those that carry its own fields.
    pub headers: Option<Headers>,
}

/// A decision to be recorded.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// About which dead letter.
    pub(crate) id: LetterId,
    /// What was decided.
    pub(crate) kind: DecisionKind,
    /// The edit, with that kind.
    pub(crate) edit: Edit,
    /// By whom.
    pub(crate) by: String,
    /// Why.
    pub(crate) reason: Option<String>,
    /// The job that did it.
    pub(crate) job: Option<String>,
}

/// A decision that was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// About which dead letter.
    pub id: LetterId,
    /// Its place among the decisions.
    pub offset: Offset,
    /// What was decided.
    pub kind: DecisionKind,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// The job that did it.
    pub job: Option<String>,
    /// The edit, with that kind.
    pub edit: Edit,
    /// Where the decision before it about the same dead letter lies.
    pub(super) previous: Option<Offset>,
    /// Where the edit lies that held when it was made.
    pub(super) edited_at: Option<Offset>,
    pub(super) bytes: usize,
}

/// What stands in the header.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    kind: DecisionKind,
    at: i64,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Offset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edited_at: Option<Offset>,
    #[serde(default)]
    data: bool,
    #[serde(default)]
    headers: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl Decision {
    /// The record that keeps it.
    pub(super) fn record(
        &self,
        at: Timestamp,
        previous: Option<Offset>,
        edited_at: Option<Offset>,
    ) -> Result<Record> {
        let edit = &self.edit;
        let written = Written {
            kind: self.kind,
            at: at.0,
            by: self.by.clone(),
            reason: self.reason.clone(),
            job: self.job.clone(),
            previous,
            edited_at,
            data: edit.data.is_some(),
            headers: edit.headers.is_some(),
            content_type: edit.content_type.as_deref().map(str::to_owned),
        };
        let written = serde_json::to_vec(&written);
        let written = written.map_err(|error| {
            Error::new(ErrorCode::Internal, format!("a decision cannot be written: {error}"))
        })?;
        let mut headers = vec![Header::new(header::DECISION, written)];
        if let Some(key) = &edit.key {
            headers.push(Header { name: ByteString::from_static(header::KEY), value: key.clone() });
        }
        for Header { name, value } in edit.headers.iter().flatten() {
            let name = format!("{}{name}", header::HEADER_PREFIX).into();
            headers.push(Header { name, value: value.clone() });
        }
        let key = Some(Bytes::from(self.id.to_string()));
        Ok(Record { key, value: edit.data.clone().flatten(), headers, timestamp: at })
    }
}

impl Recorded {
    /// Reads a record; `None` where it is no decision.
    pub(super) fn read(stored: &StoredRecord) -> Option<Self> {
        let record = &stored.record;
        let id = LetterId::parse(std::str::from_utf8(record.key.as_deref()?).ok()?)?;
        let find = |name: &str| record.headers.iter().find(|of| of.name == name);
        let written: Written = serde_json::from_slice(find(header::DECISION)?.value.as_deref()?).ok()?;
        let own = |of: &Header| {
            let name = of.name.strip_prefix(header::HEADER_PREFIX)?;
            Some(Header { name: name.into(), value: of.value.clone() })
        };
        let edit = Edit {
            key: find(header::KEY).map(|of| of.value.clone()),
            data: written.data.then(|| record.value.clone()),
            content_type: written.content_type.map(ByteString::from),
            headers: written.headers.then(|| record.headers.iter().filter_map(own).collect()),
        };
        Some(Self {
            id,
            offset: stored.offset,
            kind: written.kind,
            at: Timestamp(written.at),
            by: written.by,
            reason: written.reason,
            job: written.job,
            edit,
            previous: written.previous,
            edited_at: written.edited_at,
            bytes: record.size(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edits() -> impl Strategy<Value = Edit> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let maybe = move || proptest::option::of(proptest::option::of(bytes()));
        let header = ("[a-z.]{1,8}", proptest::option::of(bytes()))
            .prop_map(|(name, value)| Header { name: name.into(), value });
        let headers = proptest::option::of(proptest::collection::vec(header, 0..4));
        (maybe(), maybe(), proptest::option::of("[a-z/]{1,8}"), headers).prop_map(
            |(key, data, kind, headers)| Edit {
                key,
                data,
                content_type: kind.map(ByteString::from),
                headers,
            },
        )
    }

    proptest! {
        #[test]
        fn a_decision_is_read_as_it_was_written(
            edit in edits(),
            id in any::<[u8; 16]>(),
            previous in any::<Option<u64>>(),
            reason in proptest::option::of(any::<String>()),
        ) {
            let decision = Decision {
                id: LetterId::from_bytes(id),
                kind: DecisionKind::Edited,
                edit,
                by: "anonymous".into(),
                reason,
                job: None,
            };
            let record = decision.record(Timestamp(5), previous, None).unwrap();
            let read = Recorded::read(&StoredRecord { offset: 3, record }).unwrap();
            prop_assert_eq!((read.id, read.offset, read.at, read.previous), (decision.id, 3, Timestamp(5), previous));
            prop_assert_eq!((&read.edit, &read.reason), (&decision.edit, &decision.reason));
        }

        #[test]
        fn any_record_is_a_decision_or_none(
            key in proptest::option::of("[0-9a-f-]{0,36}"),
            value in "(\\{\"kind\":\"(edited|other)\",\"at\":[0-9]{1,3},\"by\":\"a\"\\}|\\PC{0,20})",
        ) {
            let headers = vec![Header::new(header::DECISION, value)];
            let record = Record { key: key.map(Bytes::from), headers, ..Record::default() };
            let _ = Recorded::read(&StoredRecord { offset: 0, record });
        }
    }
}
