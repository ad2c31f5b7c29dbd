//! A partition's progress as text that travels in a commit's metadata: which log it speaks of, the epoch,
//! what is done beyond the committed offset, and the attempts of events that are undecided.
//!
//! # Format
//!
//! ASCII: `es2.`, then base64url without padding (RFC 4648, section 5) of these bytes. A varint is
//! unsigned LEB128 of at most 64 bits; other numbers are big-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | the number that names the log |
//! | varint | the epoch's counter |
//! | 16 | the epoch's UUID |
//! | varint | `next`, the committed offset |
//! | … | blocks of what is done (below) |
//! | 1 | `00`: the blocks end here |
//! | … | the attempts (below), up to the checksum |
//! | 4 | CRC-32C (Castagnoli) of all the bytes before it |
//!
//! **Blocks** describe offsets in order. The first begins at `next`; each other one at the end of the last
//! done offset of the one before. A block begins with a varint: its lowest bit is its kind, the others are
//! its count `n`, which is not 0.
//!
//! - Kind 0, runs: `n` times a varint of how many offsets are not done, and one of how many after them are
//!   (not 0).
//! - Kind 1, a bitmap: `n` bytes. The lowest bit of the first byte is the offset at which the block begins;
//!   1 is done. The last byte is not 0, and the block ends behind its highest 1.
//!
//! Which intervals go into which kind of block is the writer's choice (`blocks.rs` says how it is made):
//! runs of any length cost a few bytes, dense patterns one bit an offset.
//!
//! **Attempts** are, for each event in order that has some, a varint: the lowest three bits are the attempts
//! less 1 where these are below 7, else 7; the others are the distance from the offset behind the event
//! before (or from `next`). After a 7 a further varint follows: the attempts less 8.
//!
//! # What always holds
//!
//! 1. The text has at most `bytes_max` bytes. What does not fit is left out from the end: there is an
//!    offset below which all is told, and at or above which nothing is. What is left out comes again; it is
//!    never told wrongly.
//! 2. What a reader is told lies at `next` or beyond, whatever the text; an unreadable one tells nothing.
//! 3. Reading takes time and memory in proportion to the text: at most four intervals a byte of a bitmap,
//!    one interval for a run, however long.
//!
//! A right checksum is no proof that the text speaks of this log and this position: the reader compares
//! [`Decoded::log`], [`Decoded::next`] and [`Decoded::epoch`] with what it knows.

mod blocks;
#[cfg(test)]
mod tests;
mod varint;

use super::DoneSet;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ports::Offset;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};
use uuid::Uuid;

/// The most bytes of a map that Kafka takes unless it is configured otherwise
/// (`offset.metadata.max.bytes`).
pub const BYTES_MAX: usize = 4096;
/// The least `bytes_max`: with less, not even the position would fit. Less counts as this.
pub const BYTES_MIN: usize = 128;
/// The most `bytes_max`, and the longest text that is read. More counts as this.
pub const BYTES_LIMIT: usize = 1 << 16;

const PREFIX: &str = "es2.";
const LOG: usize = 8;
const UUID: usize = 16;
const CHECKSUM: usize = 4;
/// What ends the blocks.
const END: u8 = 0;
/// What stands in the three bits of an attempt whose number follows.
const MORE: u32 = 7;
/// The longest head: two varints beside what has a fixed length.
const HEAD_MAX: usize = LOG + UUID + 2 * varint::BYTES_MAX;

/// A subscription's epoch: a seek, a reset or a position that was moved from outside begins a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Grows with each epoch.
    pub counter: u64,
    /// Tells two epochs of the same counter apart.
    pub id: Uuid,
}

/// What is to be told of a partition.
#[derive(Clone, Debug)]
pub struct Progress<D, A> {
    /// Names the log, so that the map of another one is not believed.
    pub log: u64,
    /// The epoch in which the events were handled.
    pub epoch: Epoch,
    /// The committed offset.
    pub next: Offset,
    /// What is done beyond it, in order. What is out of order, or before `next`, is left out.
    pub done: D,
    /// The attempts of events that are undecided, in order of their offsets. Those of 0 are left out.
    pub attempts: A,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What goes into the commit's metadata.
    pub text: String,
    /// Something had to be left out: it would come again after a restart.
    pub full: bool,
    /// How many bytes the text has.
    pub used: usize,
}

