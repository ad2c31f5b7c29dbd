//! The frame: one batch of records, as it lies in a segment.
//!
//! Invariants:
//! - A frame is written whole or, after a crash, is no frame: its header has a checksum of its own, which
//!   covers the checksum of the body.
//! - What follows from the content (body, its checksum) is made by the caller of an append, in parallel;
//!   what follows from the place (base offset, time, checksum of the header) by the one who writes.
//!
//! All numbers are little-endian. `docs/on-disk-format.md` is the reference; keep both the same.

use bytes::Bytes;
use bytestring::ByteString;
use ports::{Header as RecordHeader, Offset, Record, StoredRecord, Timestamp};

/// The first bytes of every frame.
pub(crate) const MAGIC: [u8; 4] = *b"ESLF";
/// The version that this code writes, and the newest that it reads.
pub(crate) const VERSION: u8 = 1;
/// The bytes of a header of [`VERSION`].
pub(crate) const HEADER_LEN: usize = 64;
/// The most bytes that a header of any version has.
pub(crate) const HEADER_LEN_MAX: usize = 255;
/// Flags in these bits may be ignored by who does not know them; all others may not.
const FLAGS_IGNORABLE: u16 = 0x00ff;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    /// How many records, at least 1.
    pub(crate) count: u32,
    /// The offset of the first record.
    pub(crate) base: Offset,
    /// The timestamp of the first record; those of the others are stored as differences to it.
    pub(crate) first_timestamp: i64,
    /// The latest timestamp of its records.
    pub(crate) max_timestamp: i64,
    /// The wall clock when it was appended.
    pub(crate) appended_at: i64,
    /// Bytes at the start of the body that are not records.
    pub(crate) extension_len: u32,
}

/// Why bytes are no frame that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// Damaged, torn or never written.
    Bad(&'static str),
    /// Whole, and made by a later version of this program.
    Newer(String),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

impl Header {
    /// The bytes of the frame, header and body.
    pub(crate) fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.body_len)
    }

    /// The offset behind its last record.
    pub(crate) fn end(&self) -> Offset {
        self.base + u64::from(self.count)
    }

    /// Reads a header from the start of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NoFrame> {
        if bytes.len() < HEADER_LEN {
            return Err(NoFrame::Bad("a frame header is cut off"));
        }
        if bytes[..4] != MAGIC {
            return Err(NoFrame::Bad("no frame begins here"));
        }
        // A later version may have a longer header; where its checksum lies is fixed for all of them.
        let header_len = usize::from(bytes[9]);
        if header_len < HEADER_LEN || header_len > bytes.len() {
            return Err(NoFrame::Bad("a frame header has an impossible length"));
        }
        if crc32c::crc32c(&bytes[8..header_len]) != u32_at(bytes, 4) {
            return Err(NoFrame::Bad("the checksum of a frame header is wrong"));
        }
        let version = bytes[8];
        if version > VERSION {
            return Err(NoFrame::Newer(format!(
                "format version {version}, this program reads up to {VERSION}"
            )));
        }
        let flags = u16::from_le_bytes([bytes[10], bytes[11]]);
        if flags & !FLAGS_IGNORABLE != 0 {
            return Err(NoFrame::Newer(format!("format flags {flags:#06x} that this program does not know")));
        }
        let header = Self {
            body_len: u32_at(bytes, 12),
            body_crc: u32_at(bytes, 16),
            count: u32_at(bytes, 20),
            base: u64_at(bytes, 24),
            first_timestamp: u64_at(bytes, 32) as i64,
            max_timestamp: u64_at(bytes, 40) as i64,
            appended_at: u64_at(bytes, 48) as i64,
            extension_len: u32_at(bytes, 56),
        };
        if header_len != HEADER_LEN
            || version == 0
            || header.count == 0
            || header.extension_len > header.body_len
            || header.base.checked_add(u64::from(header.count)).is_none()
        {
            return Err(NoFrame::Bad("a frame header holds impossible values"));
        }
        Ok(header)
    }

    /// Writes the header over the first [`HEADER_LEN`] of `bytes`.
    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[9] = HEADER_LEN as u8;
        bytes[10..12].copy_from_slice(&0_u16.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_timestamp.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.max_timestamp.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.appended_at.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.extension_len.to_le_bytes());
        bytes[60..64].copy_from_slice(&0_u32.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[8..HEADER_LEN]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// At most so many bytes does `record` take in a frame.
pub(crate) fn encoded_max(record: &Record) -> usize {
    // `Record::size` counts 32 a record and 2 a header; the numbers take at most 25 and 10.
    record.size() + record.headers.len() * 8
}

/// Encodes the records of one frame.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl FrameBuilder {
    /// A frame without records, with room for `body_len` bytes of them.
    pub(crate) fn with_capacity(body_len: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LEN + body_len);
        bytes.resize(HEADER_LEN, 0);
        Self { bytes, count: 0, first_timestamp: 0, max_timestamp: i64::MIN }
    }

    pub(crate) fn push(&mut self, record: &Record) {
        let timestamp = record.timestamp.0;
        if self.count == 0 {
            self.first_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let out = &mut self.bytes;
        put_varint(out, zigzag(timestamp.wrapping_sub(self.first_timestamp)));
        put_nullable(out, record.key.as_ref());
        put_nullable(out, record.value.as_ref());
        put_varint(out, record.headers.len() as u64);
        for header in &record.headers {
            put_varint(out, header.name.len() as u64);
            out.extend_from_slice(header.name.as_bytes());
            put_nullable(out, header.value.as_ref());
        }
        self.count += 1;
    }

    /// How many records it holds.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The frame, but for its place.
    pub(crate) fn finish(self) -> Frame {
        let body = &self.bytes[HEADER_LEN..];
        let header = Header {
            body_len: body.len() as u32,
            body_crc: crc32c::crc32c(body),
            count: self.count,
            base: 0,
            first_timestamp: self.first_timestamp,
            max_timestamp: self.max_timestamp,
            appended_at: 0,
            extension_len: 0,
        };
        Frame { header, bytes: self.bytes }
    }
}

