//! A file that counts its syncs and fails when told to.

use super::super::{Tables, store::Store};
use redb::{Database, StorageBackend, backends::FileBackend};
use std::{
    fs::OpenOptions,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// What a test sees of the file and does to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) syncs: Arc<AtomicUsize>,
    pub(crate) full: Arc<AtomicBool>,
}

impl Disk {
    /// Tables on this file.
    pub(crate) fn open(&self, data_dir: &Path) -> Tables {
        let disk = self.clone();
        let open = move |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let file = Observed { inner: FileBackend::new(file)?, disk: disk.clone() };
            Database::builder().create_with_backend(file)
        };
        Tables::start(Store::open_by(data_dir, Box::new(open)).unwrap()).unwrap()
    }
}

#[derive(Debug)]
struct Observed {
    inner: FileBackend,
    disk: Disk,
}

impl Observed {
    fn check(&self) -> io::Result<()> {
        if self.disk.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Observed {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
