//! Schemas in the way of an event: what a topic's values follow, values encoded and framed on their way in, and read
//! on their way out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`settings`] | which subject the values of a topic follow, and how strictly |
//! | `topics` | the operator's use cases for topics, with those settings |
//! | `media` | what a content type says of a value |
//! | `writing` | JSON and bytes become framed values; framed ones are checked |
//! | [`reading`] | framed values become JSON |
//! | `guessing` | what reading can do without, and does not wait for |
//! | [`metadata`] | what a message says of its own event |
//!
//! Invariants:
//! 1. A topic without settings asks nothing of the registry, unless a value says by itself that it is framed: the
//!    registry's failures are no matter of that topic's publishers. Nor of its consumers, who wait a moment at most
//!    for values that look like framed ones.
//! 2. A value that was accepted for a topic whose schema is required can be read by the schema that its frame names.
//! 3. Nothing is remembered of a schema that is not there for longer than a second, so that one that comes later is
//!    found; what is there is remembered, and asked for once a batch at most.
//! 4. Reading changes no record. What cannot be read keeps its bytes.

mod guessing;
mod media;
pub mod metadata;
pub mod reading;
pub mod settings;
mod topics;
mod writing;

pub(crate) use media::says_framed;
pub use metadata::{Metadata, MetadataFields};
pub use reading::{Decoded, SchemaName, ShownValue};
pub use settings::{NewTopicSchema, TopicSchema, TopicSchemaChange};
pub use topics::TopicWithSchema;
pub(crate) use writing::{Writer, Written};

use crate::{
    error::{Error, ErrorCode},
    schemas::registry::{Reason, Registry, SchemaError},
    topics::Topics,
};
use guessing::Guessing;
use ports::{Clock, JobStore};
use reading::Known;
use settings::Settings;
use std::{fmt, sync::Arc, time::Duration};

/// Schemas in the way of events. Shared by all who publish and read.
pub struct EventSchemas {
    registry: Arc<Registry>,
    topics: Arc<Topics>,
    jobs: Arc<dyn JobStore>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    known: Known,
    guessing: Guessing,
    /// Where messages say what they are; `None` where nobody looks.
    metadata: Option<MetadataFields>,
}

impl EventSchemas {
    /// Schemas of `registry`, for `topics`, whose settings `jobs` keeps; messages say what they are where
    /// [`MetadataFields`] has it. Knows no settings before [`Self::start`].
    pub fn new(
        registry: Arc<Registry>,
        topics: Arc<Topics>,
        jobs: Arc<dyn JobStore>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Self::with_metadata(registry, topics, jobs, clock, Some(MetadataFields::default()))
    }

    /// As [`Self::new`], where messages say by these fields what they are; with `None` they say nothing.
    pub fn with_metadata(
        registry: Arc<Registry>,
        topics: Arc<Topics>,
        jobs: Arc<dyn JobStore>,
        clock: Arc<dyn Clock>,
        metadata: Option<MetadataFields>,
    ) -> Arc<Self> {
        let (settings, known, guessing) = (Settings::default(), Known::default(), Guessing::default());
        Arc::new(Self { registry, topics, jobs, clock, settings, known, guessing, metadata })
    }
}

impl fmt::Debug for EventSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSchemas").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A failure of the registry while a value waits for a schema: nothing has had an effect.
fn away(error: &SchemaError) -> Error {
    let refused_outside = error.outside_code().is_some();
    match error.reason() {
        Reason::SubjectNotFound | Reason::VersionNotFound | Reason::SchemaNotFound => error.clone().into(),
        _ if refused_outside || matches!(error.reason(), Reason::Store | Reason::Timeout) => {
            let detail = format!("the schema of the value cannot be looked up: {error}");
            let after = error.retry_after().unwrap_or(Duration::from_secs(1));
            Error::new(ErrorCode::Unavailable, detail).with_retry_after(after)
        }
        _ => error.clone().into(),
    }
}

/// A value that does not follow its schema.
fn rejected(field: impl Into<String>, message: impl Into<String>) -> Error {
    let (field, message) = (field.into(), message.into());
    Error::new(ErrorCode::SchemaRejected, format!("`{field}` {message}")).with_field(field, message)
}
