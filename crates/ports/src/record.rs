//! What a log holds.

use crate::topic::Offset;
use bytes::Bytes;
use bytestring::ByteString;
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, as Kafka keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A named value beside a record. Names need not be unique, values may be null.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// The name.
    pub name: ByteString,
    /// The value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.name, self.value)
    }
}

/// Headers in the order in which they were written.
pub type Headers = Vec<Header>;

/// A record to append. Payloads are shared slices and are not copied on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<Bytes>,
    /// The value; `None` is null (a tombstone on a compacted topic), which is not the same as empty.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// When it was made. The log keeps it.
    pub timestamp: Timestamp,
}

impl Record {
    /// The bytes that this record takes in a buffer: key, value and headers, and a little for each.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|h| h.name.len() + of(&h.value) + 2).sum();
        of(&self.key) + of(&self.value) + headers + 32
    }
}

/// A record as it lies in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place.
    pub offset: Offset,
    /// What was appended.
    pub record: Record,
}
