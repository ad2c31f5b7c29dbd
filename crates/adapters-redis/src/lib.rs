//! Claims ([`ports::IdempotencyStore`]), documents ([`ports::JobStore`]) and schemas
//! ([`ports::SchemaStore`]) on Redis, for replicas of the service that share one.
//!
//! [`Redis::open`] gives the stores; [`Redis::check`] asks the server how it is and whether it keeps what
//! it is told.
//!
//! | feature | what it pulls |
//! | --- | --- |
//! | `redis` (default) | the client, with TLS by rustls |
//!
//! Without `redis` the crate still compiles, and [`Redis::open`] says that it was not built in.
//!
//! # What it takes
//!
//! Redis 6 or later, or what speaks its protocol and runs its Lua scripts. One script claims a batch and
//! one settles it, in calls of a bounded size that are sent together: a batch takes one round trip. By
//! `MEMORY USAGE` a key takes 120 bytes of the server's memory while a claim lives and 104 once it is done,
//! with the prefix `event-streaming:`, notes and outcomes apart; the server's tables of keys and of times to
//! live make it about 180. It goes by its time to live, so that nothing is ever scanned.
//!
//! # Where keys lie
//!
//! A key's name is the prefix, a hash tag, and its 16 bytes: `event-streaming:{3}…`. The tag is one of
//! [`RedisConfig::hash_tags`]; keys of one tag are in one slot of a cluster, and a script touches keys of
//! one tag only. One tag is best for a single server. This client speaks to one address: in front of a
//! cluster that is a proxy that routes by slot. Another number of tags, as another prefix, is another
//! store: what was done before is not found there.
//!
//! Documents are in one hash a kind, `event-streaming:{state}:subscription` and so on, all under one tag; one
//! script changes a document. A deletion leaves a small key for ten minutes, by which it is known when it is
//! sent twice. Schemas are in four hashes and a sorted set under the tag `{schemas}`, and one script changes
//! them.
//!
//! # What survives
//!
//! A crash of a caller loses nothing. A crash of the server loses what it had not written: without an
//! append-only file everything since the last snapshot, with `appendfsync everysec` up to about a second,
//! with `appendfsync always` nothing that was answered. Replication is asynchronous: a replica that takes
//! over may lack the last claims. What is lost is claimed anew, so that an event may be handled twice; no
//! event is lost by it. Of documents and schemas the last changes are lost: a subscription that was just made may be
//! gone, or one that was just deleted be there again. A server that evicts keys forgets at any time. [`Redis::check`] warns of a server
//! without an append-only file and of one that evicts.
//!
//! This crate must never decide what a claim means for an event, never name a domain type, and never use
//! the time of its own machine for a lease.

mod config;
#[cfg(feature = "redis")]
mod connection;
#[cfg(feature = "redis")]
mod error;
#[cfg(feature = "redis")]
mod idempotency_store;
#[cfg(feature = "redis")]
mod job_store;
#[cfg(feature = "redis")]
mod schema_store;
#[cfg(feature = "redis")]
mod scripts;
#[cfg(feature = "redis")]
mod server;
#[cfg(not(feature = "redis"))]
mod without;

#[cfg(feature = "redis")]
pub use server::Redis;
#[cfg(not(feature = "redis"))]
pub use without::Redis;

pub use config::{RedisConfig, RedisStatus};
