//! The embedded backend: every port in one process, with nothing to install.
//!
//! [`disk`] is the durable log and [`tables`] the small durable tables beside it, both in one data
//! directory; [`memory`] is the reference model, slow and obvious, that other crates test against.
//! [`group`] shares a group's partitions among the members of this process, over either of them.

mod claims;
mod clock;
pub mod disk;
pub mod group;
pub mod memory;
mod schema_rules;
pub mod tables;

pub use clock::SystemClock;
