//! The event streaming service: reads its configuration, wires the fronts to the domain and the domain
//! to the backends, serves, and stops in order. `event-streaming --help` says what else it does.
//!
//! This crate must never decide anything about events: it only puts parts together.

mod backends;
mod cli;
mod config;
mod demo;
mod health;
mod outside;
mod serve;
mod servers;
mod stop;
mod telemetry;

use crate::cli::{Cli, Command};
use clap::Parser as _;
use serve::Failure;
use std::process::ExitCode;
use tokio::time::Instant;

/// Batches are allocated on one thread and freed on another all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Usage, or a configuration that cannot be taken.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let begin = Instant::now();
    // Wrong arguments end here, with 2.
    let cli = Cli::parse();
    let run = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => load(&cli.settings).and_then(|loaded| serve::run(&loaded, begin)),
        Command::CheckConfig => load(&cli.settings).and_then(|loaded| check_config(&loaded)),
        Command::Demo => run_demo(),
    };
    run.unwrap_or_else(|failure| {
        eprintln!("event-streaming: {failure}");
        ExitCode::from(if matches!(failure, Failure::Config(_)) { USAGE } else { 1 })
    })
}

fn load(settings: &cli::Settings) -> Result<config::Loaded, Failure> {
    Ok(config::load(&settings.sources())?)
}

fn check_config(loaded: &config::Loaded) -> Result<ExitCode, Failure> {
    // What a start finds out beyond the values themselves, short of asking a server.
    let config = &loaded.config;
    config.kafka().map_err(|at| loaded.wrong(at))?;
    config.servers().map_err(|at| loaded.wrong(at))?;
    telemetry::filter(config).map_err(|at| loaded.wrong(at))?;
    print!("{}", loaded.show());
    for key in &loaded.without_effect {
        eprintln!("event-streaming: `{key}` has no effect");
    }
    let log = config.log.backend.name();
    let (state, claims) = (config.state.backend.name(), config.event_streaming.idempotency.backend.name());
    eprintln!(
        "event-streaming: the configuration is good; the log is {log}: {}; the state is in {state}; claims are in {claims}: {}",
        loaded.log_because, loaded.idempotency_because
    );
    Ok(ExitCode::SUCCESS)
}

fn run_demo() -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Other(format!("the runtime cannot be started: {e}")))?;
    runtime
        .block_on(demo::run())
        .map_err(|why| Failure::Other(format!("the demonstration failed: {why}")))?;
    Ok(ExitCode::SUCCESS)
}
