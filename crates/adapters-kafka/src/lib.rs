//! The event streaming ports on Apache Kafka, by librdkafka.
//!
//! [`Kafka::open`] gives the four ports: the log ([`ports::EventLog`]), topics ([`ports::TopicAdmin`]),
//! membership ([`ports::GroupMembership`]) and positions ([`ports::OffsetStore`]).
//!
//! | feature | what it pulls |
//! | --- | --- |
//! | `rdkafka` (default) | librdkafka, built from source, with the system's OpenSSL |
//! | `static` | the same with OpenSSL built in |
//!
//! Without `rdkafka` the crate still compiles, and [`Kafka::open`] says that it was not built in.
//!
//! This crate must never hold group logic that belongs to the domain, and never name a domain type.

mod config;
#[cfg(feature = "rdkafka")]
mod rdkafka;
#[cfg(not(feature = "rdkafka"))]
mod without;

#[cfg(feature = "rdkafka")]
pub use crate::rdkafka::Kafka;
#[cfg(not(feature = "rdkafka"))]
pub use without::Kafka;

pub use config::{GroupProtocol, KafkaConfig, Profile};
