//! The database itself: opened, and opened anew after an I/O error, which it does not work after.

use super::{
    FILE_NAME, fault,
    schema::{FORMAT, META, META_FORMAT, SCHEMA_SETTINGS, make_tables},
};
use crate::disk::DirLock;
use parking_lot::RwLock;
use ports::{ErrorKind, PortError, Result};
use redb::{Database, DatabaseError, Error, ReadTransaction, ReadableDatabase, TableError};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Pages that are kept in memory. Documents and positions fit; claims, of which there may be millions, are
/// read through the system's page cache. redb's own default is a gibibyte.
const CACHE_BYTES: usize = 8 << 20;

type Open = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

/// A database that can be opened anew.
pub(super) struct Store {
    path: PathBuf,
    open: Open,
    /// `None` between an I/O error and the next time that it could be opened.
    database: RwLock<Option<Arc<Database>>>,
    /// Given back last: whoever waits for the directory finds the database closed.
    _lock: Option<Arc<DirLock>>,
}

impl Store {
    /// Opens or makes the database in `data_dir`.
    pub(super) fn open(data_dir: &Path) -> Result<Self> {
        let open = |path: &Path| Database::builder().set_cache_size(CACHE_BYTES).create(path);
        let store = Self::open_by(data_dir, Box::new(open))?;
        // The file's name must survive a crash as its content does.
        let synced = File::open(data_dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| fault::port_error("tables.open", Error::Io(error)))?;
        Ok(store)
    }

    /// Holds on to the directory for as long as the database is open.
    pub(super) fn holding(self, lock: Arc<DirLock>) -> Self {
        Self { _lock: Some(lock), ..self }
    }

    /// Opens it in a way of the caller's.
    pub(super) fn open_by(data_dir: &Path, open: Open) -> Result<Self> {
        let path = data_dir.join(FILE_NAME);
        let database = open(&path).map_err(fault::open_error)?;
        prepare(&database)?;
        Ok(Self { path, open, database: RwLock::new(Some(Arc::new(database))), _lock: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database to read from.
    pub(super) fn read(&self, operation: &'static str) -> Result<ReadTransaction> {
        let database = self.database.read().clone();
        let closed =
            || PortError::new(ErrorKind::Unavailable, operation, "state database: it had an I/O error");
        database.ok_or_else(closed)?.begin_read().map_err(|error| fault::port_error(operation, error))
    }

    /// The database to write to, opened anew where it has to be. For the writer alone.
    pub(super) fn writable(&self) -> Result<Arc<Database>, Error> {
        if let Some(database) = &*self.database.read() {
            return Ok(database.clone());
        }
        let database = Arc::new((self.open)(&self.path)?);
        *self.database.write() = Some(database.clone());
        tracing::info!(path = %self.path.display(), "opened the state database anew");
        Ok(database)
    }

    /// Closes it after an error that it does not work after.
    pub(super) fn failed(&self, error: &Error) {
        tracing::error!(path = %self.path.display(), %error, "the state database failed");
        if fault::needs_reopening(error) {
            *self.database.write() = None;
        }
    }
}

/// Checks the layout, or makes it.
fn prepare(database: &Database) -> Result<()> {
    const OPERATION: &str = "tables.open";
    let of = |error: Error| fault::port_error(OPERATION, error);
    match format(database).map_err(of)? {
        Some((FORMAT, true)) => Ok(()),
        None | Some((FORMAT, false)) => {
            let make = || -> Result<(), Error> {
                let transaction = database.begin_write()?;
                transaction.open_table(META)?.insert(META_FORMAT, FORMAT)?;
                make_tables(&transaction)?;
                Ok(transaction.commit()?)
            };
            make().map_err(of)
        }
        Some((format, _)) => {
            let detail = format!("state database: its format is {format}, this version knows {FORMAT}");
            Err(PortError::new(ErrorKind::Corrupt, OPERATION, detail))
        }
    }
}

/// The format of what is there, and whether all tables are; `None` of a new file.
fn format(database: &Database) -> Result<Option<(u64, bool)>, Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The last that is made.
    let complete = match transaction.open_table(SCHEMA_SETTINGS) {
        Ok(_) => true,
        Err(TableError::TableDoesNotExist(_)) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(meta.get(META_FORMAT)?.map(|format| (format.value(), complete)))
}
