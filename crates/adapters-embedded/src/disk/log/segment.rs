//! A segment: a file of frames, one behind the other, whose name is the offset of its first record.

use super::{
    fault::Fault,
    file::{File, FileSystem},
    frame::{HEADER_LEN, HEADER_LEN_MAX, Header, NoFrame, Records},
    index::{Index, Summary},
    meta::TEMPORARY_EXTENSION,
};
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{ErrorKind, Offset};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
};

/// The ending of segment files.
pub(crate) const LOG_EXTENSION: &str = "log";
/// The ending of index files.
pub(crate) const INDEX_EXTENSION: &str = "index";
/// What is read at once where nothing else is known.
pub(crate) const READ_LEN: usize = 1 << 20;

/// A segment of a partition.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The offset of its first record.
    pub(crate) base: Offset,
    /// Its file.
    pub(crate) path: PathBuf,
    /// Shared by all who have it open, so that many readers take one file descriptor.
    file: Mutex<Weak<dyn File>>,
    /// Known once the segment is sealed and its index was loaded.
    summary: OnceLock<Summary>,
}

impl Segment {
    /// The segment of `dir` that begins with `base`.
    pub(crate) fn new(dir: &Path, base: Offset) -> Self {
        let path = dir.join(format!("{base:020}.{LOG_EXTENSION}"));
        let file: Weak<dyn File> = Weak::<fs::File>::new();
        Self { base, path, file: Mutex::new(file), summary: OnceLock::new() }
    }

    /// The base offset that a file name stands for, where it is that of a segment.
    pub(crate) fn base_of(name: &str) -> Option<Offset> {
        let digits = name.strip_suffix(LOG_EXTENSION)?.strip_suffix('.')?;
        (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.path.with_extension(INDEX_EXTENSION)
    }

    /// Opens the file, or joins who has it open.
    pub(crate) fn open(&self, fs: &dyn FileSystem) -> io::Result<Arc<dyn File>> {
        let mut shared = self.file.lock();
        if let Some(file) = shared.upgrade() {
            return Ok(file);
        }
        let file = fs.open(&self.path)?;
        *shared = Arc::downgrade(&file);
        Ok(file)
    }

    /// Makes the file anew, empty.
    pub(crate) fn create(&self, fs: &dyn FileSystem) -> io::Result<Arc<dyn File>> {
        let mut shared = self.file.lock();
        let file = fs.create(&self.path)?;
        *shared = Arc::downgrade(&file);
        Ok(file)
    }

    /// Puts another file, empty, in place of the file. At no time is there none.
    pub(crate) fn replace(&self, fs: &dyn FileSystem) -> io::Result<Arc<dyn File>> {
        let temporary = self.path.with_extension(TEMPORARY_EXTENSION);
        let mut shared = self.file.lock();
        let file = fs.create(&temporary)?;
        fs.rename(&temporary, &self.path)?;
        *shared = Arc::downgrade(&file);
        Ok(file)
    }

    /// Keeps the index of a segment that has just been sealed. A failure is no harm: an index is rebuilt.
    pub(crate) fn seal(&self, fs: &dyn FileSystem, index: &Index) {
        let _ = self.summary.set(index.summary);
        let path = self.index_path();
        let written =
            fs.create(&path).and_then(|file| file.write_at(0, &mut [io::IoSlice::new(&index.encode())]));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "could not write an index, it will be rebuilt when needed");
        }
    }

    /// The summary of a segment that was sealed or indexed since the log was opened.
    pub(crate) fn known_summary(&self) -> Option<Summary> {
        self.summary.get().copied()
    }

    /// The summary of a sealed segment that ends before `end`.
    pub(crate) fn summary(&self, fs: &dyn FileSystem, end: Offset) -> Result<Summary, Fault> {
        if let Some(summary) = self.known_summary() {
            return Ok(summary);
        }
        let file = self.open(fs).map_err(|error| Fault::io("open", &self.path, &error))?;
        self.index(fs, &file, end).map(|index| index.summary)
    }

    /// The index of a sealed segment that ends before `end`: from its file, or from its frames.
    ///
    /// Behind damage the frames cannot be found without the file; the index then ends there.
    pub(crate) fn index(
        &self,
        fs: &dyn FileSystem,
        file: &Arc<dyn File>,
        end: Offset,
    ) -> Result<Index, Fault> {
        let len = file.len().map_err(|error| Fault::io("read", &self.path, &error))?;
        if let Some(index) =
            self.load_index(fs).filter(|index| index.summary.len == len && index.summary.end == end)
        {
            let _ = self.summary.set(index.summary);
            return Ok(index);
        }
        let (index, fault) = self.scan(file, len, |_| true)?;
        match fault {
            None => self.seal(fs, &index),
            Some(NoFrame::Bad(what)) => {
                let fault = Fault::corrupt(&self.path, index.summary.len, what);
                tracing::error!(detail = fault.detail, "a segment is damaged; what lies before is served");
            }
            Some(NoFrame::Newer(what)) => return Err(newer(&self.path, index.summary.len, &what)),
        }
        Ok(index)
    }

    fn load_index(&self, fs: &dyn FileSystem) -> Option<Index> {
        let file = fs.open(&self.index_path()).ok()?;
        let mut bytes = vec![0; file.len().ok()? as usize];
        let read = file.read_at(0, &mut bytes).ok()?;
        Index::decode(&bytes[..read])
    }

    /// Indexes the first `len` bytes, up to the first frame that is bad or that `accept` refuses, and says
    /// what ended it.
    pub(crate) fn scan(
        &self,
        file: &Arc<dyn File>,
        len: u64,
        accept: impl Fn(&FoundFrame) -> bool,
    ) -> Result<(Index, Option<NoFrame>), Fault> {
        let mut scanner = Scanner::new(file.clone(), 0, self.base);
        let mut index = Index::new(self.base);
        loop {
            match scanner.next(len, READ_LEN) {
                Ok(Some(frame)) if accept(&frame) => index.push(&frame.header),
                Ok(Some(_)) => return Ok((index, Some(NoFrame::Bad("the checksum of a frame is wrong")))),
                Ok(None) => return Ok((index, None)),
                Err(ScanError::NoFrame(why)) => return Ok((index, Some(why))),
                Err(ScanError::Io(error)) => return Err(Fault::io("read", &self.path, &error)),
            }
        }
    }
}

