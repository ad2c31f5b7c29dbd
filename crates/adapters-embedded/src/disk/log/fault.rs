//! What goes wrong inside the log, before a port call gives it its name.

use ports::{Effect, ErrorKind, PortError};
use std::{io, path::Path};

/// A failure that several callers may share: the records of one group commit fail together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) effect: Effect,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, effect: Effect::None, detail: detail.into() }
    }

    /// Stored bytes are not what was written.
    pub(crate) fn corrupt(path: &Path, position: u64, what: &str) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{} is damaged at byte {position}: {what}", path.display()))
    }

    /// The file system refused to do something with `path`.
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free room on that file system",
            _ => "",
        };
        Self::new(ErrorKind::Unavailable, format!("could not {doing} {}: {error}{hint}", path.display()))
    }

    pub(crate) fn effect_unknown(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// The error of the port call `operation`.
    pub(crate) fn of(&self, operation: &'static str) -> PortError {
        let error = PortError::new(self.kind, operation, self.detail.clone());
        match self.effect {
            Effect::None => error,
            Effect::Unknown => error.effect_unknown(),
        }
    }
}
