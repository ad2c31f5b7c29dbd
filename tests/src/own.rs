//! Servers of one test's own, which it may kill.

use crate::{Server, services_script};
use std::{net::TcpListener, sync::Arc};
use tempfile::TempDir;
use tokio::process::Command;

/// So many ports from the first are taken: three of Kafka's nodes, and their controllers 100 above.
const KAFKA_PORTS: [u16; 6] = [0, 1, 2, 100, 101, 102];

/// Servers that `scripts/services.sh` started in a folder and on ports of their own. Dropping them stops
/// them and removes their data; they end by themselves soon after this process, however it ends.
#[derive(Debug)]
pub struct OwnServers {
    dir: TempDir,
    port: u16,
}

impl OwnServers {
    /// Starts `service`, which is `kafka`, `kafka3` (three nodes), `redis` or `postgres`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn up(service: &str) -> Self {
        let own = Self { dir: tempfile::tempdir().expect("a folder"), port: free_ports() };
        own.run(&["up", "--for", &std::process::id().to_string(), service]).await;
        own
    }

    /// SIGKILL to one of `kafka-1`, `kafka-2`, `kafka-3`, `redis`, `postgres`; its data stays.
    ///
    /// # Panics
    /// When there is no such node.
    pub async fn kill(&self, node: &str) {
        self.run(&["kill", node]).await;
    }

    /// Starts it again on its data, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(&self, node: &str) {
        self.run(&["start", node]).await;
    }

    /// What a client is told, under the name that the script gives it: `KAFKA_BROKERS`, `REDIS_URL` or
    /// `DATABASE_URL`.
    ///
    /// # Panics
    /// When no such server was started.
    pub async fn server(&self, variable: &str) -> Arc<Server> {
        let addresses = self.run(&["env"]).await;
        let address = addresses.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        Server::at(address.unwrap_or_else(|| panic!("no {variable} in: {addresses}")))
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(services_script());
        for variable in ["SERVICES_KAFKA_PORT", "SERVICES_REDIS_PORT", "SERVICES_POSTGRES_PORT"] {
            command.env(variable, self.port.to_string());
        }
        command.env("SERVICES_DIR", self.dir.path()).env("SERVICES_GRACE_S", "1").args(arguments);
        let output = command.output().await.expect("the script can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/services.sh {} failed:\n{said}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        let script = std::process::Command::new(services_script())
            .arg("down")
            .env("SERVICES_DIR", self.dir.path())
            .status();
        if !std::thread::panicking() {
            assert!(script.is_ok_and(|status| status.success()), "the script could not stop what it started");
        }
    }
}

/// The first of ports that nobody listens on. They lie below those that systems give to clients, so that
/// nobody is given one by chance while a killed server is away.
fn free_ports() -> u16 {
    let is_free = |first: u16| {
        KAFKA_PORTS.iter().all(|beyond| TcpListener::bind(("127.0.0.1", first + beyond)).is_ok())
    };
    let (chance, _) = uuid::Uuid::new_v4().as_u64_pair();
    let begin = (chance % 10_000) as u16;
    (0..10_000).map(|n| 20_000 + (begin + n) % 10_000).find(|first| is_free(*first)).expect("free ports")
}
