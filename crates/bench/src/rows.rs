//! What is measured beside what, and what is asked of it.

use crate::load::consume::Acks;
use clap::ValueEnum;

/// A row: contenders that take turns. The first is ours.
#[derive(Debug)]
pub(crate) struct Row {
    /// As `--only` names it.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether it is one of `--peers`.
    pub(crate) peers: bool,
    pub(crate) contenders: &'static [Contender],
    pub(crate) targets: &'static [Target],
}

/// One who runs.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
}

/// How a contender publishes or consumes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// HTTP, a request at a time a connection.
    Http { server: On, connections: usize, batch: usize },
    /// Streams over gRPC, each on a connection of its own, each with so many messages on their way.
    Grpc { server: On, streams: usize, batch: usize, in_flight: usize },
    /// Single events over HTTP, due at a rate a second.
    PacedHttp { server: On, rate: u32 },
    /// The producer itself with so many records on their way.
    Raw { in_flight: usize },
    /// The producer itself as fast as it goes.
    Flood,
    /// The producer itself, records due at a rate a second.
    PacedRaw { rate: u32 },
    /// One stream over gRPC, with so many deliveries out.
    Subscribe { server: On, credits: u32, acks: Acks, dedup: Dedup },
    /// Pulls of so many over HTTP, one after the other on each connection.
    Pull { server: On, max: usize, connections: usize, dedup: Dedup },
    /// A handler in an application with the service inside, on Kafka.
    Handler { dedup: Dedup },
    /// The client library's consumer.
    RawConsume,
    /// Single events due at a rate a second, from publisher to handler in one application on the embedded log.
    PacedHandler { rate: u32, dedup: bool },
    /// The same to their receipts alone.
    PacedReceipt { rate: u32 },
    /// Kafka's own `ProducerPerformance`.
    KafkaTool,
    /// `nats bench js pub sync`.
    NatsSync { clients: u32 },
    /// `nats bench js pub async`.
    NatsAsync { clients: u32, in_flight: u32 },
    /// `nats bench js consume` of one client, with explicit acknowledgements.
    NatsConsume,
}

/// Where what was handled is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dedup {
    /// Nowhere.
    #[default]
    Off,
    /// In the service's own tables.
    Embedded,
    /// In Redis.
    Redis,
}

/// The server of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The service on Kafka.
    Kafka,
    /// The same with its claims in Redis.
    KafkaRedis,
    /// The service on its embedded log.
    Embedded,
    /// The bare route on Kafka.
    Bare,
}

/// What is asked of the first contender of a row beside another one.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) figure: Figure,
    /// Which contender of the row it stands beside.
    pub(crate) beside: usize,
    pub(crate) bound: f64,
}

/// What is compared, and which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Events a second: at least `bound` times the other's.
    Rate,
    /// The 99th percentile: at most `bound` times the other's.
    P99,
    /// The 99th percentile: at most `bound` ms, whatever is beside it.
    P99Ms,
}

/// The most resident memory of the service in MB, whatever the load.
pub(crate) const RSS_MB_MAX: f64 = 60.0;

