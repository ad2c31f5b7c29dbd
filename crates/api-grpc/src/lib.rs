//! The gRPC front of the event streaming service: package `eventstreaming.v1`, health and reflection.
//!
//! It knows the messages, the status codes and how to stream, and nothing else: every decision is a use
//! case of [`domain`]. [`serve`] answers on a listener until it is told to stop. [`proto`] is what clients
//! in Rust are made from.
//!
//! Invariants:
//! 1. What a client sends ends in a status of its own making at worst: no input leads to `INTERNAL`.
//! 2. A stream's events are appended in the order in which they came, and answered in that order.
//! 3. Everything that waits is bounded: connections, streams of a connection, messages of a stream and
//!    their bytes, deliveries of a stream.

mod call;
mod codec;
mod connection;
mod convert;
mod dead_letters;
mod error;
mod groups;
mod publish_stream;
mod publisher;
mod replays;
mod schemas;
mod server;
mod subscribe;
mod subscriber;
mod subscriptions;
mod topics;

/// The messages and services of `eventstreaming.v1`, as generated from the proto files.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("eventstreaming.v1");

    /// The descriptors of the package, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

pub use server::{GrpcConfig, serve};

use domain::{
    Limits, dead_letters::DeadLetters, event_schemas::EventSchemas, groups::Groups, jobs::Jobs,
    publish::Publisher, schemas::registry::Registry, subscriptions::Subscriptions, topics::Topics,
};
use ports::Clock;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The use cases behind the front.
#[derive(Clone, Debug)]
pub struct Services {
    /// Publishes.
    pub publisher: Arc<Publisher>,
    /// Keeps topics.
    pub topics: Arc<Topics>,
    /// Keeps subscriptions and delivers to them.
    pub subscriptions: Arc<Subscriptions>,
    /// Sees and moves consumer groups.
    pub groups: Arc<Groups>,
    /// Keeps schemas.
    pub registry: Arc<Registry>,
    /// Knows what the values of topics follow.
    pub schemas: Arc<EventSchemas>,
    /// Keeps track of dead letters.
    pub dead_letters: Arc<DeadLetters>,
    /// Runs replays.
    pub jobs: Arc<Jobs>,
    /// The bounds on requests.
    pub limits: Arc<Limits>,
    /// The time, for the deadlines of what is out at streams.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the service is about to stop, while subscriptions still take decisions: streams are
    /// told, and come to their end. Where it never is, they are told when the front stops.
    pub draining: CancellationToken,
    /// Whether the service takes work; kept up to date by whoever watches its backends.
    pub serving: watch::Receiver<bool>,
}
