//! What every backend must do, and the means to test it.
//!
//! [`conformance`] has one list a port; a backend stamps a list on itself by one line. [`clock`] has the
//! clocks of tests, [`fixtures`] names and records, [`fault`] a log that fails on purpose, and [`proxy`] a
//! way to a server that can be cut.
//!
//! This crate is a dev-dependency only. A failed expectation panics, as a test does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

pub mod clock;
pub mod conformance;
pub mod fault;
pub mod fixtures;
pub mod proxy;

pub use clock::{SystemLikeClock, TestClock};
pub use conformance::Backend;
pub use proxy::Proxy;
