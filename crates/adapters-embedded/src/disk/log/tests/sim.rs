//! A file system in memory that forgets what was not synced.
//!
//! What is written is seen at once, and is durable when the file or directory is synced. Losing power
//! keeps any subset of what was not, and tears writes into sectors. A sync that fails makes some of it
//! durable, forgets the rest, and goes on to show all of it, as operating systems do.

use super::super::file::{DirEntry, File, FileSystem};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, IoSlice},
    path::{Component, Path},
    sync::Arc,
};

const SECTOR: usize = 512;
const ROOT: usize = 0;

/// A handle on the file system. What it was before a loss of power stays as it was, switched off.
#[derive(Clone, Debug)]
pub(super) struct SimFs(Arc<Mutex<State>>);

#[derive(Clone, Debug)]
struct State {
    nodes: Vec<Node>,
    /// Calls that change something until the power goes.
    calls_left: Option<u32>,
    off: bool,
    /// All bytes that files may take together.
    capacity: usize,
    failing_syncs: u32,
    failing_truncates: u32,
    /// For what is left to chance.
    seed: u64,
}

#[derive(Clone, Debug)]
enum Node {
    Dir(Dir),
    File(Content),
}

#[derive(Clone, Debug, Default)]
struct Dir {
    durable: BTreeMap<String, usize>,
    seen: BTreeMap<String, usize>,
    pending: Vec<DirChange>,
}

#[derive(Clone, Debug)]
enum DirChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<FileChange>,
}

#[derive(Clone, Debug)]
enum FileChange {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// What of that which was not synced a loss of power keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    Anything,
}

impl DirChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl FileChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                let end = at + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(data);
            }
            Self::Truncate(len) => bytes.resize(*len, 0),
        }
    }

    /// All of the change, nothing of it, or some sectors.
    fn apply_some(&self, bytes: &mut Vec<u8>, rng: &mut StdRng) {
        match rng.random_range(0..3) {
            0 => {}
            1 => self.apply(bytes),
            _ => self.apply_torn(bytes, rng),
        }
    }

    fn apply_torn(&self, bytes: &mut Vec<u8>, rng: &mut StdRng) {
        let Self::Write(at, data) = self else { return self.apply(bytes) };
        let mut start = 0;
        while start < data.len() {
            let end = data.len().min((at + start) / SECTOR * SECTOR + SECTOR - at);
            if rng.random_bool(0.5) {
                Self::Write(at + start, data[start..end].to_vec()).apply(bytes);
            }
            start = end;
        }
    }
}

impl SimFs {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: vec![Node::Dir(Dir::default())],
            calls_left: None,
            off: false,
            capacity: usize::MAX,
            failing_syncs: 0,
            failing_truncates: 0,
            seed,
        })))
    }

    /// The power goes after so many more calls that change something.
    pub(super) fn cut_power_after(&self, calls: u32) {
        self.0.lock().calls_left = Some(calls);
    }

    /// Switches this one off and gives what is found when the power is back.
    pub(super) fn lose_power(&self, keep: Keep) -> Self {
        let mut state = self.0.lock();
        state.off = true;
        let mut after = state.clone();
        drop(state);
        let rng = &mut after.rng();
        for node in &mut after.nodes {
            match node {
                Node::Dir(dir) => {
                    for change in std::mem::take(&mut dir.pending) {
                        if keep == Keep::Anything && rng.random_bool(0.5) {
                            change.apply(&mut dir.durable);
                        }
                    }
                    dir.seen = dir.durable.clone();
                }
                Node::File(file) => {
                    for change in std::mem::take(&mut file.pending) {
                        if keep == Keep::Anything {
                            change.apply_some(&mut file.durable, rng);
                        }
                    }
                    file.seen = file.durable.clone();
                }
            }
        }
        after.restart();
        Self(Arc::new(Mutex::new(after)))
    }

    /// Switches this one off for the process that uses it, as `kill -9` does, and gives what the next
    /// process finds: all that was written, of which what was not synced still may be lost.
    pub(super) fn kill(&self) -> Self {
        let mut state = self.0.lock();
        state.off = true;
        let mut after = state.clone();
        after.restart();
        Self(Arc::new(Mutex::new(after)))
    }

    /// All files together may take only so many bytes more.
    pub(super) fn leave_room(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.capacity = state.used() + bytes;
    }

    pub(super) fn unlimited_room(&self) {
        self.0.lock().capacity = usize::MAX;
    }

    pub(super) fn fail_syncs(&self, count: u32) {
        self.0.lock().failing_syncs = count;
    }

    pub(super) fn fail_truncates(&self, count: u32) {
        self.0.lock().failing_truncates = count;
    }
}

impl State {
    fn restart(&mut self) {
        (self.calls_left, self.off, self.capacity) = (None, false, usize::MAX);
        (self.failing_syncs, self.failing_truncates) = (0, 0);
    }

    fn used(&self) -> usize {
        let len = |node: &Node| if let Node::File(file) = node { file.seen.len() } else { 0 };
        self.nodes.iter().map(len).sum()
    }

