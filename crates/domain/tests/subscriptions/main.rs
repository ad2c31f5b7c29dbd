//! What a subscription promises, over the reference model and paused time: delivered at least once, done
//! when acknowledged, whatever happens to the process, the group and the log between.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod dead_letters;
mod handlers;
mod naming;
mod pulling;
mod replacing;
mod retry_topics;
mod starting;
mod stores;
mod surviving;
