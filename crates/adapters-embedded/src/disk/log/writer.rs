//! Writes a partition's groups of frames: one write and one sync a group, and no acknowledgement before.
//!
//! Invariants:
//! - Bytes before `position` in the last segment are whole frames that are synced. Bytes behind it are
//!   nobody's: while there may be any, `dirty` is set, and they are cut off before anything is written.
//! - After a failed sync the operating system may have forgotten what it could not write while it still
//!   shows it. What that sync covered is cut off, and the segment is never written again (`renew`).

use super::{
    call::Share,
    fault::Fault,
    file::File,
    index::Index,
    partition::{Closed, Held, Partition},
    segment::Segment,
};
use ports::{ErrorKind, Offset};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
};

/// The write side of a partition.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
    /// Opened by the first write, so that a partition at rest takes no file descriptor.
    file: Option<Arc<dyn File>>,
    position: u64,
    next: Offset,
    dirty: bool,
    /// The next write begins a new segment.
    renew: bool,
}

impl Writer {
    /// Goes on at byte `position` of `segment` with offset `next`.
    pub(crate) fn new(segment: Arc<Segment>, position: u64, next: Offset) -> Self {
        Self { segment, file: None, position, next, dirty: false, renew: false }
    }

    fn file(&mut self, partition: &Partition) -> io::Result<Arc<dyn File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.segment.open(&*partition.around.fs)?;
        Ok(self.file.insert(file).clone())
    }

    /// Makes room for a frame of `len` bytes: repairs what failed before and rolls where it is due.
    fn make_ready(&mut self, partition: &Partition, len: u64, segment_bytes: u64) -> Result<(), Fault> {
        self.repair(partition)?;
        let full = self.position > 0 && self.position + len > segment_bytes;
        if full || self.renew {
            self.roll(partition)?;
        }
        Ok(())
    }

    /// Cuts off what may lie behind the last good frame.
    fn repair(&mut self, partition: &Partition) -> Result<(), Fault> {
        if !self.dirty {
            return Ok(());
        }
        let cut = self.file(partition).and_then(|file| {
            file.truncate(self.position)?;
            file.sync_data()
        });
        cut.map_err(|error| Fault::io("cut off a failed write of", &self.segment.path, &error))?;
        self.dirty = false;
        Ok(())
    }

    /// Begins a new segment. Once it has begun to, nothing is written to the old one any more, as a file of
    /// the new name may be there after a restart.
    pub(super) fn roll(&mut self, partition: &Partition) -> Result<(), Fault> {
        self.repair(partition)?;
        self.renew = true;
        let fs = &*partition.around.fs;
        let fresh = self.position == 0;
        let segment =
            if fresh { self.segment.clone() } else { Arc::new(Segment::new(&partition.dir, self.next)) };
        let made = || {
            let file = if fresh { segment.replace(fs)? } else { segment.create(fs)? };
            fs.sync_dir(&partition.dir)?;
            Ok(file)
        };
        let file = made().map_err(|error| Fault::io("begin the segment", &segment.path, &error))?;
        if !fresh {
            let mut view = partition.view.lock();
            view.segments.push(Held { segment: segment.clone(), len: 0 });
            let sealed = std::mem::replace(&mut view.index, Index::new(self.next));
            drop(view);
            self.segment.seal(fs, &sealed);
        }
        (self.segment, self.file, self.position, self.renew) = (segment, Some(file), 0, false);
        Ok(())
    }

    /// Writes and syncs the frames of `run`. When it fails, none of them is in the log, or, where the
    /// fault says so, that is not known.
    fn write(&mut self, partition: &Partition, run: &[Share]) -> Result<(), Fault> {
        let len: u64 = run.iter().map(Share::len).sum();
        let mut slices: Vec<_> = run.iter().map(|share| IoSlice::new(share.frame.as_bytes())).collect();
        let file = self.file(partition).map_err(|error| Fault::io("open", &self.segment.path, &error))?;
        self.dirty = true;
        let fault = match file.write_at(self.position, &mut slices) {
            Ok(()) => match file.sync_data() {
                Ok(()) => {
                    self.dirty = false;
                    self.position += len;
                    return Ok(());
                }
                Err(error) => {
                    self.renew = true;
                    Fault::io("sync", &self.segment.path, &error)
                }
            },
            Err(error) => Fault::io("write", &self.segment.path, &error),
        };
        tracing::error!(partition = %partition.name, detail = fault.detail, "an append failed");
        match self.repair(partition) {
            Ok(()) => Err(fault),
            Err(repair) => {
                tracing::error!(partition = %partition.name, detail = repair.detail, "appends wait for a repair");
                Err(fault.effect_unknown())
            }
        }
    }
}

