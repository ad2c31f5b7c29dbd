//! Schemas in a registry of somebody else's ([`ports::SchemaRegistry`]), over the REST API of Confluent's Schema
//! Registry, which other makers' speak too.
//!
//! [`ConfluentRegistry::open`] makes the client and connects to nothing.
//!
//! 1. **A verdict is told apart from an outage.** A refusal counts only in the registry's own shape
//!    (`{"error_code", "message"}`), and that something is not there only by a code of five digits: a proxy's or another
//!    service's 404 is an outage, so that no event is taken for undecodable because an address is wrong.
//! 2. **Nothing of an answer is believed that cannot be one**: it is JSON of the shape that was asked for, ids and
//!    versions are numbers from 1 to 2³¹ - 1, the version is the one that was asked for. What is not is an outage.
//! 3. **Every request may be made again**, registrations too, as what is there already is found. So whatever is
//!    transient is tried again, after a growing, random delay, at the next of the addresses; one that hung is not
//!    waited for again, so that a call takes no longer than a request at each address. An address that answered is kept to, so that writers read what they wrote at the replica that they wrote it at.
//! 4. **TLS is always verified**, by the system's certificates and those that are given. The password goes nowhere
//!    else: no redirect is followed, and no proxy is taken from the environment.
//! 5. **Everything has a bound**: an answer's head and body, the time for connecting and for each request, attempts,
//!    requests at once, connections kept.
//!
//! | feature | what it pulls |
//! | --- | --- |
//! | `registry` (default) | hyper, and rustls with ring |
//!
//! Without `registry` the crate still compiles, and [`ConfluentRegistry::open`] says that it was not built in.
//!
//! This crate must never judge a schema, keep an answer, or name a domain type.

#[cfg(feature = "registry")]
mod client;
mod config;
#[cfg(not(feature = "registry"))]
mod without;

#[cfg(feature = "registry")]
pub use client::ConfluentRegistry;
#[cfg(not(feature = "registry"))]
pub use without::ConfluentRegistry;

pub use config::RegistryConfig;
