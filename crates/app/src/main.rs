//! The event streaming service: reads its configuration, wires the fronts to the domain and the domain
//! to the backends, serves, and stops in order. `event-streaming --help` says what else it does.
//!
//! This crate must never decide anything about events: it only puts parts together.

mod cli;
mod config;

use crate::cli::{Cli, Command};
use clap::Parser as _;
use std::process::ExitCode;

/// Batches are allocated on one thread and freed on another all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Usage, or a configuration that cannot be taken.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Wrong arguments end here, with 2.
    let cli = Cli::parse();
    let settings = cli.settings;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => with_config(&settings, |_loaded| ExitCode::SUCCESS),
        Command::CheckConfig => with_config(&settings, check_config),
    }
}

fn with_config(settings: &cli::Settings, run: impl FnOnce(config::Loaded) -> ExitCode) -> ExitCode {
    match config::load(&settings.sources()) {
        Ok(loaded) => run(loaded),
        Err(wrong) => {
            eprintln!("event-streaming: {wrong}");
            ExitCode::from(USAGE)
        }
    }
}

fn check_config(loaded: config::Loaded) -> ExitCode {
    // The password's file is read, and every name translated, as a start would.
    if let Err(wrong) = loaded.config.kafka() {
        eprintln!("event-streaming: {}", loaded.wrong(wrong));
        return ExitCode::from(USAGE);
    }
    print!("{}", loaded.show());
    for key in &loaded.without_effect {
        eprintln!("event-streaming: `{key}` has no effect in this version");
    }
    let log = if loaded.config.log.backend == config::LogBackend::Kafka { "kafka" } else { "embedded" };
    eprintln!("event-streaming: the configuration is good; the log is {log}: {}", loaded.log_because);
    ExitCode::SUCCESS
}
