//! Watches the backends, for the health that the fronts show.

use crate::config::LogBackend;
use api_http::{Component, Health};
use domain::topics::Topics;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How often a backend that serves is asked.
const INTERVAL_UP: Duration = Duration::from_secs(5);
/// How often one that does not is.
const INTERVAL_DOWN: Duration = Duration::from_secs(1);

/// Keeps `health` up to date.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) topics: Arc<Topics>,
    pub(crate) backend: LogBackend,
    pub(crate) health: watch::Sender<Health>,
}

impl Watch {
    /// What is known before a backend was asked.
    pub(crate) fn unknown(backend: LogBackend) -> Health {
        Health { ready: false, components: vec![component(backend, false, Vec::new())] }
    }

    /// Asks the backends once.
    pub(crate) async fn look(&self) {
        let component = match self.topics.cluster().await {
            Ok(cluster) if self.backend == LogBackend::Kafka => {
                let details =
                    vec![("clusterId", json!(cluster.id)), ("nodeCount", json!(cluster.nodes.len()))];
                component(self.backend, true, details)
            }
            Ok(_) => component(self.backend, true, Vec::new()),
            Err(error) => {
                // Said when it changes, not at every look.
                if self.health.borrow().is_up() {
                    tracing::warn!(%error, "the log does not serve");
                }
                component(self.backend, false, Vec::new())
            }
        };
        self.health.send_if_modified(|health| {
            let news = health.components != [component.clone()];
            health.components = vec![component];
            news
        });
    }

    /// Asks until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            let interval = if self.health.borrow().is_up() { INTERVAL_UP } else { INTERVAL_DOWN };
            tokio::time::sleep(interval).await;
            self.look().await;
        }
    }
}

/// Whether the service takes work, for fronts that want to know no more. Follows `health` until its sender
/// is gone.
pub(crate) fn serving(mut health: watch::Receiver<Health>) -> watch::Receiver<bool> {
    let (serving, receiver) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let now = {
                let health = health.borrow_and_update();
                health.ready && health.is_up()
            };
            serving.send_if_modified(|before| std::mem::replace(before, now) != now);
            if health.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn component(backend: LogBackend, up: bool, details: Vec<(&'static str, serde_json::Value)>) -> Component {
    Component { name: backend.name(), up, details }
}
