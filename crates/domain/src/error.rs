//! The one error of all use cases, with the one stable code that both fronts map.

use ports::{Effect, ErrorKind, NameError, PortError, Retry};
use std::{fmt, time::Duration};

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as clients see it. Exhaustive on purpose: a new code must break both fronts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request cannot be understood or breaks a rule.
    InvalidRequest,
    /// No credentials, or none that are known.
    Unauthenticated,
    /// The credentials do not allow it.
    Forbidden,
    /// No such topic, or no such partition.
    TopicNotFound,
    /// No such subscription.
    SubscriptionNotFound,
    /// No such consumer group.
    GroupNotFound,
    /// No such replay or other job.
    ReplayNotFound,
    /// No such dead letter.
    DeadLetterNotFound,
    /// Nothing of that name or at that place.
    NotFound,
    /// The place is there and does not take that method.
    MethodNotAllowed,
    /// What was to be made exists.
    AlreadyExists,
    /// An earlier item of the same key in the same batch was not appended.
    PredecessorFailed,
    /// Another request with the same idempotency key has not come to its end.
    IdempotencyInFlight,
    /// The idempotency key was used for another content.
    IdempotencyKeyReused,
    /// A value does not follow the schema that it should.
    SchemaRejected,
    /// The consumer group has members, who hold what was to be changed.
    GroupActive,
    /// The state of what is named does not allow it.
    Conflict,
    /// The body, or the batch, is larger than the service takes.
    RequestTooLarge,
    /// One event is larger than its topic takes.
    EventTooLarge,
    /// The content type is not one of those that are read.
    UnsupportedMediaType,
    /// A defect.
    Internal,
    /// Known, and not built, or not possible with this backend.
    NotSupported,
    /// A backend does not serve for now.
    Unavailable,
    /// The deadline passed.
    Timeout,
}

impl ErrorCode {
    /// Every code, for tests that walk them.
    pub const ALL: [Self; 24] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::TopicNotFound,
        Self::SubscriptionNotFound,
        Self::GroupNotFound,
        Self::ReplayNotFound,
        Self::DeadLetterNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::AlreadyExists,
        Self::PredecessorFailed,
        Self::IdempotencyInFlight,
        Self::IdempotencyKeyReused,
        Self::SchemaRejected,
        Self::GroupActive,
        Self::Conflict,
        Self::RequestTooLarge,
        Self::EventTooLarge,
        Self::UnsupportedMediaType,
        Self::Internal,
        Self::NotSupported,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TopicNotFound => "topic_not_found",
            Self::SubscriptionNotFound => "subscription_not_found",
            Self::GroupNotFound => "group_not_found",
            Self::ReplayNotFound => "replay_not_found",
            Self::DeadLetterNotFound => "dead_letter_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::AlreadyExists => "already_exists",
            Self::PredecessorFailed => "predecessor_failed",
            Self::IdempotencyInFlight => "idempotency_in_flight",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::SchemaRejected => "schema_rejected",
            Self::GroupActive => "group_active",
            Self::Conflict => "conflict",
            Self::RequestTooLarge => "request_too_large",
            Self::EventTooLarge => "event_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Internal => "internal",
            Self::NotSupported => "not_supported",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// A short name of the kind of problem, the same for every occurrence (RFC 9457 `title`).
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not valid",
            Self::Unauthenticated => "Credentials are needed",
            Self::Forbidden => "Not allowed",
            Self::TopicNotFound => "No such topic",
            Self::SubscriptionNotFound => "No such subscription",
            Self::GroupNotFound => "No such consumer group",
            Self::ReplayNotFound => "No such replay",
            Self::DeadLetterNotFound => "No such dead letter",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::AlreadyExists => "It exists already",
            Self::PredecessorFailed => "An earlier event of the same key failed",
            Self::IdempotencyInFlight => "A request with this idempotency key is still running",
            Self::IdempotencyKeyReused => "The idempotency key was used for another event",
            Self::SchemaRejected => "The value does not follow its schema",
            Self::GroupActive => "The consumer group has members",
            Self::Conflict => "Not possible in the present state",
            Self::RequestTooLarge => "The request is too large",
            Self::EventTooLarge => "The event is too large",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::Internal => "Internal error",
            Self::NotSupported => "Not supported",
            Self::Unavailable => "A backend is not available",
            Self::Timeout => "The deadline passed",
        }
    }
}

