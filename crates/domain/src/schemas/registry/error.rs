//! What a registry refuses, by Confluent's reasons.

use crate::error::{Error, ErrorCode};
use crate::schemas::SchemaProblem;
use ports::{Effect, ErrorKind, PortError, RegistryError, RegistryRefusal, Retry};
use std::{fmt, time::Duration};

/// The result of a call to the registry.
pub type Result<T, E = SchemaError> = std::result::Result<T, E>;

/// Why the registry refuses. Exhaustive on purpose: a new reason must be given a code by each front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is no such subject.
    SubjectNotFound,
    /// The subject has no such version.
    VersionNotFound,
    /// There is no such schema.
    SchemaNotFound,
    /// The subject was deleted softly already.
    SubjectSoftDeleted,
    /// The subject must be deleted softly before it can be for good.
    SubjectNotSoftDeleted,
    /// The version was deleted softly already.
    VersionSoftDeleted,
    /// The version must be deleted softly before it can be for good.
    VersionNotSoftDeleted,
    /// The subject has no compatibility level of its own.
    ConfigNotSet,
    /// The subject has no mode of its own.
    ModeNotSet,
    /// The schema may not follow those before it.
    Incompatible,
    /// The schema, or what it refers to, cannot be read.
    InvalidSchema,
    /// A version is none.
    InvalidVersion,
    /// A compatibility level is none.
    InvalidLevel,
    /// A mode is none.
    InvalidMode,
    /// The mode, or what is there, does not allow it.
    NotPermitted,
    /// Other schemas refer to it.
    ReferenceExists,
    /// The schema is there under another id.
    IdMismatch,
    /// The name of a subject is none.
    InvalidSubject,
    /// The schema is larger than is kept.
    TooLarge,
    /// Rules that go with a schema cannot be read.
    InvalidRuleSet,
    /// Something else of the request is wrong.
    InvalidRequest,
    /// It is not done here: the schemas are in a registry outside.
    NotSupported,
    /// The store does not serve.
    Store,
    /// The store did not answer in time.
    Timeout,
    /// What is stored does not read back, or another defect.
    Internal,
}

/// A call to the registry that was refused or failed.
#[derive(Clone, PartialEq, Eq)]
pub struct SchemaError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    reason: Reason,
    message: String,
    retry_after: Option<Duration>,
    effect: Option<Effect>,
    /// The code of a registry outside that refused.
    code: Option<u32>,
    /// Whether a change came too late for the revision that it was decided on.
    lost: bool,
}

impl SchemaError {
    /// A refusal with a sentence for a person.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            retry_after: None,
            effect: None,
            code: None,
            lost: false,
        }))
    }

    pub(super) fn subject_not_found(subject: impl fmt::Display) -> Self {
        Self::new(Reason::SubjectNotFound, format!("Subject '{subject}' not found."))
    }

    pub(super) fn version_not_found(version: impl fmt::Display) -> Self {
        Self::new(Reason::VersionNotFound, format!("Version {version} not found."))
    }

    pub(super) fn schema_not_found(what: impl fmt::Display) -> Self {
        Self::new(Reason::SchemaNotFound, format!("Schema {what} not found"))
    }

    pub(super) fn not_permitted(message: impl Into<String>) -> Self {
        Self::new(Reason::NotPermitted, message)
    }

    /// Whether another change was faster, so that this one is to be decided anew.
    pub(super) fn is_lost(&self) -> bool {
        self.0.lost
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// A sentence about this occurrence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// When to try again, where that may help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The code with which a registry outside refused; its first three digits are an HTTP status.
    pub fn outside_code(&self) -> Option<u32> {
        self.0.code
    }

    /// Whether the failed call may have had its effect; said where the store did not serve.
    pub fn effect(&self) -> Option<Effect> {
        self.0.effect
    }
}

impl From<PortError> for SchemaError {
    fn from(error: PortError) -> Self {
        Self::of_port(&error, "the store of schemas")
    }
}

