//! What is done beyond a committed offset, as text that travels in the commit's metadata.
//!
//! `es1.` and base64url of: the log's number (8 bytes, big-endian), the committed offset (varint), then for
//! each interval the distance from the end of the one before (or the committed offset) and its length, as
//! varints (LEB128), and at last CRC-32 (IEEE) of all that, 4 bytes. Kafka takes 4096 bytes of metadata
//! (`offset.metadata.max.bytes`); what does not fit is left out from the end, and comes again.

use super::DoneSet;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ports::Offset;
use std::ops::Range;

/// The most bytes of a map.
pub const BYTES_MAX: usize = 4096;
const PREFIX: &str = "es1.";
/// What the prefix leaves, as bytes before base64.
const BODY_MAX: usize = (BYTES_MAX - PREFIX.len()) / 4 * 3;
const CHECKSUM: usize = 4;

/// Whether a commit's metadata was written by this service.
pub fn is_ours(metadata: &str) -> bool {
    metadata.starts_with(PREFIX)
}

/// The map of what is done beyond `next`, for the log of that number. `done` is in order.
pub fn encode(log: u64, next: Offset, done: impl Iterator<Item = Range<Offset>>) -> String {
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(&log.to_be_bytes());
    put(&mut body, next);
    let mut from = next;
    for range in done {
        let whole = body.len();
        put(&mut body, range.start.saturating_sub(from));
        put(&mut body, range.end - range.start);
        if body.len() + CHECKSUM > BODY_MAX {
            body.truncate(whole);
            break;
        }
        from = range.end;
    }
    body.extend_from_slice(&crc32(&body).to_be_bytes());
    let mut text = String::with_capacity(PREFIX.len() + body.len().div_ceil(3) * 4);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&body, &mut text);
    text
}

/// What is done beyond `next`; `None` where the map is damaged, or speaks of another log or position.
pub fn decode(metadata: &str, log: u64, next: Offset) -> Option<DoneSet> {
    if metadata.len() > BYTES_MAX {
        return None;
    }
    let body = URL_SAFE_NO_PAD.decode(metadata.strip_prefix(PREFIX)?).ok()?;
    let (body, checksum) = body.split_last_chunk::<CHECKSUM>()?;
    let (number, mut rest) = body.split_first_chunk::<8>()?;
    if crc32(body) != u32::from_be_bytes(*checksum) || u64::from_be_bytes(*number) != log {
        return None;
    }
    if get(&mut rest)? != next {
        return None;
    }
    let mut done = DoneSet::default();
    let mut from = next;
    while !rest.is_empty() {
        let start = from.checked_add(get(&mut rest)?)?;
        let end = start.checked_add(get(&mut rest)?).filter(|end| *end > start)?;
        done.insert(start..end);
        from = end;
    }
    Some(done)
}

fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn get(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7F);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(next: Offset, gaps: &[(u64, u64)]) -> Vec<Range<Offset>> {
        let mut at = next;
        let mut ranges = Vec::new();
        for (gap, length) in gaps {
            at += gap;
            ranges.push(at..at + length);
            at += length;
        }
        ranges
    }

    proptest! {
        #[test]
        fn it_reads_back_what_fits_from_the_beginning(
            next in 0_u64..1 << 40, gaps in prop::collection::vec((1_u64..1 << 20, 1_u64..1 << 20), 0..1500),
        ) {
            let ranges = ranges(next, &gaps);
            let map = encode(9, next, ranges.iter().cloned());
            prop_assert!(map.len() <= BYTES_MAX && map.is_ascii() && is_ours(&map));
            let read: Vec<_> = decode(&map, 9, next).unwrap().ranges().collect();
            prop_assert_eq!(&read[..], &ranges[..read.len()]);
            prop_assert!(read.len() == ranges.len() || map.len() > BYTES_MAX - 20, "it left out what would fit");
        }

        #[test]
        fn one_of_another_log_or_place_or_with_a_changed_character_is_not_believed(
            next in 0_u64..1000, gaps in prop::collection::vec((1_u64..9, 1_u64..9), 0..50),
            place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_é-]",
        ) {
            let map = encode(9, next, ranges(next, &gaps).into_iter());
            prop_assert_eq!(decode(&map, 8, next), None);
            prop_assert_eq!(decode(&map, 9, next + 1), None);
            let at = place.index(map.len());
            let changed = format!("{}{with}{}", &map[..at], &map[at + 1..]);
            prop_assert!(changed == map || decode(&changed, 9, next).is_none());
        }

        #[test]
        fn any_text_is_read_without_harm(text in "(es1\\.)?[A-Za-z0-9_-]{0,100}|.{0,100}", next in any::<u64>()) {
            let _ = decode(&text, 0, next);
        }

        #[test]
        fn any_body_with_a_right_checksum_is_read_without_harm(mut body in prop::collection::vec(any::<u8>(), 8..60)) {
            let log = u64::from_be_bytes(std::array::from_fn(|i| body[i]));
            body.extend_from_slice(&crc32(&body).to_be_bytes());
            let next = get(&mut &body[8..]).unwrap_or_default();
            if let Some(done) = decode(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&body)), log, next) {
                prop_assert!(done.ranges().all(|range| range.start >= next));
            }
        }
    }

    #[test]
    fn the_checksum_is_the_one_it_says() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
