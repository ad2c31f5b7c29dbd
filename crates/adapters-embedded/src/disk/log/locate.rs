//! Finding a place by time.

use super::{
    fault::Fault,
    index::Entry,
    partition::{Partition, Place},
    reader::{next, open},
    segment::{READ_LEN, Scanner},
};
use ports::{ErrorKind, Offset};

/// The first offset whose record is of `timestamp` or later; the end where there is none.
///
/// Timestamps need not grow with the offsets, so each segment that has one late enough is looked into, from
/// the place on before which its index says there is none.
pub(crate) fn by_time(partition: &Partition, timestamp: i64) -> Result<Offset, Fault> {
    let places = partition.places_by_time(timestamp);
    let end = places.last().map_or(0, |place| place.end);
    for place in &places {
        let (start, _) = partition.bounds().map_err(|closed| closed.fault(&partition.name))?;
        if place.end <= start {
            continue;
        }
        match in_segment(partition, place, start, timestamp) {
            Ok(Some(offset)) => return Ok(offset),
            // Removed meanwhile: what was in it is not looked for any more.
            Err(fault) if fault.kind == ErrorKind::OutOfRange => {}
            Ok(None) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(end)
}

fn in_segment(
    partition: &Partition,
    place: &Place,
    start: Offset,
    timestamp: i64,
) -> Result<Option<Offset>, Fault> {
    let segment = &place.segment;
    let fs = &*partition.around.fs;
    if place.len == 0 || segment.known_summary().is_some_and(|summary| summary.max_timestamp < timestamp) {
        return Ok(None);
    }
    let file = open(partition, segment)?;
    let entry = match place.entry {
        Some(entry) => Some(entry),
        None => {
            let index = segment.index(fs, &file, place.end)?;
            let places = [index.at_time(timestamp), index.at_offset(start)];
            places.into_iter().flatten().max_by_key(|entry| entry.position)
        }
    };
    let Some(Entry { offset, position, .. }) = entry else { return Ok(None) };
    let mut scanner = Scanner::new(file, position, offset);
    while scanner.expected() < place.end {
        let frame = next(segment, &mut scanner, place.len, READ_LEN)?;
        if frame.header.max_timestamp < timestamp || frame.header.end() <= start {
            continue;
        }
        let damaged = |what| Fault::corrupt(&segment.path, frame.position, what);
        if !frame.is_whole() {
            return Err(damaged("the checksum of a frame is wrong"));
        }
        let found = frame.records().find_time(start, timestamp);
        if let Some(offset) = found.map_err(|_| damaged("a record cannot be decoded"))? {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}
