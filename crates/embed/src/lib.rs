//! The event streaming service inside a Rust application, without its binary and without a server beside it
//! where the embedded log will do.
//!
//! [`Service`] opens a log, publishes to it, and gives the events of subscriptions to handlers. What is
//! around a handler is the service's: each key's events in order, retries with backoff, dead letters,
//! deduplication, a circuit breaker, and a stop that loses nothing. It keeps in its data directory what the
//! binary would keep there, so that one can be followed by the other.
//!
//! ```
//! use event_streaming::{Delivered, Handler, HandlerError, Json, NewSubscription, Service, each, json_event};
//!
//! struct Billing;
//!
//! impl Handler for Billing {
//!     type Event = u64;
//!
//!     async fn handle(&self, total: Delivered<u64>) -> Result<(), HandlerError> {
//!         if total.data == 0 {
//!             return Err(HandlerError::reject("nothing to pay"));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let data = folder.path();
//! let service = Service::builder().embedded(data).start().await?;
//! service.ensure_topic("orders", 3).await?;
//! let billing =
//!     NewSubscription { name: "billing".into(), topics: vec!["orders".into()], ..NewSubscription::default() };
//! service.handle(billing, each(Json, Billing)).await?;
//! service.publish("orders", [json_event("order.created", "o-1", &12)?]).await?;
//! service.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! | feature | what it brings |
//! | --- | --- |
//! | `kafka` | Apache Kafka as the log, by librdkafka |
//!
//! This crate must never decide anything about events: it only puts parts together, as the binary does.

mod backends;
mod builder;
mod descriptors;
mod messages;
mod service;

pub use adapters_kafka::KafkaConfig;
pub use builder::Builder;
pub use domain::{
    Error, ErrorCode, Event, Limits, Result,
    event_schemas::{EventSchemas, MetadataFields, NewTopicSchema, TopicSchemaChange},
    handler::{Decode, Delivered, Handler, HandlerError, Json, Raw, RunHandler, UNDECODABLE, each, runs},
    publish::{PublishConfig, Publisher, Receipt},
    schemas::registry::Registry,
    subscriptions::{
        DeliveryConfig, HandlerCounts, HandlerOptions, NewSubscription, StartSpec, State, SubscriptionView,
        Subscriptions,
        circuit::CircuitConfig,
        policy::{NewDeadLetter, NewDedup, NewRetry},
    },
    topics::{NewTopic, TopicChange, Topics},
};
pub use messages::Messages;
pub use ports::{Failure, Record, StoredRecord};
pub use service::{Service, json_event};