impl SchemaError {
    /// A failure of what `who` names.
    fn of_port(error: &PortError, who: &str) -> Self {
        let reason = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Denied | ErrorKind::Conflict => {
                Reason::Store
            }
            ErrorKind::Timeout => Reason::Timeout,
            ErrorKind::TooLarge => Reason::TooLarge,
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Fenced
            | ErrorKind::OutOfRange
            | ErrorKind::Invalid
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt
            | ErrorKind::Unexpected => Reason::Internal,
        };
        let message = match reason {
            Reason::TooLarge => error.detail().to_owned(),
            _ => format!("{who}: {}", error.detail()),
        };
        let mut mapped = Self::new(reason, message);
        mapped.0.lost = error.kind() == ErrorKind::Conflict;
        if let (Reason::Store | Reason::Timeout, Retry::Transient { after }) = (reason, error.retry()) {
            mapped.0.retry_after = Some(after.unwrap_or(Duration::from_secs(1)));
        }
        if matches!(reason, Reason::Store | Reason::Timeout) {
            mapped.0.effect = Some(error.effect());
        }
        mapped
    }
}

impl From<RegistryError> for SchemaError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Failed(error) => Self::of_port(&error, "the schema registry"),
            RegistryError::Refused(refusal) => {
                let mut mapped = Self::new(of_refusal(&refusal), refusal.message);
                mapped.0.code = Some(refusal.code);
                mapped
            }
        }
    }
}

/// The reason of another registry's code.
fn of_refusal(refusal: &RegistryRefusal) -> Reason {
    match refusal.code {
        40401 => Reason::SubjectNotFound,
        40402 => Reason::VersionNotFound,
        40404 => Reason::SubjectSoftDeleted,
        40405 => Reason::SubjectNotSoftDeleted,
        40406 => Reason::VersionSoftDeleted,
        40407 => Reason::VersionNotSoftDeleted,
        40408 => Reason::ConfigNotSet,
        40409 => Reason::ModeNotSet,
        42201 => Reason::InvalidSchema,
        42202 => Reason::InvalidVersion,
        42203 => Reason::InvalidLevel,
        42204 => Reason::InvalidMode,
        42205 => Reason::NotPermitted,
        42206 => Reason::ReferenceExists,
        42207 => Reason::IdMismatch,
        42208 => Reason::InvalidSubject,
        42209 => Reason::TooLarge,
        42210 => Reason::InvalidRuleSet,
        _ => match refusal.status() {
            // It is the service that may not, which whoever asked cannot mend.
            401 | 403 => Reason::Store,
            404 => Reason::SchemaNotFound,
            409 => Reason::Incompatible,
            413 => Reason::TooLarge,
            _ => Reason::InvalidRequest,
        },
    }
}

impl From<SchemaProblem> for SchemaError {
    fn from(problem: SchemaProblem) -> Self {
        Self::new(Reason::InvalidSchema, problem.to_string())
    }
}

impl From<SchemaError> for Error {
    fn from(error: SchemaError) -> Self {
        let code = match error.reason() {
            Reason::SubjectNotFound
            | Reason::VersionNotFound
            | Reason::SchemaNotFound
            | Reason::SubjectSoftDeleted
            | Reason::VersionSoftDeleted
            | Reason::ConfigNotSet
            | Reason::ModeNotSet => ErrorCode::NotFound,
            Reason::SubjectNotSoftDeleted
            | Reason::VersionNotSoftDeleted
            | Reason::Incompatible
            | Reason::NotPermitted
            | Reason::ReferenceExists
            | Reason::IdMismatch => ErrorCode::Conflict,
            Reason::InvalidSchema
            | Reason::InvalidVersion
            | Reason::InvalidLevel
            | Reason::InvalidMode
            | Reason::InvalidSubject
            | Reason::InvalidRuleSet
            | Reason::InvalidRequest => ErrorCode::InvalidRequest,
            Reason::TooLarge => ErrorCode::RequestTooLarge,
            Reason::NotSupported => ErrorCode::NotSupported,
            Reason::Store => ErrorCode::Unavailable,
            Reason::Timeout => ErrorCode::Timeout,
            Reason::Internal => ErrorCode::Internal,
        };
        let mut mapped = Self::new(code, error.message());
        if let Some(effect) = error.effect() {
            mapped = mapped.with_effect(effect);
        }
        if let Some(after) = error.retry_after() {
            mapped = mapped.with_retry_after(after);
        }
        mapped
    }
}

impl fmt::Debug for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaError")
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("effect", &self.0.effect)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for SchemaError {}