/// What a map says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Names the log.
    pub log: u64,
    /// The epoch in which the events were handled.
    pub epoch: Epoch,
    /// The committed offset beyond which the map speaks.
    pub next: Offset,
    /// What is done beyond it.
    pub done: DoneSet,
    /// The attempts of events that were undecided; none is 0.
    pub attempts: BTreeMap<Offset, u32>,
}

/// Why a commit's metadata tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another program wrote the commit, or it has no metadata: the position counts, and that is all.
    #[error("the commit's metadata was not written by this service")]
    NotOurs,
    /// This service wrote it, and it was damaged or is of a version that this one does not read.
    #[error("the commit's map is damaged, or of another version")]
    Damaged,
}

/// Whether a commit's metadata was written by this service, in this version or another.
pub fn is_ours(metadata: &str) -> bool {
    let version =
        metadata.strip_prefix("es").and_then(|rest| rest.split_once('.')).map(|(version, _)| version);
    version.is_some_and(|version| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The map of a partition's progress, of at most `bytes_max` bytes (within [`BYTES_MIN`] and
/// [`BYTES_LIMIT`]). Costs grow with the number of intervals and attempts, up to what fits.
pub fn encode<D, A>(progress: Progress<D, A>, bytes_max: usize) -> Encoded
where
    D: IntoIterator<Item = Range<Offset>>,
    A: IntoIterator<Item = (Offset, u32)>,
{
    let Progress { log, epoch, next, done, attempts } = progress;
    let mut body = Vec::with_capacity(HEAD_MAX + CHECKSUM + 32);
    body.extend_from_slice(&log.to_be_bytes());
    varint::put(&mut body, epoch.counter);
    body.extend_from_slice(epoch.id.as_bytes());
    varint::put(&mut body, next);
    let text_max = bytes_max.clamp(BYTES_MIN, BYTES_LIMIT);
    let room = (text_max - PREFIX.len()) * 3 / 4 - body.len() - CHECKSUM;
    let (tail, full) = Telling::collect(next, done, attempts, room).within(room);
    body.extend_from_slice(&tail);
    body.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    let mut text = String::with_capacity(text_bytes(body.len()));
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&body, &mut text);
    Encoded { used: text.len(), text, full }
}

/// How many bytes [`encode`] would take for this if nothing had to be left out: never less, and at most 30
/// more (it takes the longest head). More than [`BYTES_LIMIT`] is answered as something above that. Costs
/// grow with the number of intervals and attempts.
pub fn estimate(
    next: Offset,
    done: impl IntoIterator<Item = Range<Offset>>,
    attempts: impl IntoIterator<Item = (Offset, u32)>,
) -> usize {
    let telling = Telling::collect(next, done, attempts, BYTES_LIMIT);
    if telling.whole_below != Offset::MAX {
        return BYTES_LIMIT + 1;
    }
    text_bytes(HEAD_MAX + telling.tail(telling.whole_below).len() + CHECKSUM)
}

/// What a commit's metadata says. The caller compares log, position and epoch.
pub fn decode(metadata: &str) -> Result<Decoded, Unreadable> {
    if !is_ours(metadata) {
        return Err(Unreadable::NotOurs);
    }
    read(metadata).ok_or(Unreadable::Damaged)
}

fn read(metadata: &str) -> Option<Decoded> {
    if metadata.len() > BYTES_LIMIT {
        return None;
    }
    let body = URL_SAFE_NO_PAD.decode(metadata.strip_prefix(PREFIX)?).ok()?;
    let (body, checksum) = body.split_last_chunk::<CHECKSUM>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let (log, mut rest) = body.split_first_chunk::<LOG>()?;
    let counter = varint::get(&mut rest)?;
    let (id, mut rest) = rest.split_first_chunk::<UUID>()?;
    let next = varint::get(&mut rest)?;
    let done = blocks::get(&mut rest, next)?;
    let attempts = get_attempts(rest, next)?;
    let epoch = Epoch { counter, id: Uuid::from_bytes(*id) };
    Some(Decoded { log: u64::from_be_bytes(*log), epoch, next, done, attempts })
}

/// What there is to tell, as far as it could ever fit.
struct Telling {
    next: Offset,
    /// In order, disjoint, none empty.
    done: Vec<Range<Offset>>,
    /// In order, none 0.
    attempts: Vec<(Offset, u32)>,
    /// All there is to tell below this is here; [`Offset::MAX`] where nothing was left out.
    whole_below: Offset,
}

impl Telling {
    fn collect(
        next: Offset,
        done: impl IntoIterator<Item = Range<Offset>>,
        attempts: impl IntoIterator<Item = (Offset, u32)>,
        room: usize,
    ) -> Self {
        let mut telling = Self { next, done: Vec::new(), attempts: Vec::new(), whole_below: Offset::MAX };
        let mut from = next;
        for range in done {
            let range = range.start.max(from)..range.end;
            if range.is_empty() {
                continue;
            }
            if telling.done.len() == room * blocks::INTERVALS_A_BYTE {
                telling.whole_below = range.start;
                break;
            }
            from = range.end;
            telling.done.push(range);
        }
        let mut from = next;
        for (offset, attempts) in attempts {
            if attempts == 0 || offset < from {
                continue;
            }
            // Such a distance would not leave three bits; no log has it.
            let too_far = (offset - from) >> (u64::BITS - 3) != 0;
            if telling.attempts.len() == room || too_far || offset == Offset::MAX {
                telling.whole_below = telling.whole_below.min(offset);
                break;
            }
            from = offset + 1;
            telling.attempts.push((offset, attempts));
        }
        telling
    }

    /// Blocks and attempts in at most `room` bytes, and whether something is left out.
    fn within(&self, room: usize) -> (Vec<u8>, bool) {
        let tail = self.tail(self.whole_below);
        if tail.len() <= room {
            return (tail, self.whole_below != Offset::MAX);
        }
        let ends = self.done.iter().map(|range| range.end);
        let behind = self.attempts.iter().map(|(offset, _)| offset + 1);
        let mut cuts: Vec<Offset> = std::iter::once(self.next).chain(ends).chain(behind).collect();
        cuts.retain(|cut| *cut <= self.whole_below);
        cuts.sort_unstable();
        // `cuts[fits]` fits, beginning with nothing at all; `cuts[exceeds]` does not.
        let (mut fits, mut exceeds) = (0, cuts.len());
        let mut best = self.tail(self.next);
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            let tail = self.tail(cuts[middle]);
            if tail.len() <= room {
                fits = middle;
                best = tail;
            } else {
                exceeds = middle;
            }
        }
        (best, true)
    }

    /// All there is to tell below an offset.
    fn tail(&self, below: Offset) -> Vec<u8> {
        let done = &self.done[..self.done.partition_point(|range| range.end <= below)];
        let attempts = &self.attempts[..self.attempts.partition_point(|(offset, _)| *offset < below)];
        let mut tail = Vec::with_capacity(2 * (done.len() + attempts.len()) + 8);
        blocks::put(&mut tail, self.next, done);
        tail.push(END);
        put_attempts(&mut tail, self.next, attempts);
        tail
    }
}

fn put_attempts(to: &mut Vec<u8>, next: Offset, attempts: &[(Offset, u32)]) {
    let mut from = next;
    for (offset, attempts) in attempts {
        let few = (attempts - 1).min(MORE);
        varint::put(to, (offset - from) << 3 | u64::from(few));
        if few == MORE {
            varint::put(to, u64::from(attempts - 1 - MORE));
        }
        from = offset + 1;
    }
}

fn get_attempts(mut rest: &[u8], next: Offset) -> Option<BTreeMap<Offset, u32>> {
    let mut all = BTreeMap::new();
    let mut from = Some(next);
    while !rest.is_empty() {
        let code = varint::get(&mut rest)?;
        let offset = from?.checked_add(code >> 3)?;
        let few = code as u32 & MORE;
        let more = if few == MORE { u32::try_from(varint::get(&mut rest)?).ok()? } else { 0 };
        all.insert(offset, few.checked_add(more)?.checked_add(1)?);
        from = offset.checked_add(1);
    }
    Some(all)
}

/// The length of the text of a body.
fn text_bytes(body: usize) -> usize {
    PREFIX.len() + (body * 4).div_ceil(3)
}
