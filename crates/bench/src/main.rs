//! The benches: the service as its users run it, beside the same work done with less in between, and
//! beside peers, in interleaved rounds on one machine. `docs/benchmarks.md` says how it is measured.
//!
//! This crate must never reach into the service: it knows its binary, its HTTP paths, its protocol buffers
//! and the crate that applications embed, as any client does.

mod bare;
mod cli;
mod consumer;
mod events;
mod http;
mod kafka;
mod load;
mod measure;
mod nats;
mod process;
mod producer;
mod report;
mod rows;
mod session;

use clap::Parser as _;
use cli::{Cli, Command};
use std::process::ExitCode;

/// The service has the same, and so the bare route has what the service has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What can go wrong here is said to a person and ends the run.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = match cli.command {
        Some(Command::BareRoute { brokers }) => bare::serve(&brokers),
        Some(Command::BareConsumer { brokers, topic, events }) => consumer::bare(&brokers, &topic, events),
        Some(Command::Handler { brokers, topic, events, data, dedup, redis }) => {
            let redis = redis.filter(|_| dedup == rows::Dedup::Redis);
            consumer::handler(&brokers, &topic, events, &data, dedup, redis.as_deref())
        }
        Some(Command::PacedHandler { data, rate, warm_up_ms, length_ms, dedup, receipts }) => {
            let millis = std::time::Duration::from_millis;
            let window = measure::Window::after(millis(warm_up_ms), millis(length_ms));
            let to = if receipts { consumer::To::Receipt } else { consumer::To::Handler { dedup } };
            consumer::paced(&data, rate, window, to)
        }
        None => bench(&cli.options),
    };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("event-streaming-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &cli::Options) -> Outcome<()> {
    // The load of 64 connections fits one thread, and a second one would only take from the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("the runtime cannot be started: {e}"))?;
    runtime.block_on(session::run(options))
}
