//! The service as a process.

use crate::{Client, PATIENCE, Server, binary, servers};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

/// Which log the service keeps its events in.
#[derive(Clone, Debug)]
pub enum Log {
    /// Its own, in the data directory.
    Embedded,
    /// A real Kafka, up for as long as this is held.
    Kafka(Arc<Server>),
}

impl Log {
    /// The embedded log.
    pub fn embedded() -> Self {
        Self::Embedded
    }

    /// A real Kafka, started where none is named.
    pub async fn kafka() -> Self {
        Self::Kafka(servers::kafka().await)
    }

    /// As the ready line and the configuration name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka(_) => "kafka",
        }
    }
}

/// How to start the service: on which log, in which data directory, with which settings beside.
#[derive(Clone, Debug)]
pub struct Setup {
    log: Log,
    settings: Vec<String>,
}

impl Setup {
    /// On `log`, everything else as configured by default, on free ports of the loopback.
    pub fn on(log: &Log) -> Self {
        Self { log: log.clone(), settings: Vec::new() }
    }

    /// With `key` (a dotted path of the configuration) set to `value`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// Starts it on `data` and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in time, with what it wrote.
    pub async fn start(&self, data: &Path) -> Service {
        match self.try_start(data).await {
            Ok(service) => service,
            Err(ended) => {
                panic!("the service ended with {} instead of becoming ready:\n{}", ended.status, ended.output)
            }
        }
    }

    /// Starts it on `data` and waits until it is ready or has ended.
    ///
    /// # Panics
    /// When neither happens in time.
    pub async fn try_start(&self, data: &Path) -> Result<Service, Ended> {
        let mut child = self.command(data).spawn().expect("the binary can be started");
        let output = Output::default();
        let (ready, mut is_ready) = watch::channel(None);
        let readers = [
            output.collect(child.stdout.take().expect("stdout is piped"), ready.clone()),
            output.collect(child.stderr.take().expect("stderr is piped"), ready),
        ];
        let mut service = Service {
            child,
            output,
            readers,
            http: String::new(),
            grpc: String::new(),
            ready_line: String::new(),
        };
        let said = tokio::time::timeout(PATIENCE, is_ready.wait_for(Option::is_some)).await;
        match said.expect("the service becomes ready, or ends, in time") {
            Ok(line) => {
                service.ready_line = line.clone().unwrap_or_default();
                service.http = word(&service.ready_line, "http=");
                service.grpc = word(&service.ready_line, "grpc=");
                Ok(service)
            }
            // Both ends of its output are closed: it is over.
            Err(_closed) => {
                let status = service.wait().await;
                Err(Ended { status, output: service.output.text() })
            }
        }
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(binary());
        // What is set in the environment of the test run must not reach the service unsaid.
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "RUST_BACKTRACE"));
        command.current_dir(data).arg("serve");
        let mut set = |setting: &str| {
            command.arg("--set").arg(setting);
        };
        set("server.http=127.0.0.1:0");
        set("server.grpc=127.0.0.1:0");
        set(&format!("embedded.data-dir={}", data.display()));
        set(&format!("log.backend={}", self.log.name()));
        if let Log::Kafka(server) = &self.log {
            set(&format!("kafka.bootstrap-servers={}", server.address));
        }
        self.settings.iter().for_each(|setting| set(setting));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// A service that ended instead of becoming ready.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it wrote, on both streams.
    pub output: String,
}

/// A running service. Dropping it kills it, and shows what it wrote when the test is failing.
#[derive(Debug)]
pub struct Service {
    child: Child,
    output: Output,
    readers: [JoinHandle<()>; 2],
    http: String,
    grpc: String,
    ready_line: String,
}

impl Service {
    /// The base URL of the HTTP front, base path included.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// The URL of the gRPC front.
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// The line with which it said that it is ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// A client of its HTTP front.
    pub fn client(&self) -> Client {
        Client::new(&self.http)
    }

    /// All that it has written so far.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// The bytes of memory that the process has in use now, as the system counts them (`Rss`), but for the
    /// pages of the program's own file: the system takes those back when it needs them, and a build that is
    /// not optimised has some three times as many of them.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resident_bytes(&self) -> u64 {
        let process = PathBuf::from(format!("/proc/{}", self.child.id().expect("it is running")));
        let program = std::fs::read_link(process.join("exe")).expect("it has a program");
        let program = program.to_str().expect("a path in UTF-8");
        let maps = std::fs::read_to_string(process.join("smaps")).expect("it can be looked at");
        let (mut kib, mut of_program) = (0, false);
        for line in maps.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            if name == "Rss:" {
                let here: u64 = rest.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
                kib += if of_program { 0 } else { here };
            } else if !name.ends_with(':') {
                // The addresses of the next piece, and what is mapped there.
                of_program = rest.ends_with(program);
            }
        }
        kib << 10
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// SIGTERM, and waits for the end that it comes to.
    ///
    /// # Panics
    /// When it is still there after [`PATIENCE`].
    pub async fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it is running");
        kill_process(pid, Signal::TERM).expect("a child can be signalled");
        self.wait().await
    }

    /// Waits for its end, and for the last of its output.
    async fn wait(&mut self) -> ExitStatus {
        let end = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = end.expect("the service ends in time").expect("a child can be waited for");
        for reader in &mut self.readers {
            // A grandchild could hold the pipe open; nothing of its is needed.
            let _ = tokio::time::timeout(Duration::from_secs(1), reader).await;
        }
        status
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.output.text();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of what the service wrote:");
            for line in &lines[lines.len().saturating_sub(60)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// What the process wrote, on both streams as it came.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads `from` to its end; tells `ready` of the line that says so.
    fn collect(
        &self,
        from: impl AsyncRead + Unpin + Send + 'static,
        ready: watch::Sender<Option<String>>,
    ) -> JoinHandle<()> {
        let output = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                {
                    let mut text = output.0.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
                if line.starts_with("event-streaming ready:") {
                    ready.send_replace(Some(line));
                }
            }
        })
    }
}

/// The rest of the word in `line` that begins with `prefix`.
fn word(line: &str, prefix: &str) -> String {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(prefix))
        .unwrap_or_else(|| panic!("no {prefix} in the ready line: {line}"))
        .trim_end_matches('/')
        .to_owned()
}