/// What was wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, as `events[3].key`.
    pub field: String,
    /// What was wrong, and what would be right.
    pub message: String,
}

/// A use case that failed. Small, as every item of a batch may carry one.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: ErrorCode,
    detail: String,
    fields: Vec<FieldError>,
    retry_after: Option<Duration>,
    effect: Option<Effect>,
}

impl Error {
    /// An error with a sentence for a person.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let (retry_after, effect) = match code {
            ErrorCode::Unavailable => (Some(Duration::from_secs(1)), Some(Effect::None)),
            ErrorCode::Timeout => (None, Some(Effect::Unknown)),
            _ => (None, None),
        };
        Self(Box::new(Inner { code, detail: detail.into(), fields: Vec::new(), retry_after, effect }))
    }

    /// An [`ErrorCode::InvalidRequest`] that names a field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        Self::new(ErrorCode::InvalidRequest, format!("`{field}` {message}")).with_field(field, message)
    }

    /// An [`ErrorCode::NotSupported`] for a field that is known and not built yet.
    pub fn not_built(field: impl Into<String>) -> Self {
        let field = field.into();
        Self::new(
            ErrorCode::NotSupported,
            format!("`{field}` is not supported by this version; leave it out"),
        )
        .with_field(field, "is not supported by this version")
    }

    /// The error for a topic that is not there.
    pub fn topic_not_found(topic: &ports::TopicName) -> Self {
        Self::new(
            ErrorCode::TopicNotFound,
            format!("topic `{topic}` does not exist; create it, or turn `topics.auto-create` on"),
        )
    }

    /// The same error, with what was wrong with one more field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.fields.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// The same error, with whether the failed call may have had its effect.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = Some(effect);
        self
    }

    /// The same error, with when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The same error as it reads from inside `prefix`, as `events[3]`: its fields are paths below it.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        for field in &mut self.0.fields {
            field.field = format!("{prefix}.{}", field.field);
        }
        self
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// A sentence about this occurrence.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The fields at fault.
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the failed call may have had its effect; said of [`ErrorCode::Unavailable`] and
    /// [`ErrorCode::Timeout`].
    pub fn effect(&self) -> Option<Effect> {
        self.0.effect
    }
}

impl From<PortError> for Error {
    fn from(error: PortError) -> Self {
        Self::from(&error)
    }
}

impl From<&PortError> for Error {
    fn from(error: &PortError) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => ErrorCode::NotFound,
            ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
            ErrorKind::Conflict | ErrorKind::Fenced => ErrorCode::Conflict,
            ErrorKind::OutOfRange | ErrorKind::Invalid => ErrorCode::InvalidRequest,
            ErrorKind::TooLarge => ErrorCode::EventTooLarge,
            ErrorKind::Denied => ErrorCode::Forbidden,
            ErrorKind::Throttled | ErrorKind::Unavailable => ErrorCode::Unavailable,
            ErrorKind::Timeout => ErrorCode::Timeout,
            ErrorKind::Unsupported => ErrorCode::NotSupported,
            ErrorKind::Corrupt | ErrorKind::Unexpected => ErrorCode::Internal,
        };
        let mut mapped = Self::new(code, error.detail());
        if matches!(code, ErrorCode::Unavailable | ErrorCode::Timeout) {
            mapped.0.effect = Some(error.effect());
            if let Retry::Transient { after: Some(after) } = error.retry() {
                mapped.0.retry_after = Some(after);
            }
        }
        mapped
    }
}

/// The beginning of what somebody gave, short enough to be shown.
pub(crate) fn short(given: &str) -> String {
    given.chars().take(80).collect()
}

/// A name that was refused, as the field that held it.
pub fn invalid_name(field: &str, name: &str, error: &NameError) -> Error {
    let shown = short(name);
    Error::invalid(field, format!("{error} (given: {shown:?})"))
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("detail", &self.0.detail)
            .field("fields", &self.0.fields)
            .field("effect", &self.0.effect)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl std::error::Error for Error {}
