//! NATS JetStream and its own benchmark.

use crate::{Outcome, measure::Run, process};
use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};

/// A server with a file store that it syncs every two minutes: what it is when nothing is set. Dropping
/// it kills it.
#[derive(Debug)]
pub(crate) struct Nats {
    _child: Child,
    pid: u32,
    url: String,
}

impl Nats {
    /// Starts `nats-server`, which must be on the path, with its data in `folder`.
    pub(crate) async fn start(folder: &Path) -> Outcome<Self> {
        let log_path = folder.join("nats.log");
        let log = File::create(&log_path).map_err(|e| format!("{}: {e}", log_path.display()))?;
        // It does not say which port it took when it is to take a free one.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.map_err(|e| format!("no port can be taken: {e}"))?.port();
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]);
        command
            .arg(folder.join("nats"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|e| format!("nats-server cannot be started: {e}"))?;
        let pid = child.id().ok_or("a process without an id")?;
        let deadline = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(format!("nats-server did not become ready:\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { _child: child, pid, url: format!("nats://127.0.0.1:{port}") })
    }

    /// Publishes `events` by so many clients, each waiting for each acknowledgement, or for every
    /// `in_flight` of them where that is given, to a stream of its own.
    pub(crate) async fn publish(
        &self,
        stream: &str,
        clients: u32,
        in_flight: Option<u32>,
        events: u64,
    ) -> Outcome<Run> {
        // It deals out whole shares only.
        let events = events / u64::from(clients) * u64::from(clients);
        let before = process::cpu_seconds(self.pid)?;
        let text = said(self.publishing(stream, clients, in_flight, events)).await?;
        let mut run = self.told(&text, events, before)?;
        self.delete(stream).await?;
        if in_flight.is_none() {
            // Of asynchronous publishers it tells how long as many took as are on their way together.
            (run.p50_ms, run.p99_ms) = (latency_ms(&text, "P50"), latency_ms(&text, "P99"));
        }
        Ok(run)
    }

    /// Fills a stream of its own with `events`, and measures one client that takes and acknowledges each.
    /// Acknowledgements are sent, and nobody waits for their effect.
    pub(crate) async fn consume(&self, stream: &str, events: u64) -> Outcome<Run> {
        said(self.publishing(stream, 1, Some(500), events)).await?;
        let mut command = self.command();
        command.args(["bench", "js", "consume", "--no-progress", "--acks", "explicit", "--stream", stream]);
        command.args(["--clients", "1", "--msgs", &events.to_string()]);
        let before = process::cpu_seconds(self.pid)?;
        let text = said(command).await?;
        let run = self.told(&text, events, before)?;
        self.delete(stream).await?;
        Ok(run)
    }

    fn publishing(&self, stream: &str, clients: u32, in_flight: Option<u32>, events: u64) -> Command {
        let mut command = self.command();
        command.args(["bench", "js", "pub", if in_flight.is_some() { "async" } else { "sync" }, stream]);
        command.args(["--create", "--purge", "--no-progress", "--storage", "file"]);
        // It sets that much of the disk aside; each message is kept with some bytes of its own.
        let bytes = (events * 2 * crate::events::VALUE_BYTES as u64).max(1 << 30);
        command.args(["--maxbytes", &format!("{}MB", bytes >> 20)]);
        command.args(["--stream", stream, "--size", &crate::events::VALUE_BYTES.to_string()]);
        command.args(["--clients", &clients.to_string(), "--msgs", &events.to_string()]);
        if let Some(in_flight) = in_flight {
            command.args(["--batch", &in_flight.to_string()]);
        }
        command
    }

    /// What its benchmark told of `events`, and what the server took for them.
    fn told(&self, text: &str, events: u64, cpu_before: f64) -> Outcome<Run> {
        let cpu = process::cpu_seconds(self.pid)? - cpu_before;
        let events_per_second = rate(text).ok_or_else(|| format!("nats bench told no rate:\n{text}"))?;
        let rss_mb = Some(process::memory_mb(self.pid, "VmRSS")?);
        let cpu_seconds_per_million = Some(cpu * 1e6 / events as f64);
        Ok(Run { events_per_second, cpu_seconds_per_million, rss_mb, ..Run::default() })
    }

    async fn delete(&self, stream: &str) -> Outcome<()> {
        let mut command = self.command();
        command.args(["stream", "rm", "--force", stream]);
        said(command).await.map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nats");
        command.args(["--server", &self.url, "--no-context"]).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

async fn said(mut command: Command) -> Outcome<String> {
    let output = command.output().await.map_err(|e| format!("nats cannot be started: {e}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("nats ended with {}:\n{text}", output.status))
    }
}

/// The rate of all clients together: `… aggregated stats: 28,912 msgs/sec ~ 28 MiB/sec …`, or of the one
/// line that there is.
fn rate(output: &str) -> Option<f64> {
    let rated = |line: &&str| line.contains("msgs/sec");
    let all = output.lines().filter(rated).find(|line| line.to_lowercase().contains("aggregated"));
    let line = all.or_else(|| output.lines().find(rated))?;
    let number = line.split(" msgs/sec").next()?.split_whitespace().next_back()?;
    number.replace(',', "").parse().ok()
}

/// A percentile of all clients together: `latencies per operation … | P50 1,958.67us | …`.
fn latency_ms(output: &str, which: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.contains("latencies per operation"))?;
    let part = line.split('|').find_map(|part| part.trim().strip_prefix(which)?.strip_prefix(' '))?;
    let micros: f64 = part.trim().strip_suffix("us")?.replace(',', "").parse().ok()?;
    Some(micros / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_all_clients() {
        let output = "JS pub stats: [1] 400 msgs/sec ~ 1 KiB/sec\n\
            NATS JS synchronous publisher aggregated stats: 28,912 msgs/sec ~ 28 MiB/sec ~ 34.5us\n";
        assert_eq!(rate(output), Some(28_912.0));
        assert_eq!(rate("Pub stats: 1,000 msgs/sec ~ 1 KiB/sec"), Some(1000.0));
        assert_eq!(rate("no"), None);
    }

    #[test]
    fn a_latency_is_that_of_all_clients() {
        let output = "[1] 466 msgs/sec ~ P50: 1,961.57us ~ P99: 6,623.25us ~ P99.9: 24,991.53us\n\
            latencies per operation min 26.47us | P50 1,958.67us | P90 3,124.58us | P99 7,537.07us | P99.9: 15,647.94us\n";
        let micros = |which| latency_ms(output, which).map(|ms| (ms * 1000.0).round() as u64);
        assert_eq!((micros("P50"), micros("P99")), (Some(1959), Some(7537)));
        assert_eq!(latency_ms("no", "P99"), None);
    }
}
