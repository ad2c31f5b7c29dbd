//! One process a data directory.

use ports::{ErrorKind, PortError, Result, Retry};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

const OPERATION: &str = "disk.lock";

/// The right to use a data directory, held until the last clone of its `Arc` is dropped, or the process
/// ends in whatever way.
///
/// The lock is the operating system's (`flock`) on the file `LOCK`; the file also names the process that
/// holds it, for people.
#[derive(Debug)]
pub struct DirLock {
    data_dir: PathBuf,
    _file: File,
}

impl DirLock {
    /// Takes the lock on `data_dir`, which is made where it does not exist.
    ///
    /// # Errors
    /// `Unavailable` and permanent while another process (or another holder in this one) has the lock,
    /// naming the directory and the process; `Unavailable` where the directory cannot be made or written.
    pub fn acquire(data_dir: impl Into<PathBuf>) -> Result<Arc<Self>> {
        let data_dir = data_dir.into();
        make_durably(&data_dir).map_err(|error| failed(&data_dir, "make", error))?;
        let path = data_dir.join("LOCK");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed(&path, "open", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; that it is held is the error.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("another process (process {pid})"),
                };
                return Err(PortError::new(
                    ErrorKind::Unavailable,
                    OPERATION,
                    format!(
                        "the data directory {} is in use by {holder}; stop that process or name another directory",
                        data_dir.display()
                    ),
                )
                .with_retry(Retry::Permanent));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, "lock", error)),
        }
        let named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        // A full disk must not keep the service from starting, to serve what it has.
        if let Err(error) = named {
            tracing::warn!(path = %path.display(), %error, "could not write the process id into the lock file");
        }
        Ok(Arc::new(Self { data_dir, _file: file }))
    }

    /// The directory that is locked.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// Makes `dir` and what is missing above it, so that it is still there after a loss of power.
fn make_durably(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_durably(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    File::open(parent)?.sync_all()
}

fn failed(path: &Path, doing: &str, error: std::io::Error) -> PortError {
    PortError::new(
        ErrorKind::Unavailable,
        OPERATION,
        format!("could not {doing} {}: {error}", path.display()),
    )
    .with_retry(Retry::Permanent)
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_the_directory_and_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let first = DirLock::acquire(&data_dir).unwrap();
        let error = DirLock::acquire(&data_dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.retry(), Retry::Permanent);
        assert!(error.detail().contains(&data_dir.display().to_string()), "{error}");
        assert!(error.detail().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DirLock::acquire(&data_dir).unwrap();
    }
}