impl Partition {
    /// Appends the frames of `group` in order and reports on each.
    pub(crate) fn commit(&self, mut group: VecDeque<Share>) {
        let mut writer = self.writer.lock();
        while let Some(first) = group.front() {
            if let Err(Closed) = self.bounds() {
                return fail(group, &Closed.fault(&self.name));
            }
            let segment_bytes = self.settings.read().segment_bytes;
            if let Err(fault) = writer.make_ready(self, first.len(), segment_bytes) {
                return fail(group, &fault);
            }
            let appended_at = self.around.clock.wall().0;
            let (mut run, mut len, mut next) =
                (Vec::with_capacity(group.len()), writer.position, writer.next);
            while let Some(mut share) = group.pop_front() {
                if !run.is_empty() && len + share.len() > segment_bytes {
                    group.push_front(share);
                    break;
                }
                share.frame.place(next, appended_at);
                len += share.len();
                next = share.frame.header.end();
                run.push(share);
            }
            if let Err(fault) = writer.write(self, &run) {
                fail(run, &fault);
                // What was not tried is certainly not in the log.
                return fail(group, &Fault::new(fault.kind, fault.detail));
            }
            writer.next = next;
            let (mut frames, mut tickets) = (Vec::with_capacity(run.len()), Vec::with_capacity(run.len()));
            for Share { frame, ticket } in run {
                tickets.push((frame.header.base, ticket));
                frames.push(frame);
            }
            self.publish(frames.into_iter());
            for (base, ticket) in tickets {
                ticket.report(Ok(base));
            }
        }
    }

    /// The first offset that may be read becomes `to`, for good; files that hold only what is before it
    /// are removed. Answers the first offset afterwards.
    pub(crate) fn advance_start(&self, to: Offset) -> Result<Offset, Fault> {
        let mut writer = self.writer.lock();
        let (start, end) = self.bounds().map_err(|closed| closed.fault(&self.name))?;
        if to > end {
            return Err(Fault::new(
                ErrorKind::OutOfRange,
                format!("offset {to} of {} is beyond its end, {end}", self.name),
            ));
        }
        if to <= start {
            return Ok(start);
        }
        // First the mark, then the files: whatever of them a crash leaves is not believed.
        super::recovery::write_start(&*self.around.fs, &self.dir, to)?;
        if to == end && writer.position > 0 {
            // Only a last segment without records can stay behind.
            if let Err(fault) = writer.roll(self) {
                tracing::warn!(partition = %self.name, detail = fault.detail, "room of trimmed records is not free yet");
            }
        }
        let gone = self.view.lock().advance_start(to);
        super::recovery::remove_segments(&*self.around.fs, &self.dir, &gone);
        Ok(to)
    }

    /// Removes the segments that are older than the topic's settings let them be, or too many.
    pub(crate) fn enforce_retention(&self) -> Result<(), Fault> {
        let settings = *self.settings.read();
        let now = self.around.clock.wall().0;
        if let Some(keep_ms) = settings.retention_ms {
            self.roll_when_older(now.saturating_sub(keep_ms))?;
        }
        let (mut held, last) = {
            let view = self.view.lock();
            (view.segments.clone(), view.end())
        };
        let mut bytes: u64 = held.iter().map(|held| held.len).sum();
        held.reverse();
        let mut target = None;
        while let Some(oldest) = held.pop() {
            let Some(next) = held.last() else { break };
            let end = next.segment.base.min(last);
            let too_many = settings.retention_bytes.is_some_and(|max| bytes - oldest.len >= max);
            let too_old = || -> Result<bool, Fault> {
                let Some(keep_ms) = settings.retention_ms else { return Ok(false) };
                let appended = oldest.segment.summary(&*self.around.fs, end)?.last_appended;
                Ok(appended < now.saturating_sub(keep_ms))
            };
            if !too_many && !too_old()? {
                break;
            }
            bytes -= oldest.len;
            target = Some(end);
        }
        if let Some(target) = target {
            let start = self.advance_start(target)?;
            tracing::info!(partition = %self.name, start, "retention removed records");
        }
        Ok(())
    }

    /// Ends the last segment where its first record was appended before `wall`, so that records of a topic
    /// with little traffic come of age too.
    fn roll_when_older(&self, wall: i64) -> Result<(), Fault> {
        let due = || self.view.lock().index.summary.first_appended < wall;
        if !due() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        if due() { writer.roll(self) } else { Ok(()) }
    }
}

fn fail(shares: impl IntoIterator<Item = Share>, fault: &Fault) {
    for share in shares {
        share.ticket.report(Err(fault.clone()));
    }
}