    fn rng(&mut self) -> StdRng {
        let mut rng = StdRng::seed_from_u64(self.seed);
        self.seed = rng.random();
        rng
    }

    /// Whether this sync is one of those that fail.
    fn sync_fails(&mut self) -> bool {
        let fails = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        fails
    }

    fn alive(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Before each call that changes something.
    fn change(&mut self) -> io::Result<()> {
        self.alive()?;
        match &mut self.calls_left {
            Some(0) => self.off = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.alive()
    }

    fn dir(&mut self, node: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[node] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().unwrap();
            node = *self.dir(node)?.seen.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn parent(&mut self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok((self.find(path.parent().unwrap())?, name))
    }

    fn change_dir(&mut self, node: usize, change: DirChange) -> io::Result<()> {
        let dir = self.dir(node)?;
        change.apply(&mut dir.seen);
        dir.pending.push(change);
        Ok(())
    }

    fn file(&mut self, node: usize) -> &mut Content {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("a directory is no file"),
        }
    }

    fn change_file(&mut self, node: usize, change: FileChange) {
        let file = self.file(node);
        change.apply(&mut file.seen);
        file.pending.push(change);
    }
}

impl FileSystem for SimFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        state.alive()?;
        let node = state.find(path)?;
        Ok(Arc::new(SimFile { fs: self.clone(), node }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        state.change()?;
        let node = match state.find(path) {
            Ok(node) => {
                state.change_file(node, FileChange::Truncate(0));
                node
            }
            Err(_) => {
                let (parent, name) = state.parent(path)?;
                state.nodes.push(Node::File(Content::default()));
                let node = state.nodes.len() - 1;
                state.change_dir(parent, DirChange::Link(name, node))?;
                node
            }
        };
        Ok(Arc::new(SimFile { fs: self.clone(), node }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        if state.find(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = state.parent(path)?;
        state.nodes.push(Node::Dir(Dir::default()));
        let node = state.nodes.len() - 1;
        state.change_dir(parent, DirChange::Link(name, node))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.0.lock();
        state.alive()?;
        let node = state.find(dir)?;
        let names = state.dir(node)?.seen.clone();
        let entry = |(name, node): (String, usize)| match &state.nodes[node] {
            Node::Dir(_) => DirEntry { name, is_dir: true, len: 0 },
            Node::File(file) => DirEntry { name, is_dir: false, len: file.seen.len() as u64 },
        };
        Ok(names.into_iter().map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        state.find(from)?;
        let ((from_dir, from), (to_dir, to)) = (state.parent(from)?, state.parent(to)?);
        assert_eq!(from_dir, to_dir, "renames stay in a directory");
        state.change_dir(from_dir, DirChange::Rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        state.find(path)?;
        let (parent, name) = state.parent(path)?;
        state.change_dir(parent, DirChange::Unlink(name))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        let node = state.find(path)?;
        if !state.dir(node)?.seen.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (parent, name) = state.parent(path)?;
        state.change_dir(parent, DirChange::Unlink(name))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        let fails = state.sync_fails();
        let node = state.find(path)?;
        let mut rng = state.rng();
        let dir = state.dir(node)?;
        if fails {
            // Unlike the bytes of a file, names that a sync did not write are written by the next one.
            for change in &dir.pending {
                if rng.random_bool(0.5) {
                    change.apply(&mut dir.durable);
                }
            }
            return Err(io::Error::other("the device failed"));
        }
        for change in std::mem::take(&mut dir.pending) {
            change.apply(&mut dir.durable);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    node: usize,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.fs.0.lock();
        state.alive()?;
        Ok(state.file(self.node).seen.len() as u64)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.fs.0.lock();
        state.alive()?;
        let rest = state.file(self.node).seen.get(at as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.fs.0.lock();
        state.alive()?;
        let (at, mut data) = (at as usize, Vec::new());
        slices.iter().for_each(|slice| data.extend_from_slice(slice));
        // The write during which the power goes is written in part.
        let changed = state.change();
        let room = state.capacity.saturating_sub(state.used());
        let grows = (at + data.len()).saturating_sub(state.file(self.node).seen.len());
        let full = grows > room;
        if full {
            data.truncate(data.len() - (grows - room).min(data.len()));
        }
        state.change_file(self.node, FileChange::Write(at, data));
        changed?;
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.fs.0.lock();
        state.change()?;
        let fails = state.sync_fails();
        let rng = &mut state.rng();
        let file = state.file(self.node);
        let pending = std::mem::take(&mut file.pending);
        if fails {
            for change in pending {
                change.apply_some(&mut file.durable, rng);
            }
            return Err(io::Error::other("the device failed"));
        }
        for change in pending {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.0.lock();
        state.change()?;
        if state.failing_truncates > 0 {
            state.failing_truncates -= 1;
            return Err(io::Error::other("the device failed"));
        }
        state.change_file(self.node, FileChange::Truncate(len as usize));
        Ok(())
    }
}
