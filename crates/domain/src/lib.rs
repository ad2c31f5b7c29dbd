//! What the event streaming service does: publish, browse, deliver, and the topics and subscriptions
//! they need. Pure use cases that talk to backends through port traits alone.
//!
//! This crate must never name a backend, HTTP or gRPC, read the wall clock (time comes from
//! [`ports::Clock`]) or the environment.

pub mod breaker;
pub mod browse;
pub mod dead_letter;
pub mod dead_letters;
pub mod delivery;
mod digits;
pub mod error;
pub mod event;
pub mod event_schemas;
pub mod filter;
pub mod groups;
pub mod handler;
pub mod jobs;
pub mod lag;
pub mod limits;
pub mod partition;
pub mod publish;
pub mod push;
pub mod retry_topic;
pub mod schemas;
pub mod subscriptions;
pub mod topics;

pub use error::{Error, ErrorCode, FieldError, Result};
pub use event::Event;
pub use limits::Limits;
