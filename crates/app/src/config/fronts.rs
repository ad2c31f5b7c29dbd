//! The settings as the fronts take them.

use super::values::Config;
use api_grpc::GrpcConfig;
use api_http::HttpConfig;

impl Config {
    /// How HTTP is served.
    pub(crate) fn http(&self) -> HttpConfig {
        let http = &self.http;
        HttpConfig {
            base_path: self.server.base_path.clone(),
            connections_max: http.connections_max.0 as usize,
            header_bytes_max: http.header_bytes_max.0,
            headers_max: http.headers_max.0 as usize,
            header_timeout: http.header_timeout.0,
            idle_timeout: http.idle_timeout.0,
            body_idle_timeout: http.body_idle_timeout.0,
            body_timeout: http.body_timeout.0,
            heartbeat: http.heartbeat.0,
            // The whole stop has one deadline, which ends this too.
            drain_timeout: self.server.shutdown_timeout.0,
        }
    }

    /// How gRPC is served.
    pub(crate) fn grpc(&self) -> GrpcConfig {
        let grpc = &self.grpc;
        GrpcConfig {
            connections_max: grpc.connections_max.0 as usize,
            streams_max: grpc.streams_max.0,
            message_bytes_max: self.limits.request_bytes_max.0,
            metadata_bytes_max: grpc.metadata_bytes_max.0 as u32,
            keepalive_interval: grpc.keepalive_interval.0,
            keepalive_timeout: grpc.keepalive_timeout.0,
            stream_window: grpc.stream_window.0 as usize,
            drain_timeout: self.server.shutdown_timeout.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_fronts() {
        let config = load(&Sources::default()).expect("good").config;
        let drain_timeout = config.server.shutdown_timeout.0;
        assert_eq!(config.http(), HttpConfig { drain_timeout, ..HttpConfig::default() });
        assert_eq!(config.grpc(), GrpcConfig { drain_timeout, ..GrpcConfig::default() });
    }
}
