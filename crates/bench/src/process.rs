//! The servers under load, as processes of their own, and what the kernel says of them.

use crate::Outcome;
use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The kernel's unit of CPU time in /proc, the same on all common machines.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Held so that it lives as long as this does.
    _child: Child,
    pub(crate) pid: u32,
    /// The line with which it said that it is ready.
    ready: String,
    log: PathBuf,
}

impl Server {
    /// Starts a program and waits until it says a line that begins with `ready`, on its standard output;
    /// its standard error goes to the file `log`.
    pub(crate) async fn start(
        program: &Path,
        arguments: &[OsString],
        ready: &str,
        log: &Path,
    ) -> Outcome<Self> {
        Self::start_within(PATIENCE, program, arguments, ready, log).await
    }

    /// The same with another patience.
    pub(crate) async fn start_within(
        patience: Duration,
        program: &Path,
        arguments: &[OsString],
        ready: &str,
        log: &Path,
    ) -> Outcome<Self> {
        let file = File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
        // What is set for a service of the user's own is not meant for this one.
        for (name, _) in std::env::vars_os() {
            if name == "KAFKA_BROKERS" || name.to_string_lossy().starts_with("EVENT_STREAMING") {
                command.env_remove(name);
            }
        }
        let mut child =
            command.spawn().map_err(|e| format!("{} cannot be started: {e}", program.display()))?;
        let pid = child.id().ok_or("a process without an id")?;
        let stdout = child.stdout.take().ok_or("a process without an output")?;
        let mut lines = BufReader::new(stdout).lines();
        let said = timeout(patience, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with(ready) {
                    return Some(line);
                }
            }
            None
        });
        let line = said.await.ok().flatten();
        let line =
            line.ok_or_else(|| format!("{} did not become ready:\n{}", program.display(), end_of(log)))?;
        // The pipe is read to its end, so that the process never waits for us.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { _child: child, pid, ready: line, log: log.to_owned() })
    }

    /// The rest of the word of its ready line that begins with `prefix`.
    pub(crate) fn word(&self, prefix: &str) -> Outcome<String> {
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(prefix));
        found.map(str::to_owned).ok_or_else(|| format!("no {prefix} in: {}", self.ready))
    }

    /// The end of what it wrote to its standard error.
    pub(crate) fn log(&self) -> String {
        end_of(&self.log)
    }
}

/// The seconds of CPU that a process has taken so far, its threads' all together.
pub(crate) fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    ticks(&text).map(|ticks| ticks as f64 / TICKS_PER_SECOND).ok_or_else(|| format!("{path} cannot be read"))
}

/// A size of a process in MB, `VmRSS` or `VmHWM`.
pub(crate) fn memory_mb(pid: u32, what: &str) -> Outcome<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    kilobytes(&text, what).map(|kb| kb as f64 / 1024.0).ok_or_else(|| format!("{path} has no {what}"))
}

fn ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything; behind it the state is field 3, the times are 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn kilobytes(status: &str, what: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0";
        assert_eq!(ticks(stat), Some(300));
        assert!(cpu_seconds(std::process::id()).is_ok());
    }

    #[test]
    fn memory_is_read_by_its_name() {
        assert_eq!(kilobytes("VmPeak:\t  9 kB\nVmRSS:\t    2048 kB\n", "VmRSS"), Some(2048));
        assert_eq!(kilobytes("VmPeak:\t  9 kB\n", "VmRSS"), None);
        assert!(memory_mb(std::process::id(), "VmHWM").unwrap() > 0.0);
    }
}