const RATE: u32 = 1000;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "http-1",
        about: "HTTP, single events, 1 connection",
        peers: false,
        contenders: &[
            Contender { name: "service", way: Way::Http { server: On::Kafka, connections: 1, batch: 1 } },
            Contender { name: "bare route", way: Way::Http { server: On::Bare, connections: 1, batch: 1 } },
            Contender { name: "rdkafka, 1 in flight", way: Way::Raw { in_flight: 1 } },
        ],
        targets: &[],
    },
    Row {
        name: "http-64",
        about: "HTTP, single events, 64 connections",
        peers: false,
        contenders: &[
            Contender { name: "service", way: Way::Http { server: On::Kafka, connections: 64, batch: 1 } },
            Contender { name: "bare route", way: Way::Http { server: On::Bare, connections: 64, batch: 1 } },
            Contender { name: "rdkafka, 64 in flight", way: Way::Raw { in_flight: 64 } },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 1, bound: 0.75 }],
    },
    Row {
        name: "http-batch",
        about: "HTTP, batches of 100, 8 connections",
        peers: false,
        contenders: &[
            Contender { name: "service", way: Way::Http { server: On::Kafka, connections: 8, batch: 100 } },
            Contender { name: "bare route", way: Way::Http { server: On::Bare, connections: 8, batch: 100 } },
            Contender { name: "rdkafka", way: Way::Flood },
            Contender { name: "ProducerPerformance", way: Way::KafkaTool },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 2, bound: 0.5 }],
    },
    Row {
        name: "grpc-stream",
        about: "gRPC, 8 streams",
        peers: false,
        contenders: &[
            Contender { name: "service, 4 messages of 100 on their way", way: stream(On::Kafka, 100, 4) },
            Contender { name: "service, 100 messages of 1", way: stream(On::Kafka, 1, 100) },
            Contender { name: "rdkafka", way: Way::Flood },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 2, bound: 0.6 }],
    },
    Row {
        name: "latency",
        about: "1000 single events a second, latency from when each was due",
        peers: false,
        contenders: &[
            Contender { name: "service", way: Way::PacedHttp { server: On::Kafka, rate: RATE } },
            Contender { name: "bare route", way: Way::PacedHttp { server: On::Bare, rate: RATE } },
            Contender { name: "rdkafka", way: Way::PacedRaw { rate: RATE } },
        ],
        targets: &[Target { figure: Figure::P99, beside: 2, bound: 1.5 }],
    },
    Row {
        name: "consume-handler",
        about: "all of a topic of Kafka, each key in order, committed: a handler in a Rust application",
        peers: false,
        contenders: &[
            Contender { name: "Rust handler", way: Way::Handler { dedup: Dedup::Off } },
            Contender {
                name: "Rust handler, deduplicated durably",
                way: Way::Handler { dedup: Dedup::Embedded },
            },
            Contender { name: "rdkafka", way: Way::RawConsume },
            Contender {
                name: "Rust handler, deduplicated in Redis",
                way: Way::Handler { dedup: Dedup::Redis },
            },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 2, bound: 0.5 }],
    },
    Row {
        name: "consume-grpc",
        about: "the same: one gRPC stream, acknowledged as it comes",
        peers: false,
        contenders: &[
            Contender { name: "service", way: subscribe(On::Kafka, Acks::Together, Dedup::Off) },
            Contender {
                name: "service, deduplicated durably",
                way: subscribe(On::Kafka, Acks::Together, Dedup::Embedded),
            },
            Contender { name: "rdkafka", way: Way::RawConsume },
            Contender {
                name: "service, deduplicated in Redis",
                way: subscribe(On::KafkaRedis, Acks::Together, Dedup::Redis),
            },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 2, bound: 0.35 }],
    },
    Row {
        name: "consume-http",
        about: "the same: HTTP, pulls of 100, 8 connections",
        peers: false,
        contenders: &[
            Contender { name: "service", way: pull(On::Kafka, Dedup::Off) },
            Contender { name: "service, deduplicated durably", way: pull(On::Kafka, Dedup::Embedded) },
            Contender { name: "rdkafka", way: Way::RawConsume },
            Contender { name: "service, deduplicated in Redis", way: pull(On::KafkaRedis, Dedup::Redis) },
        ],
        targets: &[],
    },
    Row {
        name: "handled",
        about: "embedded log, one application: 1000 single events a second from publisher to handler",
        peers: false,
        contenders: &[
            Contender { name: "to the handler", way: Way::PacedHandler { rate: RATE, dedup: false } },
            Contender {
                name: "to the handler, claimed first",
                way: Way::PacedHandler { rate: RATE, dedup: true },
            },
            Contender { name: "to the receipt alone", way: Way::PacedReceipt { rate: RATE } },
        ],
        targets: &[Target { figure: Figure::P99Ms, beside: 0, bound: 25.0 }],
    },
    Row {
        name: "peers-single",
        about: "embedded log, durable at every receipt: single events, 64 clients",
        peers: true,
        contenders: &[
            Contender {
                name: "service, HTTP",
                way: Way::Http { server: On::Embedded, connections: 64, batch: 1 },
            },
            Contender { name: "NATS JetStream, fsync off, sync", way: Way::NatsSync { clients: 64 } },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 1, bound: 1.0 }],
    },
    Row {
        name: "peers-stream",
        about: "embedded log, durable at every receipt: 8 clients with 100 events each on their way",
        peers: true,
        contenders: &[
            Contender { name: "service, gRPC, 100 messages of 1", way: stream(On::Embedded, 1, 100) },
            Contender { name: "service, gRPC, 2 messages of 50", way: stream(On::Embedded, 50, 2) },
            Contender {
                name: "NATS JetStream, fsync off, async",
                way: Way::NatsAsync { clients: 8, in_flight: 100 },
            },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 2, bound: 1.0 }],
    },
    Row {
        name: "peers-consume",
        about: "embedded log: one client takes all of a topic and acknowledges each event",
        peers: true,
        contenders: &[
            Contender {
                name: "service, gRPC, without deduplication",
                way: subscribe(On::Embedded, Acks::Together, Dedup::Off),
            },
            Contender {
                name: "service, gRPC, a request an event, without deduplication",
                way: subscribe(On::Embedded, Acks::OneByOne, Dedup::Off),
            },
            Contender {
                name: "service, gRPC, acknowledged durably",
                way: subscribe(On::Embedded, Acks::Together, Dedup::Embedded),
            },
            Contender { name: "NATS JetStream, acknowledgements not waited for", way: Way::NatsConsume },
        ],
        targets: &[Target { figure: Figure::Rate, beside: 3, bound: 1.0 }],
    },
];

/// As many deliveries out as a subscription allows by default.
const fn subscribe(server: On, acks: Acks, dedup: Dedup) -> Way {
    Way::Subscribe { server, credits: 1000, acks, dedup }
}

const fn pull(server: On, dedup: Dedup) -> Way {
    Way::Pull { server, max: 100, connections: 8, dedup }
}

/// Eight streams.
const fn stream(server: On, batch: usize, in_flight: usize) -> Way {
    Way::Grpc { server, streams: 8, batch, in_flight }
}
