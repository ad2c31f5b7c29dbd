//! The front over the backend in memory.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use api_http::{Component, Health, HttpConfig, Peer, Router, Services};
use bytes::Bytes;
use domain::{
    Limits,
    browse::Browser,
    dead_letters::{DeadLetterPorts, DeadLetters, DeadLettersConfig},
    event_schemas::EventSchemas,
    groups::Groups,
    jobs::{JobPorts, JobServices, Jobs, JobsConfig},
    lag::{LagConfig, LagMonitor},
    publish::{PublishConfig, Publisher},
    schemas::registry::{Registry, RegistryConfig},
    subscriptions::{DeliveryConfig, SubscriptionPorts, Subscriptions},
    topics::{TopicDefaults, Topics},
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use ports::{Clock, GroupAdmin, GroupName, TopicName, TopicPartition};
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::clock::TestClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A router, and what it stands on.
pub(crate) struct Front {
    pub(crate) router: Router,
    pub(crate) services: Services,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) stop: CancellationToken,
    pub(crate) backing: Backing,
}

/// What tests reach behind the front.
#[derive(Clone)]
pub(crate) struct Backing {
    pub(crate) groups: Arc<dyn GroupAdmin>,
    pub(crate) monitor: Arc<LagMonitor>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// The first field that a problem names.
    pub(crate) fn field(&self) -> &str {
        self.body["errors"][0]["field"].as_str().unwrap_or_default()
    }
}

pub(crate) async fn services(limits: Limits) -> (Services, watch::Sender<Health>) {
    let (services, health, _) = services_and_backing(limits).await;
    (services, health)
}

async fn services_and_backing(limits: Limits) -> (Services, watch::Sender<Health>, Backing) {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
    let memory = Memory::new(clock.clone());
    let limits = Arc::new(limits);
    let defaults = TopicDefaults { auto_create: false, partitions: 3, replication_factor: None };
    let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
    let ports = SubscriptionPorts {
        log: memory.log(),
        membership: memory.membership(),
        offsets: memory.offsets(),
        jobs: memory.jobs(),
        idempotency: memory.idempotency(),
        clock: clock.clone(),
    };
    let registry = Arc::new(Registry::new(memory.schemas(), clock.clone(), RegistryConfig::default()));
    let schemas = EventSchemas::new(registry.clone(), topics.clone(), memory.jobs(), clock.clone());
    schemas.start(false).await.unwrap();
    let subscriptions = Subscriptions::with_schemas(
        ports,
        topics.clone(),
        limits.clone(),
        DeliveryConfig::default(),
        None,
        Some(schemas.clone()),
    );
    subscriptions.start().await.unwrap();
    let publisher = Publisher::with_schemas(
        memory.log(),
        topics.clone(),
        clock.clone(),
        limits.clone(),
        PublishConfig::default(),
        Some(memory.idempotency()),
        Some(schemas.clone()),
    );
    let monitor = Arc::new(LagMonitor::new(
        memory.groups(),
        memory.log(),
        topics.clone(),
        clock.clone(),
        LagConfig::default(),
    ));
    let groups = Arc::new(Groups::new(
        memory.groups(),
        memory.log(),
        clock.clone(),
        topics.clone(),
        subscriptions.clone(),
        Some(monitor.clone()),
    ));
    let publisher = Arc::new(publisher);
    let job_ports = JobPorts { log: memory.log(), jobs: memory.jobs(), clock: clock.clone() };
    let dead_letters = DeadLetters::new(
        DeadLetterPorts { log: memory.log(), clock: clock.clone() },
        subscriptions.clone(),
        topics.clone(),
        limits.clone(),
        Some(schemas.clone()),
        DeadLettersConfig::default(),
    );
    let job_services = JobServices {
        publisher: publisher.clone(),
        topics: topics.clone(),
        subscriptions: subscriptions.clone(),
        dead_letters: dead_letters.clone(),
        schemas: Some(schemas.clone()),
    };
    let jobs = Jobs::new(job_ports, job_services, limits.clone(), JobsConfig::default());
    let up = Component { name: "embedded", up: true, needed: true, details: vec![("nodeCount", json!(1))] };
    let (health_sender, health) = watch::channel(Health { ready: true, components: vec![up] });
    let services = Services {
        publisher,
        jobs,
        dead_letters,
        browser: Arc::new(Browser::new(memory.log(), topics.clone(), limits.clone(), clock)),
        groups,
        registry,
        schemas,
        topics,
        subscriptions,
        limits,
        health,
    };
    (services, health_sender, Backing { groups: memory.groups(), monitor })
}

impl Front {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let (services, health, backing) = services_and_backing(limits).await;
        let stop = CancellationToken::new();
        let router = Router::new(services.clone(), HttpConfig::default(), stop.clone());
        Self { router, services, health, stop, backing }
    }

    /// Sends a request to `path` below the base path.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/event-streaming{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (head, body) = self.router.handle(request, Peer::none()).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        // A schema's own text may be no JSON.
        let text = || Value::String(String::from_utf8(bytes.to_vec()).unwrap());
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| text())
        };
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Sets the position of a group in partition 0 of a topic, as another program does.
    pub(crate) async fn set_offsets(&self, group: &str, topic: &str, next: u64) {
        let at = TopicPartition::new(TopicName::new(topic).unwrap(), 0);
        let name = GroupName::new(group).unwrap();
        self.backing.groups.set_offsets(&name, &[(at, next)]).await.remove(0).unwrap();
    }

    /// Samples all groups once.
    pub(crate) async fn sample(&self) {
        self.backing.monitor.sample().await.unwrap();
    }

    pub(crate) async fn create_topic(&self, name: &str, partitions: u32) {
        self.post("/v1/topics", &json!({"name": name, "partitions": partitions})).await.expect(201);
    }
}
