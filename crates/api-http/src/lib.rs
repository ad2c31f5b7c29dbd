//! The HTTP front of the event streaming service.
//!
//! It knows the shapes on the wire, the status codes and how to stream, and nothing else: every decision
//! is a use case of [`domain`]. [`serve`] speaks HTTP/1.1 on a listener until it is told to stop; [`Router`]
//! answers one request and needs no network.
//!
//! Invariants:
//! 1. What a client sends is answered with a problem (RFC 9457) of its own making at worst: no input
//!    leads to a 5xx or a panic.
//! 2. No client holds the server: heads, bodies, idle connections, unread answers and the number of
//!    connections are bounded, in bytes and in time.
//! 3. The bytes of an event's value and key are slices of the request's body; they are not copied.

mod body;
mod browse;
mod config;
mod connection;
mod dead_letters;
mod groups;
mod health;
mod json;
mod problem;
mod publish;
mod registry;
mod replays;
mod request;
mod respond;
mod router;
mod schemas;
mod server;
mod show;
mod subscriptions;
mod time;
mod topics;

pub use config::HttpConfig;
pub use connection::Peer;
pub use health::{Component, Health};
pub use respond::ReplyBody;
pub use router::Router;
pub use server::serve;

use domain::{
    Limits, browse::Browser, dead_letters::DeadLetters, event_schemas::EventSchemas, groups::Groups,
    jobs::Jobs, publish::Publisher, schemas::registry::Registry, subscriptions::Subscriptions,
    topics::Topics,
};
use std::sync::Arc;
use tokio::sync::watch;

/// The use cases behind the front.
#[derive(Clone, Debug)]
pub struct Services {
    /// Publishes.
    pub publisher: Arc<Publisher>,
    /// Reads topics without a group.
    pub browser: Arc<Browser>,
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
    /// How the service is, kept up to date by whoever watches its backends.
    pub health: watch::Receiver<Health>,
}
