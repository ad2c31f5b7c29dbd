//! Consuming while what it stands on is killed: the service itself, the store of claims, Kafka's brokers.
//!
//! Whatever happens: what was published with a 2xx is acknowledged in the end or is a dead letter, what was
//! acknowledged does not come again, and nothing of a key is given out past an undecided event.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod brokers;
mod kills;
mod ledger;
mod load;
mod memory;
mod stores;
