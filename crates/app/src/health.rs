//! Watches the backends, for the health that the fronts show.

use crate::{config::LogBackend, outside::Outside, servers::Server};
use api_http::{Component, Health};
use domain::{
    breaker::{Breaker, BreakerStatus, GuardedAppends},
    event::time_text,
    schemas::registry::Registry,
    topics::Topics,
};
use futures::future;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How often a backend that serves is asked.
const INTERVAL_UP: Duration = Duration::from_secs(5);
/// How often one that does not is.
const INTERVAL_DOWN: Duration = Duration::from_secs(1);

/// How long a registry outside may take to say how it is.
const LOOK_OUTSIDE: Duration = Duration::from_secs(2);

/// The most topics with an open circuit that are shown.
const TOPICS_SHOWN_MAX: usize = 20;
/// The component of the schema registry.
const SCHEMA_REGISTRY: &str = "schemaRegistry";
/// The detail that says why a store may forget.
const WARNING: &str = "warning";

/// Keeps `health` up to date.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) topics: Arc<Topics>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) backend: LogBackend,
    /// Where definitions or claims are kept outside the data directory.
    pub(crate) servers: Vec<Server>,
    /// The registry outside that schemas are in, where they are in one.
    pub(crate) outside: Option<Outside>,
    /// The circuits before the log, where it is another's.
    pub(crate) appends: Option<Arc<GuardedAppends>>,
    pub(crate) health: watch::Sender<Health>,
}

impl Watch {
    /// What is known before a backend was asked.
    pub(crate) fn unknown(backend: LogBackend, servers: &[Server], outside: bool) -> Health {
        let names = [backend.name(), SCHEMA_REGISTRY].into_iter().chain(servers.iter().map(Server::name));
        let unknown = names.map(|name| Component {
            needed: !(outside && name == SCHEMA_REGISTRY),
            ..component(name, false, Vec::new())
        });
        Health { ready: false, components: unknown.collect() }
    }

    /// Asks the backends once.
    pub(crate) async fn look(&self) {
        let looks = future::join_all(self.servers.iter().map(|server| self.look_at_server(server)));
        let (log, registry, servers) = tokio::join!(self.look_at_log(), self.look_at_registry(), looks);
        // After the calls, which are not the circuits' own.
        let outside = self.outside.iter().map(|outside| &*outside.breaker);
        let breakers: Vec<&Breaker> =
            self.servers.iter().map(|server| &*server.breaker).chain(outside).collect();
        let circuits = (!breakers.is_empty() || self.appends.is_some())
            .then(|| circuits(&breakers, self.appends.as_deref()));
        let components: Vec<Component> = [log, registry].into_iter().chain(servers).chain(circuits).collect();
        self.health.send_if_modified(|health| {
            let news = health.components != components;
            health.components = components;
            news
        });
    }

    async fn look_at_log(&self) -> Component {
        let name = self.backend.name();
        match self.topics.cluster().await {
            Ok(cluster) if self.backend == LogBackend::Kafka => {
                let details =
                    vec![("clusterId", json!(cluster.id)), ("nodeCount", json!(cluster.nodes.len()))];
                component(name, true, details)
            }
            Ok(_) => component(name, true, Vec::new()),
            Err(error) => {
                // Said when it changes, not at every look.
                if self.before(name).is_some_and(|before| before.up) {
                    tracing::warn!(%error, "the log does not serve");
                }
                component(name, false, Vec::new())
            }
        }
    }

    /// Where it cannot be asked, the component of what keeps it is down; topics without schemas go on. So the service
    /// is not down with a registry outside, and is not taken out of use.
    async fn look_at_registry(&self) -> Component {
        let Some(outside) = &self.outside else { return self.count_schemas().await };
        // Neither the start nor what is known of the log waits for one that hangs.
        let looked = tokio::time::timeout(LOOK_OUTSIDE, self.count_schemas()).await;
        let mut looked = looked.unwrap_or_else(|_late| {
            let late = format!("no answer within {LOOK_OUTSIDE:?}");
            component(SCHEMA_REGISTRY, false, vec![("error", json!(late))])
        });
        looked.needed = false;
        looked.details.push(("backend", json!("confluent")));
        looked.details.push(("urls", json!(outside.urls())));
        looked
    }

    async fn count_schemas(&self) -> Component {
        match self.registry.statistics().await {
            Ok(counted) => {
                let mut details = vec![("totalSubjects", json!(counted.subjects))];
                details.extend(counted.versions.map(|versions| ("totalVersions", json!(versions))));
                component(SCHEMA_REGISTRY, true, details)
            }
            Err(error) => {
                if self.before(SCHEMA_REGISTRY).is_some_and(|before| before.up) {
                    tracing::warn!(%error, "the schemas cannot be read");
                }
                component(SCHEMA_REGISTRY, false, vec![("error", json!(error.message()))])
            }
        }
    }

    async fn look_at_server(&self, server: &Server) -> Component {
        let (name, keeps) = (server.name(), server.keeps());
        match server.check().await {
            Ok(status) => {
                let mut details = vec![("version", json!(status.version))];
                if let Some(warning) = status.warning {
                    details.push((WARNING, json!(warning)));
                }
                let warned =
                    |component: &Component| component.details.iter().find(|it| it.0 == WARNING).cloned();
                let component = component(name, true, details);
                if let Some((_, warning)) = warned(&component)
                    && self.before(name).as_ref().and_then(warned).is_none_or(|(_, before)| before != warning)
                {
                    tracing::warn!(
                        store = name,
                        keeps,
                        warning = warning.as_str(),
                        "the store may forget what it keeps"
                    );
                }
                component
            }
            Err(error) => {
                if self.before(name).is_none_or(|before| before.up || before.details.is_empty()) {
                    tracing::warn!(%error, store = name, keeps, "the store does not serve");
                }
                component(name, false, vec![("error", json!(error.detail()))])
            }
        }
    }

    /// What was found at the last look.
    fn before(&self, name: &str) -> Option<Component> {
        self.health.borrow().components.iter().find(|component| component.name == name).cloned()
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

/// The circuits before outside systems. The component is up whatever they are: a circuit closes by a call that
/// is answered, which a service that is taken out of use would not get; whether the system itself serves is
/// its own component's to say.
fn circuits(breakers: &[&Breaker], appends: Option<&GuardedAppends>) -> Component {
    let stores = breakers.iter().map(|breaker| (breaker.name(), circuit(&breaker.status())));
    let log = appends.map(|appends| {
        let open = appends.open(TOPICS_SHOWN_MAX);
        let state = if open.is_empty() { "closed" } else { "open" };
        let topics: serde_json::Map<_, _> =
            open.iter().map(|(topic, status)| (topic.to_string(), circuit(status))).collect();
        ("log", json!({"state": state, "topics": topics}))
    });
    component("circuitBreakers", true, stores.chain(log).collect())
}

fn circuit(status: &BreakerStatus) -> Value {
    match status {
        BreakerStatus::Closed => json!({"state": "closed"}),
        BreakerStatus::Open { since, reason, next_probe } => {
            let mut shown = json!({"state": "half-open", "since": time_text(*since), "reason": reason});
            if let Some(next) = next_probe {
                shown["state"] = json!("open");
                shown["nextProbe"] = json!(time_text(*next));
            }
            shown
        }
    }
}

fn component(name: &'static str, up: bool, details: Vec<(&'static str, Value)>) -> Component {
    Component { name, up, needed: true, details }
}
