//! Reading: a cursor over one partition.

use super::{
    fault::Fault,
    file::File,
    frame::{Malformed, NoFrame, Records},
    partition::{Partition, Place, Progress},
    segment::{FoundFrame, READ_LEN, ScanError, Scanner, Segment, newer},
};
use async_trait::async_trait;
use ports::{ErrorKind, Fetched, LogReader, Monotonic, Offset, PortError, ReadLimits, Result};
use std::{collections::VecDeque, io, sync::Arc};
use tokio::sync::watch;

const OPERATION: &str = "event_log.next";
/// At least so much is read from a file at once.
const READ_LEN_MIN: usize = 64 * 1024;

/// A cursor.
///
/// Invariants: `ready` holds frames of which the first, where there is one, may begin before `offset`, but
/// not behind it. `source` goes on behind the last of `ready` that was read from a file, or is not there.
#[derive(Debug)]
pub(crate) struct DiskReader {
    partition: Arc<Partition>,
    offset: Offset,
    ready: VecDeque<Records>,
    source: Option<Source>,
    progress: watch::Receiver<Progress>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Source {
    segment: Arc<Segment>,
    scanner: Scanner,
}

impl DiskReader {
    pub(crate) fn new(partition: Arc<Partition>, offset: Offset) -> Self {
        let progress = partition.progress();
        Self { partition, offset, ready: VecDeque::new(), source: None, progress }
    }

    fn forget(&mut self) {
        self.ready.clear();
        self.source = None;
    }

    /// The log's end, where the cursor is inside the log.
    fn check(&mut self) -> Result<Offset, Fault> {
        let name = &self.partition.name;
        let (start, end) = self.partition.bounds().map_err(|closed| closed.fault(name))?;
        if (start..=end).contains(&self.offset) {
            return Ok(end);
        }
        let fault =
            format!("offset {} of {name} is not in the log, which holds {start} to {end}", self.offset);
        self.forget();
        Err(Fault::new(ErrorKind::OutOfRange, fault))
    }

    /// Takes from `ready` what the limits allow and moves the cursor behind it.
    fn take(&mut self, limits: ReadLimits) -> Result<Vec<ports::StoredRecord>, Fault> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        let malformed = |offset: Offset| {
            let name = &self.partition.name;
            Fault::new(
                ErrorKind::Corrupt,
                format!("the record at offset {offset} of {name} cannot be decoded"),
            )
        };
        let mut offset = self.offset;
        while taken.len() < limits.records_max.max(1) {
            let Some(first) = self.ready.front_mut() else { break };
            if first.end() <= offset {
                self.ready.pop_front();
                continue;
            }
            if first.next() > offset {
                // What is ready belongs to another place.
                self.ready.clear();
                break;
            }
            let before = first.clone();
            let record = match first.skip_to(offset).and_then(|()| first.take()) {
                Ok(Some(record)) => record,
                // Told when the cursor stands there.
                Ok(None) | Err(Malformed) if !taken.is_empty() => break,
                Ok(None) | Err(Malformed) => return Err(malformed(offset)),
            };
            bytes += record.record.size();
            if bytes > limits.bytes_max && !taken.is_empty() {
                *first = before;
                break;
            }
            offset += 1;
            taken.push(record);
        }
        while self.ready.front().is_some_and(|first| first.end() <= offset) {
            self.ready.pop_front();
        }
        self.offset = offset;
        Ok(taken)
    }

    /// Waits for a record at the cursor. False when there is none by `deadline`.
    async fn wait(&mut self, deadline: Monotonic) -> bool {
        let offset = self.offset;
        let clock = self.partition.around.clock.clone();
        tokio::select! {
            biased;
            _ = self.progress.wait_for(|progress| progress.closed || progress.end > offset) => true,
            () = clock.sleep_until(deadline) => false,
        }
    }

    /// Brings the frame of the cursor, and those that come along, into `ready`.
    async fn fill(&mut self, limits: ReadLimits) -> Result<(), Fault> {
        let tail = self.partition.tail(self.offset, limits.bytes_max.max(1));
        if !tail.is_empty() {
            self.ready = tail;
            return Ok(());
        }
        let place = self.partition.place(self.offset)?;
        let (partition, offset, source) = (self.partition.clone(), self.offset, self.source.take());
        let read_len = limits.bytes_max.clamp(READ_LEN_MIN, READ_LEN);
        let reading = tokio::task::spawn_blocking(move || read(&partition, &place, offset, source, read_len));
        let (ready, source) = match reading.await {
            Ok(read) => read?,
            Err(error) => {
                return Err(Fault::new(ErrorKind::Unavailable, format!("the read was given up: {error}")));
            }
        };
        (self.ready, self.source) = (ready, Some(source));
        Ok(())
    }
}

