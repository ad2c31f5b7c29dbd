//! The command line.

use crate::config::Sources;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// An event streaming service: publish and consume over HTTP and gRPC, on an embedded durable log or on
/// Apache Kafka.
#[derive(Debug, Parser)]
#[command(
    name = "event-streaming",
    version,
    after_help = "Exit codes: 0 done, 2 usage or configuration, 1 otherwise."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve until a signal comes (what is done when no command is given). A second signal ends it at once.
    Serve,
    /// Say whether the configuration is good, and what is in force, without secrets.
    CheckConfig,
    /// Show the service surviving a kill under load, on real flight departures, in a temporary folder.
    Demo,
}

/// Where settings come from beside the defaults and the environment.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// A YAML file of settings.
    #[arg(long, global = true, value_name = "FILE", env = "EVENT_STREAMING_CONFIG")]
    config: Option<PathBuf>,
    /// A setting by its dotted key, as server.http=127.0.0.1:8085; may be given again, and beats the
    /// environment (`EVENT_STREAMING__SERVER__HTTP`), which beats the file.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            // What is no text can be neither a name nor a value of ours.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            set: self.set.clone(),
        }
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

    #[test]
    fn settings_are_taken_before_and_after_the_command() {
        let parse = |arguments: &[&str]| Cli::try_parse_from(arguments).expect("they can be read").settings;
        for arguments in
            [["event-streaming", "serve", "--set", "a=b=c"], ["event-streaming", "--set", "a=b=c", "serve"]]
        {
            assert_eq!(parse(&arguments).sources().set, ["a=b=c"]);
        }
        assert_eq!(parse(&["event-streaming", "--set", "a=b"]).sources().set, ["a=b"]);
    }
}
