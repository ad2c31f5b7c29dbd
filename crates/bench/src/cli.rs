//! The command line.

use crate::rows::Dedup;
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, time::Duration};

/// Measures the service beside raw clients of Kafka, and with --peers beside NATS JetStream, and says
/// which targets are met.
#[derive(Debug, Parser)]
#[command(name = "event-streaming-bench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The bare route, as a process of its own.
    #[command(hide = true)]
    BareRoute {
        /// `host:port`, separated by commas.
        brokers: String,
    },
    /// All of a topic by the client library, as a process of its own.
    #[command(hide = true)]
    BareConsumer { brokers: String, topic: String, events: u64 },
    /// All of a topic by a handler of an application that embeds the service.
    #[command(hide = true)]
    Handler {
        brokers: String,
        topic: String,
        events: u64,
        data: PathBuf,
        #[arg(long, value_enum, default_value_t)]
        dedup: Dedup,
        #[arg(long)]
        redis: Option<String>,
    },
    /// Single events at a rate from publisher to handler, or to receipt, in one application.
    #[command(hide = true)]
    PacedHandler {
        data: PathBuf,
        rate: u32,
        warm_up_ms: u64,
        length_ms: u64,
        #[arg(long)]
        dedup: bool,
        #[arg(long)]
        receipts: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How long each run is measured; it warms up before that.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each contender of a row runs; the rounds of one row are interleaved.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// This row alone; may be given again.
    #[arg(long, value_name = "ROW")]
    pub(crate) only: Vec<String>,
    /// This contender of each row alone, by its name in the table, as when a profile is taken; may be given
    /// again.
    #[arg(long, value_name = "NAME")]
    pub(crate) contender: Vec<String>,
    /// The embedded log beside NATS JetStream too; nats-server and nats must be on the path.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Where the figures are written as JSON; unless given, bench.json beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The service's binary; unless given, the one beside this program.
    #[arg(long, value_name = "FILE", env = "EVENT_STREAMING_BIN")]
    pub(crate) service: Option<PathBuf>,
    /// Where data is written, on a disk and not in memory; unless given, beside this program.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// A Kafka, `host:port`, separated by commas. Rows on Kafka need it.
    #[arg(long, value_name = "BROKERS", env = "KAFKA_BROKERS")]
    pub(crate) kafka: Option<String>,
    /// A Redis, `redis://host:port`, that claims are kept in where a contender says so.
    #[arg(long, value_name = "URL", env = "REDIS_URL")]
    pub(crate) redis: Option<String>,
    /// The jars of Kafka's own tools, for its `ProducerPerformance`.
    #[arg(long, value_name = "CLASSPATH", env = "KAFKA_CLASSPATH")]
    pub(crate) kafka_classpath: Option<String>,
}

impl Options {
    /// How long each run is measured.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long each run warms up.
    pub(crate) fn warm_up(&self) -> Duration {
        (self.window() / 4).max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