/// Reads the frame of `offset`, and those behind it that come with the same bytes.
fn read(
    partition: &Partition,
    place: &Place,
    offset: Offset,
    source: Option<Source>,
    read_len: usize,
) -> Result<(VecDeque<Records>, Source), Fault> {
    let fits =
        |source: &Source| Arc::ptr_eq(&source.segment, &place.segment) && source.scanner.expected() <= offset;
    let mut source = match source.filter(fits) {
        Some(source) => source,
        None => begin(partition, place, offset)?,
    };
    let Source { segment, scanner } = &mut source;
    let mut ready = VecDeque::new();
    let mut add = |frame: &FoundFrame| {
        if !frame.is_whole() {
            return Err(Fault::corrupt(&segment.path, frame.position, "the checksum of a frame is wrong"));
        }
        ready.push_back(frame.records());
        Ok(())
    };
    loop {
        let frame = next(segment, scanner, place.len, read_len)?;
        if frame.header.end() > offset {
            add(&frame)?;
            break;
        }
    }
    while scanner.position() < place.len
        && let Some(frame) = scanner.next_in_memory()
    {
        // Damage is told when the cursor comes to it.
        if add(&frame).is_err() {
            *scanner = Scanner::new(scanner.file(), frame.position, frame.header.base);
            break;
        }
    }
    Ok((ready, source))
}

/// The next frame, which must be there.
pub(super) fn next(
    segment: &Segment,
    scanner: &mut Scanner,
    len: u64,
    read_len: usize,
) -> Result<FoundFrame, Fault> {
    let position = scanner.position();
    match scanner.next(len, read_len) {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(Fault::corrupt(&segment.path, position, "it ends too early")),
        Err(ScanError::NoFrame(NoFrame::Bad(what))) => Err(Fault::corrupt(&segment.path, position, what)),
        Err(ScanError::NoFrame(NoFrame::Newer(what))) => Err(newer(&segment.path, position, &what)),
        Err(ScanError::Io(error)) => Err(Fault::io("read", &segment.path, &error)),
    }
}

/// Opens the segment of `place` at the frame before `offset` that its index knows.
fn begin(partition: &Partition, place: &Place, offset: Offset) -> Result<Source, Fault> {
    let segment = place.segment.clone();
    let file = open(partition, &segment)?;
    let fs = &*partition.around.fs;
    let entry = match place.entry {
        Some(entry) => Some(entry),
        None if offset == segment.base => None,
        None => segment.index(fs, &file, place.end)?.at_offset(offset),
    };
    let (at, expected) = entry.map_or((0, segment.base), |entry| (entry.position, entry.offset));
    Ok(Source { scanner: Scanner::new(file, at, expected), segment })
}

/// Opens a segment's file. One that is not there any more went with retention, a trim or its topic,
/// unless it should be there.
pub(super) fn open(partition: &Partition, segment: &Segment) -> Result<Arc<dyn File>, Fault> {
    segment.open(&*partition.around.fs).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => match partition.bounds() {
            Err(closed) => closed.fault(&partition.name),
            Ok((start, _)) if start > segment.base => Fault::new(
                ErrorKind::OutOfRange,
                format!("{} now begins with offset {start}", partition.name),
            ),
            Ok(_) => Fault::corrupt(&segment.path, 0, "the file is missing"),
        },
        _ => Fault::io("open", &segment.path, &error),
    })
}

#[async_trait]
impl LogReader for DiskReader {
    async fn next(&mut self, limits: ReadLimits) -> Result<Fetched> {
        let of = |fault: Fault| -> PortError { fault.of(OPERATION) };
        let deadline = self.partition.around.clock.monotonic() + limits.wait_max;
        loop {
            let end = self.check().map_err(of)?;
            if self.offset == end {
                if !limits.wait_max.is_zero() && self.wait(deadline).await {
                    continue;
                }
                return Ok(Fetched { records: Vec::new(), next: self.offset, end });
            }
            let records = self.take(limits).map_err(of)?;
            if !records.is_empty() {
                return Ok(Fetched { records, next: self.offset, end });
            }
            self.fill(limits).await.map_err(of)?;
        }
    }

    async fn seek(&mut self, to: Offset) -> Result<()> {
        if to != self.offset {
            self.offset = to;
            self.forget();
        }
        Ok(())
    }
}
