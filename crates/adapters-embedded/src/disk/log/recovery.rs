//! What lies in a partition's directory, made anew and read back.

use super::{
    fault::Fault,
    file::{FileSystem, remove_if_there},
    frame::NoFrame,
    index::Index,
    meta::{self, Fields},
    partition::{Held, Recovered},
    segment::{INDEX_EXTENSION, Segment, newer},
};
use ports::Offset;
use std::{collections::HashSet, io, path::Path, sync::Arc};

const START_FILE: &str = "log-start";
const START_KIND: &str = "log-start";

/// Makes the directory of a partition without records. The caller syncs the directory above.
pub(crate) fn create(fs: &dyn FileSystem, dir: &Path) -> Result<(), Fault> {
    let made = || -> io::Result<()> {
        match fs.create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Segment::new(dir, 0).create(fs)?;
        fs.sync_dir(dir)
    };
    made().map_err(|error| Fault::io("make", dir, &error))
}

/// What a partition that has just been made holds.
pub(crate) fn empty(dir: &Path) -> Recovered {
    begin(Segment::new(dir, 0))
}

fn begin(segment: Segment) -> Recovered {
    let start = segment.base;
    let segments = vec![Held { segment: Arc::new(segment), len: 0 }];
    Recovered { start, segments, index: Index::new(start) }
}

/// Makes `start` the first offset of the log in `dir`, durably.
pub(crate) fn write_start(fs: &dyn FileSystem, dir: &Path, start: Offset) -> Result<(), Fault> {
    meta::write(fs, &dir.join(START_FILE), START_KIND, &Fields::new().add("offset", &start))
}

fn read_start(fs: &dyn FileSystem, dir: &Path) -> Result<Offset, Fault> {
    let path = dir.join(START_FILE);
    let Some(fields) = meta::read(fs, &path, START_KIND).map_err(|damaged| damaged.fault)? else {
        return Ok(0);
    };
    let offset = fields.get("offset").and_then(|offset| offset.parse().ok());
    offset.ok_or_else(|| Fault::corrupt(&path, 0, "it names no offset"))
}

/// Removes the files of segments. What cannot be removed is tried again when the log is opened.
pub(crate) fn remove_segments(fs: &dyn FileSystem, dir: &Path, segments: &[Held]) {
    if segments.is_empty() {
        return;
    }
    let remove = || -> io::Result<()> {
        for held in segments {
            remove_if_there(fs, &held.segment.index_path())?;
            remove_if_there(fs, &held.segment.path)?;
        }
        fs.sync_dir(dir)
    };
    if let Err(error) = remove() {
        tracing::warn!(dir = %dir.display(), %error, "could not remove old segments yet");
    }
}

/// Reads the directory of a partition and brings its last segment to the state after its last whole frame.
///
/// Work and memory depend on the last segment, not on what lies before it.
pub(crate) fn open(fs: &dyn FileSystem, dir: &Path) -> Result<Recovered, Fault> {
    let start = read_start(fs, dir)?;
    let mut segments = Vec::new();
    let mut indexes = HashSet::new();
    for entry in fs.list(dir).map_err(|error| Fault::io("read", dir, &error))? {
        let path = dir.join(&entry.name);
        if let Some(base) = Segment::base_of(&entry.name) {
            segments.push(Held { segment: Arc::new(Segment::new(dir, base)), len: entry.len });
        } else if entry.name.ends_with(&format!(".{INDEX_EXTENSION}")) {
            indexes.insert(path);
        } else if entry.name.ends_with(&format!(".{}", meta::TEMPORARY_EXTENSION)) {
            // Left by a crash before it was finished.
            let _ = remove_if_there(fs, &path);
        }
    }
    segments.sort_by_key(|held| held.segment.base);
    let gone = segments.windows(2).take_while(|pair| pair[1].segment.base <= start).count();
    let gone: Vec<_> = segments.drain(..gone).collect();
    remove_segments(fs, dir, &gone);
    let Some(last) = segments.last_mut() else {
        return Err(Fault::corrupt(&Segment::new(dir, start).path, 0, "no segment is there"));
    };
    let index = recover_last(fs, last)?;
    // What was being made when the process died may be seen now, and not be durable yet.
    fs.sync_dir(dir).map_err(|error| Fault::io("sync", dir, &error))?;
    for held in &segments {
        indexes.remove(&held.segment.index_path());
    }
    for orphan in indexes {
        let _ = remove_if_there(fs, &orphan);
    }
    if index.summary.end < start {
        return begin_at(fs, dir, start, &segments);
    }
    Ok(Recovered { start, segments, index })
}

/// Cuts the last segment behind its last whole frame and syncs it: a frame that was written but not synced
/// when the process died must not be shown and then lost.
fn recover_last(fs: &dyn FileSystem, last: &mut Held) -> Result<Index, Fault> {
    let segment = &last.segment;
    let io_fault = |doing: &str, error: &io::Error| Fault::io(doing, &segment.path, error);
    let file = segment.open(fs).map_err(|error| io_fault("open", &error))?;
    let len = file.len().map_err(|error| io_fault("read", &error))?;
    let (index, end) = segment.scan(&file, len, super::segment::FoundFrame::is_whole)?;
    let whole = index.summary.len;
    match end {
        None => {}
        Some(NoFrame::Newer(what)) => return Err(newer(&segment.path, whole, &what)),
        Some(NoFrame::Bad(what)) => {
            tracing::warn!(
                path = %segment.path.display(),
                position = whole,
                bytes = len - whole,
                what,
                "cut off the end of a segment, as after a crash"
            );
        }
    }
    // Also where nothing is to be cut: the process before may have cut the file and died after the sync of
    // that had failed. Then the size is seen and not durable, and a loss of power would bring the end back.
    file.truncate(whole).map_err(|error| io_fault("cut off the end of", &error))?;
    file.sync_data().map_err(|error| io_fault("sync", &error))?;
    last.len = whole;
    Ok(index)
}

/// The last segment lost records that had been trimmed already: goes on at `start`, so that no offset is
/// given twice.
fn begin_at(fs: &dyn FileSystem, dir: &Path, start: Offset, old: &[Held]) -> Result<Recovered, Fault> {
    let segment = Segment::new(dir, start);
    let made = segment.create(fs).and_then(|_| fs.sync_dir(dir));
    made.map_err(|error| Fault::io("make", &segment.path, &error))?;
    remove_segments(fs, dir, old);
    Ok(begin(segment))
}
