//! Serves the front on a listener.

use crate::{
    Services, call, connection, dead_letters::DeadLetters, groups::Groups, proto, publisher::Publisher,
    replays::Replays, schemas::Schemas, subscriber::Subscriber, subscriptions::Subscriptions, topics::Topics,
};
use proto::{
    dead_letters_server::DeadLettersServer, groups_server::GroupsServer, publisher_server::PublisherServer,
    replays_server::ReplaysServer, schemas_server::SchemasServer, subscriber_server::SubscriberServer,
    subscriptions_server::SubscriptionsServer, topics_server::TopicsServer,
};
use std::{io, time::Duration};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How gRPC is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// The most connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// The most calls of a connection at once.
    pub streams_max: u32,
    /// The most bytes of one message that is received.
    pub message_bytes_max: usize,
    /// The most bytes of a call's metadata.
    pub metadata_bytes_max: u32,
    /// How often a silent connection is pinged.
    pub keepalive_interval: Duration,
    /// How long an answer to that may take before the connection is closed.
    pub keepalive_timeout: Duration,
    /// How many messages of a publish stream may wait while earlier ones are appended.
    pub stream_window: usize,
    /// How long calls may go on after the stop was asked for.
    pub drain_timeout: Duration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            streams_max: 1_000,
            message_bytes_max: 8 << 20,
            metadata_bytes_max: 32 << 10,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            stream_window: 1_024,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves until `shutdown`; then takes no new connection or call, lets those that are under way end within
/// the drain timeout, and returns.
///
/// # Errors
/// What broke the listener.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let bytes_max = config.message_bytes_max;
    let publisher =
        Publisher { services: services.clone(), stream_window: config.stream_window, stop: shutdown.clone() };
    let (health, health_service) = tonic_health::server::health_reporter();
    let watching = tokio::spawn(report(health, services.serving.clone(), shutdown.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(io::Error::other)?;
    let reflection_alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()
        .map_err(io::Error::other)?;
    let stopping = shutdown.clone();
    let serving = Server::builder()
        .max_concurrent_streams(config.streams_max)
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .http2_max_header_list_size(config.metadata_bytes_max)
        // What a stream, and a connection, may have on its way to us: enough for a fast link, little enough
        // for many clients.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .layer(call::CallLayer)
        .add_service(PublisherServer::new(publisher).max_decoding_message_size(bytes_max))
        .add_service(
            SubscriberServer::new(Subscriber {
                services: services.clone(),
                stop: shutdown.clone(),
                drain_timeout: config.drain_timeout,
            })
            .max_decoding_message_size(bytes_max),
        )
        .add_service(
            SubscriptionsServer::new(Subscriptions(services.clone())).max_decoding_message_size(bytes_max),
        )
        .add_service(SchemasServer::new(Schemas(services.clone())).max_decoding_message_size(bytes_max))
        .add_service(
            DeadLettersServer::new(DeadLetters(services.clone())).max_decoding_message_size(bytes_max),
        )
        .add_service(GroupsServer::new(Groups(services.clone())).max_decoding_message_size(bytes_max))
        .add_service(ReplaysServer::new(Replays(services.clone())).max_decoding_message_size(bytes_max))
        .add_service(TopicsServer::new(Topics(services)).max_decoding_message_size(bytes_max))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .serve_with_incoming_shutdown(connection::accept(listener, config.connections_max), async move {
            stopping.cancelled().await
        });
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.drain_timeout).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(io::Error::other),
        () = late => Err(io::Error::new(io::ErrorKind::TimedOut, "calls were cut off at the deadline")),
    };
    watching.abort();
    served
}

/// Keeps the health service up to date: the whole server, under the empty name.
async fn report(health: HealthReporter, mut serving: watch::Receiver<bool>, shutdown: CancellationToken) {
    loop {
        let up = *serving.borrow_and_update() && !shutdown.is_cancelled();
        let status = if up { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        tokio::select! {
            changed = serving.changed() => if changed.is_err() { return },
            () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
        }
    }
}
