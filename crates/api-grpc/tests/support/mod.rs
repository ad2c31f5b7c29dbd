//! The front over the backend in memory, and a client of it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use api_grpc::{
    GrpcConfig, Services,
    proto::{
        CreateSubscriptionRequest, CreateTopicRequest, Event, dead_letters_client::DeadLettersClient,
        publisher_client::PublisherClient, replays_client::ReplaysClient,
        subscriber_client::SubscriberClient, subscriptions_client::SubscriptionsClient,
        topics_client::TopicsClient,
    },
};
use domain::{
    Limits,
    dead_letters::{DeadLetterPorts, DeadLetters, DeadLettersConfig},
    event_schemas::EventSchemas,
    groups::Groups,
    jobs::{JobPorts, JobServices, Jobs, JobsConfig},
    publish::{PublishConfig, Publisher},
    schemas::registry::{Registry, RegistryConfig},
    subscriptions::{DeliveryConfig, SubscriptionPorts, Subscriptions},
    topics::{TopicDefaults, Topics},
};
use ports::{Clock, GroupAdmin};
use std::sync::Arc;
use testkit::clock::SystemLikeClock;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) struct Front {
    pub(crate) channel: Channel,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) backing: Arc<dyn GroupAdmin>,
    pub(crate) serving: watch::Sender<bool>,
    pub(crate) draining: CancellationToken,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

pub(crate) const TOPIC: &str = "orders";

impl Front {
    pub(crate) async fn start() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemLikeClock::new());
        let memory = Memory::new(clock.clone());
        let limits = Arc::new(Limits::default());
        let defaults = TopicDefaults { auto_create: false, partitions: 3, replication_factor: None };
        let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
        let registry = Arc::new(Registry::new(memory.schemas(), clock.clone(), RegistryConfig::default()));
        let schemas = EventSchemas::new(registry.clone(), topics.clone(), memory.jobs(), clock.clone());
        schemas.start(false).await.unwrap();
        let publisher = Publisher::with_schemas(
            memory.log(),
            topics.clone(),
            clock.clone(),
            limits.clone(),
            PublishConfig::default(),
            Some(memory.idempotency()),
            Some(schemas.clone()),
        );
        let ports = SubscriptionPorts {
            log: memory.log(),
            membership: memory.membership(),
            offsets: memory.offsets(),
            jobs: memory.jobs(),
            idempotency: memory.idempotency(),
            clock: clock.clone(),
        };
        let subscriptions = Subscriptions::with_schemas(
            ports,
            topics.clone(),
            limits.clone(),
            DeliveryConfig::default(),
            None,
            Some(schemas.clone()),
        );
        subscriptions.start().await.unwrap();
        let groups = Arc::new(Groups::new(
            memory.groups(),
            memory.log(),
            clock.clone(),
            topics.clone(),
            subscriptions.clone(),
            None,
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
        let serving = watch::Sender::new(true);
        let draining = CancellationToken::new();
        let services = Services {
            publisher,
            jobs,
            dead_letters,
            topics,
            subscriptions,
            groups,
            registry,
            schemas,
            limits,
            clock,
            draining: draining.clone(),
            serving: serving.subscribe(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(api_grpc::serve(listener, services, GrpcConfig::default(), stop.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let backing = memory.groups();
        let front = Self { channel, address, backing, serving, draining, stop, task };
        let create =
            CreateTopicRequest { name: TOPIC.into(), partitions: Some(3), ..CreateTopicRequest::default() };
        front.topics().create_topic(create).await.unwrap();
        front
    }

    pub(crate) fn publisher(&self) -> PublisherClient<Channel> {
        PublisherClient::new(self.channel.clone())
    }

    pub(crate) fn dead_letters(&self) -> DeadLettersClient<Channel> {
        DeadLettersClient::new(self.channel.clone())
    }

    pub(crate) fn replays(&self) -> ReplaysClient<Channel> {
        ReplaysClient::new(self.channel.clone())
    }

    pub(crate) fn topics(&self) -> TopicsClient<Channel> {
        TopicsClient::new(self.channel.clone())
    }

    pub(crate) fn subscriber(&self) -> SubscriberClient<Channel> {
        SubscriberClient::new(self.channel.clone())
    }

    pub(crate) async fn subscribe(&self, name: &str) {
        let create = CreateSubscriptionRequest {
            name: name.into(),
            topics: vec![TOPIC.into()],
            ordering: Some("none".into()),
            ..CreateSubscriptionRequest::default()
        };
        SubscriptionsClient::new(self.channel.clone()).create_subscription(create).await.unwrap();
    }
}

pub(crate) fn event(number: u64) -> Event {
    Event {
        key: Some(format!("k{}", number % 7).into()),
        data: Some(number.to_be_bytes().to_vec().into()),
        ..Event::default()
    }
}

pub(crate) fn number(event: &Event) -> u64 {
    u64::from_be_bytes(event.data.as_deref().unwrap().try_into().unwrap())
}