/// An encoded frame that has no place yet.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    bytes: Vec<u8>,
}

impl Frame {
    /// Gives the frame its place.
    pub(crate) fn place(&mut self, base: Offset, appended_at: i64) {
        self.header.base = base;
        self.header.appended_at = appended_at;
        self.header.write(&mut self.bytes);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its records, out of the very bytes that were written.
    pub(crate) fn into_records(self) -> Records {
        Records::new(&self.header, &Bytes::from(self.bytes))
    }
}

/// The records of a frame that are still to be taken, as slices of its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    body: Bytes,
    at: usize,
    next: Offset,
    end: Offset,
    first_timestamp: i64,
}

/// The body of a frame does not hold what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Records {
    /// The records of the whole frame in `frame`, which begins with `header`.
    pub(crate) fn new(header: &Header, frame: &Bytes) -> Self {
        let len = header.frame_len() as usize;
        let body = frame.slice(HEADER_LEN..len);
        let (next, end) = (header.base, header.end());
        Self { body, at: header.extension_len as usize, next, end, first_timestamp: header.first_timestamp }
    }

    /// The offset of the record that [`Records::take`] gives next.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// The offset behind the last record.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// How many bytes of the log they keep in memory.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// The next record, where one is left.
    pub(crate) fn take(&mut self) -> Result<Option<StoredRecord>, Malformed> {
        if self.next == self.end {
            return Ok(None);
        }
        let timestamp = self.timestamp()?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let count = self.varint()? as usize;
        // Each header takes 2 bytes or more, which bounds what a wrong number can make us allocate.
        if count > (self.body.len() - self.at) / 2 {
            return Err(Malformed);
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let len = self.varint()?;
            let name = ByteString::try_from(self.slice(len)?).map_err(|_| Malformed)?;
            headers.push(RecordHeader { name, value: self.nullable()? });
        }
        let record = StoredRecord { offset: self.next, record: Record { key, value, headers, timestamp } };
        self.next += 1;
        Ok(Some(record))
    }

    /// Passes over the records before `offset`.
    pub(crate) fn skip_to(&mut self, offset: Offset) -> Result<(), Malformed> {
        while self.next < offset.min(self.end) {
            self.skip()?;
        }
        Ok(())
    }

    /// The offset of the first record from `from` on whose timestamp is `at` or later.
    pub(crate) fn find_time(mut self, from: Offset, at: i64) -> Result<Option<Offset>, Malformed> {
        while self.next < self.end {
            let offset = self.next;
            let timestamp = self.skip()?;
            if offset >= from && timestamp.0 >= at {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn skip(&mut self) -> Result<Timestamp, Malformed> {
        let timestamp = self.timestamp()?;
        self.skip_nullable()?;
        self.skip_nullable()?;
        for _ in 0..self.varint()? {
            let len = self.varint()?;
            self.advance(len)?;
            self.skip_nullable()?;
        }
        self.next += 1;
        Ok(timestamp)
    }

    fn timestamp(&mut self) -> Result<Timestamp, Malformed> {
        let delta = unzigzag(self.varint()?);
        Ok(Timestamp(self.first_timestamp.wrapping_add(delta)))
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.varint()? {
            0 => Ok(None),
            len => self.slice(len - 1).map(Some),
        }
    }

    fn skip_nullable(&mut self) -> Result<(), Malformed> {
        match self.varint()? {
            0 => Ok(()),
            len => self.advance(len - 1).map(|_| ()),
        }
    }

    fn slice(&mut self, len: u64) -> Result<Bytes, Malformed> {
        let start = self.advance(len)?;
        Ok(self.body.slice(start..self.at))
    }

    /// Moves behind `len` more bytes and answers where they begin.
    fn advance(&mut self, len: u64) -> Result<usize, Malformed> {
        let start = self.at;
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let end = start.checked_add(len).filter(|end| *end <= self.body.len()).ok_or(Malformed)?;
        self.at = end;
        Ok(start)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for (shift, byte) in (0..64).step_by(7).zip(&self.body[self.at..]) {
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Null is 0, so that empty (1) is not the same.
fn put_nullable(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            put_varint(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
