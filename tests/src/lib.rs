//! The harness of the end-to-end tests: the real binary as a process of its own, a client that speaks
//! to it as any other would, and the servers behind it.
//!
//! A backend that should be there and is not fails the test; nothing is ever skipped.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod binary;
mod client;
mod foreign;
mod group_tool;
mod own;
mod raw;
mod receiver;
mod servers;
mod service;
mod tls_front;

pub use binary::{binary, workspace_root};
pub use client::{Answer, Client, Tail};
pub use foreign::{foreign_clients, node, python, run_foreign};
pub use group_tool::{GroupTool, Row};
pub use own::OwnServers;
pub use raw::{RawAnswer, raw_exchange};
pub use receiver::{Pushed, Receiver, Reply};
pub use servers::{Server, kafka, postgres, redis, services_script};
pub use service::{Ended, Log, Service, Setup};
pub use tls_front::{Authority, TlsFront};

use std::time::Duration;

/// How long a condition may take to come true before a test gives up; far above what it takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A name that no other test and no earlier run has used.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// Runs `attempt` until it gives something, a few milliseconds apart.
///
/// # Panics
/// When that has not happened within [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let tries = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, tries).await.ok();
    found.unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// Stamps each named `async fn(Log)` as one test on the embedded log and one on Kafka.
#[macro_export]
macro_rules! on_every_log {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::Log::embedded()).await;
            })+
        }
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::Log::kafka().await).await;
            })+
        }
    };
}
