//! Claims ([`ports::IdempotencyStore`]), documents ([`ports::JobStore`]) and schemas
//! ([`ports::SchemaStore`]) on PostgreSQL, for replicas of the service that share one.
//!
//! [`Postgres::open`] gives the stores; [`Postgres::check`] asks the server how it is and whether it keeps
//! what it is told.
//!
//! | feature | what it pulls |
//! | --- | --- |
//! | `postgres` (default) | the client, with TLS by rustls |
//!
//! Without `postgres` the crate still compiles, and [`Postgres::open`] says that it was not built in.
//!
//! # What it takes
//!
//! PostgreSQL 13 or later and a schema of its own ([`PostgresConfig::schema`]), which is made, and migrated
//! by whichever replica comes first, before the first call. One statement claims a batch and one settles
//! it; one reads or changes a document. A key takes about 150 bytes with its two indexes, notes, outcomes and what waits for autovacuum
//! apart. What is over is deleted in the background, a bounded batch at a time, by the index on its expiry.
//!
//! # What survives
//!
//! A crash of a caller loses nothing. A crash of the server loses nothing that was answered, unless
//! `synchronous_commit` is `off` (then up to some hundred milliseconds) or `fsync` is (then perhaps
//! everything); a standby that takes over has what `synchronous_standby_names` promises. What is lost is
//! claimed anew, so that an event may be handled twice; no event is lost by it. Of documents
//! and schemas the last changes are lost. [`Postgres::check`] warns of
//! both settings.
//!
//! This crate must never decide what a claim means for an event, never name a domain type, and never use
//! the time of its own machine for a lease.

#[cfg(feature = "postgres")]
mod cleanup;
mod config;
#[cfg(feature = "postgres")]
mod connections;
#[cfg(feature = "postgres")]
mod error;
#[cfg(feature = "postgres")]
mod idempotency_store;
#[cfg(feature = "postgres")]
mod job_store;
#[cfg(feature = "postgres")]
mod migrations;
#[cfg(feature = "postgres")]
mod pool;
#[cfg(feature = "postgres")]
mod schema_store;
#[cfg(feature = "postgres")]
mod server;
#[cfg(not(feature = "postgres"))]
mod without;

#[cfg(feature = "postgres")]
pub use server::Postgres;
#[cfg(not(feature = "postgres"))]
pub use without::Postgres;

pub use config::{PostgresConfig, PostgresStatus};
