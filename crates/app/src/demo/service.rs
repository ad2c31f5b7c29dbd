//! The service under demonstration: this same program, as a process of its own.

use super::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use std::{fs::File, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

/// How long a start or a stop may take before the demonstration is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the service is.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// HTTP, base path included.
    pub(super) http: String,
    /// gRPC.
    pub(super) grpc: String,
}

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    pub(super) addresses: Addresses,
    /// From the start of the process to its ready line.
    pub(super) took: Duration,
}

impl Service {
    /// Starts it in `folder`, on free ports, and waits until it is ready. Its log goes to `service.log` there.
    pub(super) async fn start(folder: &Path) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        let log = folder.join("service.log");
        let log = File::options().create(true).append(true).open(&log);
        let log = log.map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut command = Command::new(program);
        command.arg("serve");
        for setting in [
            "server.http=127.0.0.1:0",
            "server.grpc=127.0.0.1:0",
            "log.backend=embedded",
            &format!("embedded.data-dir={}", folder.join("data").display()),
        ] {
            command.args(["--set", setting]);
        }
        // What is set for a service of the user's own is not meant for this one.
        for (name, _) in std::env::vars_os() {
            let of_ours = name.to_str().is_some_and(|name| name.starts_with("EVENT_STREAMING"));
            if of_ours || name == "KAFKA_BROKERS" {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let begin = Instant::now();
        let mut child = command.spawn().map_err(|e| format!("the service cannot be started: {e}"))?;
        let stdout = child.stdout.take().ok_or("the service has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = timeout(PATIENCE, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("event-streaming ready:") {
                    return Some(line);
                }
            }
            None
        });
        let line = ready
            .await
            .map_err(|_| "the service did not become ready in time".to_owned())?
            .ok_or("the service ended before it was ready")?;
        let word = |prefix: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(prefix));
            found.map(str::to_owned).ok_or_else(|| format!("no {prefix} in: {line}"))
        };
        let addresses = Addresses { http: word("http=")?, grpc: word("grpc=")? };
        Ok(Self { child, addresses, took: begin.elapsed() })
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) async fn kill(mut self) -> Outcome<()> {
        self.child.kill().await.map_err(|e| format!("the service cannot be killed: {e}"))
    }

    /// SIGTERM, and waits for an end that must be a success.
    pub(super) async fn stop(mut self) -> Outcome<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or("the service ended by itself")?;
        kill_process(pid, Signal::TERM).map_err(|e| format!("the service cannot be signalled: {e}"))?;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.map_err(|_| "the service did not stop in time".to_owned())?;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the service stopped with {status}")),
            Err(e) => Err(format!("the service cannot be waited for: {e}")),
        }
    }
}
