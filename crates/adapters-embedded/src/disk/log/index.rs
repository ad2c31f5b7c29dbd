//! The sparse index of a segment: where to begin reading for an offset or a time.
//!
//! Invariants:
//! - `entries` holds the first frame and then the first frame behind each further [`INTERVAL`] bytes; it
//!   grows in `offset` and `position`, and `max_before` never shrinks.
//! - An index is a hint that saves time. It is rebuilt from the frames wherever it does not fit them, and
//!   what it points at is checked as every frame is.

use super::frame::Header;
use ports::Offset;

const MAGIC: [u8; 4] = *b"ESLI";
const VERSION: u32 = 1;
const HEAD_LEN: usize = 64;
const ENTRY_LEN: usize = 24;
/// One entry for so many bytes of frames.
const INTERVAL: u64 = 32 * 1024;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The frame's base offset.
    pub(crate) offset: Offset,
    /// Its first byte.
    pub(crate) position: u64,
    /// The latest timestamp of all records before it in its segment.
    max_before: i64,
}

/// What is worth knowing of a segment without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Its bytes.
    pub(crate) len: u64,
    /// The offset behind its last record.
    pub(crate) end: Offset,
    /// The latest timestamp of its records; `i64::MIN` while it is empty.
    pub(crate) max_timestamp: i64,
    /// When its first frame was appended; `i64::MAX` while it is empty.
    pub(crate) first_appended: i64,
    /// When its last frame was appended; `i64::MIN` while it is empty.
    pub(crate) last_appended: i64,
}

/// The index of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    pub(crate) summary: Summary,
}

impl Index {
    /// The index of an empty segment that begins with offset `base`.
    pub(crate) fn new(base: Offset) -> Self {
        let summary = Summary {
            len: 0,
            end: base,
            max_timestamp: i64::MIN,
            first_appended: i64::MAX,
            last_appended: i64::MIN,
        };
        Self { entries: Vec::new(), summary }
    }

    /// Notes the next frame of the segment.
    pub(crate) fn push(&mut self, frame: &Header) {
        let summary = &mut self.summary;
        let due = self.entries.last().is_none_or(|last| summary.len - last.position >= INTERVAL);
        if due {
            let (position, max_before) = (summary.len, summary.max_timestamp);
            self.entries.push(Entry { offset: frame.base, position, max_before });
        }
        summary.len += frame.frame_len();
        summary.end = frame.end();
        summary.max_timestamp = summary.max_timestamp.max(frame.max_timestamp);
        summary.first_appended = summary.first_appended.min(frame.appended_at);
        summary.last_appended = summary.last_appended.max(frame.appended_at);
    }

    /// The last entry at or before `offset`; `None` while the segment is empty.
    pub(crate) fn at_offset(&self, offset: Offset) -> Option<Entry> {
        let behind = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(behind.saturating_sub(1)).copied()
    }

    /// The last entry before which no record is of `timestamp` or later; `None` while the segment is empty.
    pub(crate) fn at_time(&self, timestamp: i64) -> Option<Entry> {
        let behind = self.entries.partition_point(|entry| entry.max_before < timestamp);
        self.entries.get(behind.saturating_sub(1)).copied()
    }

    /// The bytes of the index file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.entries.len() * ENTRY_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        let summary = &self.summary;
        bytes.extend_from_slice(&summary.len.to_le_bytes());
        bytes.extend_from_slice(&summary.end.to_le_bytes());
        bytes.extend_from_slice(&summary.max_timestamp.to_le_bytes());
        bytes.extend_from_slice(&summary.first_appended.to_le_bytes());
        bytes.extend_from_slice(&summary.last_appended.to_le_bytes());
        bytes.resize(HEAD_LEN, 0);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.position.to_le_bytes());
            bytes.extend_from_slice(&entry.max_before.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads an index file; `None` where it is not whole or of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEAD_LEN || bytes[..4] != MAGIC {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if short(4)? != crc32c::crc32c(&bytes[8..]) || short(8)? != VERSION {
            return None;
        }
        let count = short(12)? as usize;
        if bytes.len() != HEAD_LEN + count * ENTRY_LEN {
            return None;
        }
        let summary = Summary {
            len: number(16)?,
            end: number(24)?,
            max_timestamp: number(32)? as i64,
            first_appended: number(40)? as i64,
            last_appended: number(48)? as i64,
        };
        let entry = |at: usize| {
            let (offset, position) = (number(at)?, number(at + 8)?);
            Some(Entry { offset, position, max_before: number(at + 16)? as i64 })
        };
        let entries = (0..count).map(|n| entry(HEAD_LEN + n * ENTRY_LEN)).collect::<Option<Vec<_>>>()?;
        Some(Self { entries, summary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(timestamps: &[i64]) -> Index {
        let mut index = Index::new(100);
        for (base, max_timestamp) in (100..).zip(timestamps) {
            index.push(&Header {
                body_len: 20 * 1024,
                body_crc: 0,
                count: 1,
                base,
                first_timestamp: 0,
                max_timestamp: *max_timestamp,
                appended_at: 0,
                extension_len: 0,
            });
        }
        index
    }

    #[test]
    fn an_entry_stands_at_or_before_what_is_looked_for() {
        let index = index_of(&[5, 50, 1, 2, 60, 3]);
        // Every second frame of 20 KiB passes the interval.
        assert_eq!(index.at_offset(100).map(|entry| entry.offset), Some(100));
        assert_eq!(index.at_offset(101).map(|entry| entry.offset), Some(100));
        assert_eq!(index.at_offset(103).map(|entry| entry.offset), Some(102));
        assert_eq!(index.at_time(50).map(|entry| entry.offset), Some(100));
        assert_eq!(index.at_time(51).map(|entry| entry.offset), Some(104));
        assert_eq!(Index::new(7).at_offset(7), None);
    }

    #[test]
    fn a_file_reads_back_and_a_damaged_one_is_refused() {
        let index = index_of(&[1, 2, 3, 4]);
        let bytes = index.encode();
        assert_eq!(Index::decode(&bytes), Some(index));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Index::decode(&damaged), None, "byte {at}");
        }
        assert_eq!(Index::decode(&bytes[..bytes.len() - 1]), None);
    }
}
