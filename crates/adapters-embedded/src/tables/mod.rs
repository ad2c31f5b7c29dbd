//! The durable tables beside the log: documents, positions, claims and schemas, in one redb database.
//!
//! Writes go to one thread ([`writer`]), which makes one transaction, and so one sync, of all that wait;
//! nobody's runtime waits for a disk. Reads see the last transaction that was committed. [`schema`] says what
//! lies in the file.

mod claims;
mod fault;
mod groups;
mod jobs;
mod offsets;
mod schema;
mod schemas;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use claims::TableClaims;
pub use offsets::TableOffsets;

use crate::{disk::DirLock, group::Groups};
use ports::Result;
use std::{fmt, path::Path, sync::Arc};
use store::Store;
use writer::Writer;

/// The name of the database in the data directory.
pub const FILE_NAME: &str = "state.redb";

/// The tables of one data directory; `JobStore` and `SchemaStore` of the embedded backend. Clones are handles on the same.
///
/// When the last one is dropped, what was handed over is written and the file is free for the next. Its port
/// calls need a Tokio runtime.
#[derive(Clone)]
pub struct Tables(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    writer: Writer,
}

impl Tables {
    /// Opens [`FILE_NAME`] in `data_dir`, which must exist; makes it where it does not exist. Blocks while it
    /// reads, and while it repairs what a crash left, which takes as long as the file is large: documents
    /// and positions are small, a million claims take about a tenth of a second where the file is in the
    /// system's page cache.
    ///
    /// # Errors
    /// `Conflict` where another process has it open; `Corrupt` where it cannot be read, or was written by a
    /// newer version; `Unavailable`.
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Self> {
        Self::start(Store::open(data_dir.as_ref())?)
    }

    /// As [`Self::open`], in the directory of a lock, which is held until the last handle is gone and the file is closed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_locked(lock: Arc<DirLock>) -> Result<Self> {
        Self::start(Store::open(lock.data_dir())?.holding(lock))
    }

    fn start(store: Store) -> Result<Self> {
        let store = Arc::new(store);
        let writer = Writer::start(store.clone())?;
        Ok(Self(Arc::new(Inner { store, writer })))
    }

    /// The positions of these groups; `OffsetStore` and `GroupAdmin` of the embedded backend.
    pub fn offsets(&self, groups: Groups) -> TableOffsets {
        TableOffsets::new(self.clone(), groups)
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("path", &self.0.store.path()).finish_non_exhaustive()
    }
}
