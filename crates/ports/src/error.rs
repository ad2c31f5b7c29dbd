//! The one error of all ports: what went wrong, whether trying again may help, and whether the
//! failed call may have had its effect.

use std::{fmt, time::Duration};

/// The source of a [`PortError`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a port call.
pub type Result<T, E = PortError> = std::result::Result<T, E>;

/// What went wrong. Exhaustive on purpose: a new kind must break the mappings of both fronts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What the call names does not exist.
    NotFound,
    /// What the call would make exists already.
    AlreadyExists,
    /// A compare-and-set met another version.
    Conflict,
    /// The caller no longer owns what it wants to change.
    Fenced,
    /// An offset before the log's start or beyond its end.
    OutOfRange,
    /// The backend refuses the request as it stands.
    Invalid,
    /// A record, batch or metadata is larger than the backend takes.
    TooLarge,
    /// The backend refuses these credentials.
    Denied,
    /// The backend, or the adapter's bounded queue before it, takes no more for now.
    Throttled,
    /// The backend cannot be reached or cannot serve.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// This backend cannot do that at all.
    Unsupported,
    /// Stored data does not read back as it was written.
    Corrupt,
    /// A defect, here or in the backend.
    Unexpected,
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call fails again.
    Permanent,
    /// The same call may succeed, not before `after` where the backend says so.
    Transient {
        /// How long the backend asks to wait.
        after: Option<Duration>,
    },
    /// It was transient, and the adapter has already tried again as often as makes sense.
    Exhausted,
}

/// Whether a failed call may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Certainly not applied.
    None,
    /// Perhaps applied: repeating it may do it twice.
    Unknown,
}

/// A failed port call. Small, as every record of a batch may carry one.
pub struct PortError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    effect: Effect,
    operation: &'static str,
    detail: String,
    source: Option<BoxError>,
}

impl PortError {
    /// An error that is permanent and had no effect, until said otherwise.
    ///
    /// `operation` names the port call, as `event_log.append`; `detail` is for a person and names
    /// what was wrong and what would be right.
    pub fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Timeout => {
                Retry::Transient { after: None }
            }
            _ => Retry::Permanent,
        };
        Self(Box::new(Inner {
            kind,
            retry,
            effect: Effect::None,
            operation,
            detail: detail.into(),
            source: None,
        }))
    }

    /// The same error, with whether trying again may help.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The same error, of a call that may have been applied.
    #[must_use]
    pub fn effect_unknown(mut self) -> Self {
        self.0.effect = Effect::Unknown;
        self
    }

    /// The same error, with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether the failed call may have been applied.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// The port call, as `event_log.append`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What was wrong, for a person.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Whether the call may simply be made again: it is transient and had no effect.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self.0.retry, Retry::Transient { .. }) && self.0.effect == Effect::None
    }

    /// The same error for another record of the same failed batch; the source stays with the first.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            retry: self.0.retry,
            effect: self.0.effect,
            operation: self.0.operation,
            detail: self.0.detail.clone(),
            source: None,
        }))
    }
}

impl fmt::Debug for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortError")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("effect", &self.0.effect)
            .field("operation", &self.0.operation)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.detail)
    }
}

impl std::error::Error for PortError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