/// The fault of a place that a later version of this program wrote.
pub(crate) fn newer(path: &Path, position: u64, what: &str) -> Fault {
    Fault::new(
        ErrorKind::Corrupt,
        format!(
            "{} holds at byte {position} a frame of {what}; use the program that wrote it",
            path.display()
        ),
    )
}

/// A frame in a segment.
#[derive(Debug)]
pub(crate) struct FoundFrame {
    pub(crate) header: Header,
    /// Its first byte in the file.
    pub(crate) position: u64,
    bytes: Bytes,
}

impl FoundFrame {
    /// Whether the body is what was written.
    pub(crate) fn is_whole(&self) -> bool {
        crc32c::crc32c(&self.bytes[HEADER_LEN..]) == self.header.body_crc
    }

    pub(crate) fn records(&self) -> Records {
        Records::new(&self.header, &self.bytes)
    }
}

/// Why a scan stopped.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    NoFrame(NoFrame),
}

/// Goes through the frames of a segment, reading many at once.
///
/// Invariant: `chunk` holds the bytes of the file from `at` on, and the frame there, where there is one,
/// begins with offset `expected`.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    at: u64,
    expected: Offset,
    chunk: Bytes,
}

impl Scanner {
    /// Begins at byte `at`, where the frame of offset `expected` lies.
    pub(crate) fn new(file: Arc<dyn File>, at: u64, expected: Offset) -> Self {
        Self { file, at, expected, chunk: Bytes::new() }
    }

    pub(crate) fn file(&self) -> Arc<dyn File> {
        self.file.clone()
    }

    /// The byte where it stands.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The offset of the frame before which it stands.
    pub(crate) fn expected(&self) -> Offset {
        self.expected
    }

    /// The next frame before byte `end`, reading `read_len` bytes or the whole frame where it has to read.
    /// After an error it stays where it was.
    pub(crate) fn next(&mut self, end: u64, read_len: usize) -> Result<Option<FoundFrame>, ScanError> {
        if self.at >= end {
            return Ok(None);
        }
        if self.chunk.len() < HEADER_LEN_MAX && self.at + (self.chunk.len() as u64) < end {
            self.fill(end, read_len.max(HEADER_LEN_MAX)).map_err(ScanError::Io)?;
        }
        let header = Header::parse(&self.chunk).map_err(ScanError::NoFrame)?;
        if header.base != self.expected {
            return Err(ScanError::NoFrame(NoFrame::Bad("a frame of another place lies here")));
        }
        let frame_len = header.frame_len();
        if frame_len > end - self.at {
            return Err(ScanError::NoFrame(NoFrame::Bad("a frame is cut off")));
        }
        if (self.chunk.len() as u64) < frame_len {
            self.fill(end, read_len.max(frame_len as usize)).map_err(ScanError::Io)?;
        }
        if (self.chunk.len() as u64) < frame_len {
            return Err(ScanError::NoFrame(NoFrame::Bad("a frame is cut off")));
        }
        Ok(Some(self.pass(header)))
    }

    /// The next frame, where it is whole in memory already.
    pub(crate) fn next_in_memory(&mut self) -> Option<FoundFrame> {
        let header = Header::parse(&self.chunk).ok().filter(|header| header.base == self.expected)?;
        (header.frame_len() <= self.chunk.len() as u64).then(|| self.pass(header))
    }

    fn pass(&mut self, header: Header) -> FoundFrame {
        let bytes = self.chunk.split_to(header.frame_len() as usize);
        let frame = FoundFrame { header, position: self.at, bytes };
        self.at += header.frame_len();
        self.expected = header.end();
        frame
    }

    /// Reads on until `chunk` has `len` bytes or reaches `end`.
    fn fill(&mut self, end: u64, len: usize) -> io::Result<()> {
        let len = (len as u64).min(end - self.at) as usize;
        let have = self.chunk.len().min(len);
        let mut buffer = vec![0; len];
        buffer[..have].copy_from_slice(&self.chunk[..have]);
        let read = self.file.read_at(self.at + have as u64, &mut buffer[have..])?;
        buffer.truncate(have + read);
        self.chunk = Bytes::from(buffer);
        Ok(())
    }
}
