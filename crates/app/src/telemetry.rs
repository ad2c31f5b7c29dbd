//! Logs, to standard error: text for people, or JSON for machines.

use crate::config::{Config, LogFormat};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Begins logging as configured.
///
/// # Errors
/// The key at fault, and what is wrong with it.
pub(crate) fn begin(config: &Config) -> Result<(), (&'static str, String)> {
    let filter = filter(config)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let begun = match config.logging.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    begun.map_err(|e| ("logging.format", e.to_string()))
}

/// What is logged.
///
/// # Errors
/// The key at fault, and what is wrong with it.
pub(crate) fn filter(config: &Config) -> Result<EnvFilter, (&'static str, String)> {
    EnvFilter::builder().parse(&config.logging.level).map_err(|e| ("logging.level", e.to_string()))
}
