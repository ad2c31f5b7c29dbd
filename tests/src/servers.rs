//! The servers behind the service: those that the environment names, or else started here.

use crate::workspace_root;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
};

/// A server that is up for as long as this is held.
#[derive(Debug)]
pub struct Server {
    /// What a client is told: `host:port` of Kafka, a URL of the others.
    pub address: String,
    /// Stops what was started for this run, when it is dropped.
    _keep: Option<Keep>,
}

impl Server {
    /// A server that somebody else keeps up.
    pub fn at(address: &str) -> Arc<Self> {
        Arc::new(Self { address: address.to_owned(), _keep: None })
    }
}

/// Which server, and the variable that names one which is there already.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kafka,
    Redis,
    Postgres,
}

impl Kind {
    const fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_BROKERS",
            Self::Redis => "REDIS_URL",
            Self::Postgres => "DATABASE_URL",
        }
    }
}

/// A Kafka: `KAFKA_BROKERS`, or one node started for this run.
pub async fn kafka() -> Arc<Server> {
    shared(Kind::Kafka).await
}

/// A Redis: `REDIS_URL`, or one started for this run.
pub async fn redis() -> Arc<Server> {
    shared(Kind::Redis).await
}

/// A PostgreSQL: `DATABASE_URL`, or one started for this run.
pub async fn postgres() -> Arc<Server> {
    shared(Kind::Postgres).await
}

/// The script that starts real servers without Docker.
pub fn services_script() -> PathBuf {
    workspace_root().join("scripts/services.sh")
}

/// All tests of this process share one server of a kind.
async fn shared(kind: Kind) -> Arc<Server> {
    static SERVERS: [Mutex<Weak<Server>>; 3] = [const { Mutex::new(Weak::new()) }; 3];
    // Starting blocks, and containers cannot be started from within a runtime.
    let start = move || {
        let mut slot = SERVERS[kind as usize].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        slot.upgrade().unwrap_or_else(|| {
            let server = Arc::new(open(kind));
            *slot = Arc::downgrade(&server);
            server
        })
    };
    tokio::task::spawn_blocking(start)
        .await
        .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

fn open(kind: Kind) -> Server {
    match std::env::var(kind.variable()) {
        Ok(address) if !address.is_empty() => Server { address, _keep: None },
        _ => start(kind),
    }
}

#[cfg(not(feature = "testcontainers"))]
use script::{Keep, start};

#[cfg(not(feature = "testcontainers"))]
mod script {
    use super::{Kind, Server, services_script};
    use std::process::Command;

    /// The script itself stops what it started for a process, once that has ended.
    #[derive(Debug)]
    pub(super) struct Keep;

    /// Through the project's own script, which is quick where the server is up already.
    pub(super) fn start(kind: Kind) -> Server {
        let name = match kind {
            Kind::Kafka => "kafka",
            Kind::Redis => "redis",
            Kind::Postgres => "postgres",
        };
        run(&["up", "--for", &std::process::id().to_string(), name]);
        let addresses = run(&["env"]);
        let address = addresses
            .lines()
            .find_map(|line| line.strip_prefix(kind.variable())?.strip_prefix('='))
            .unwrap_or_else(|| panic!("{name} is up but has no address in: {addresses}"));
        Server { address: address.to_owned(), _keep: Some(Keep) }
    }

    fn run(arguments: &[&str]) -> String {
        let output =
            Command::new(services_script()).args(arguments).output().expect("the script can be started");
        assert!(
            output.status.success(),
            "scripts/services.sh {} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[cfg(feature = "testcontainers")]
use containers::{Keep, start};

#[cfg(feature = "testcontainers")]
mod containers {
    use super::{Kind, Server};
    use std::{
        sync::mpsc::{Sender, channel},
        thread::JoinHandle,
    };
    use testcontainers_modules::{
        kafka::apache::{KAFKA_PORT, Kafka},
        postgres::Postgres,
        redis::{REDIS_PORT, Redis},
        testcontainers::{Container, Image, ImageExt, core::ContainerPort, runners::SyncRunner},
    };

    /// The thread that owns a container; it removes it when the sender is gone. (A container holds a
    /// runtime, which may be dropped on no thread that belongs to another one.)
    #[derive(Debug)]
    pub(super) struct Keep(Option<(Sender<()>, JoinHandle<()>)>);

    impl Drop for Keep {
        fn drop(&mut self) {
            if let Some((wanted, owner)) = self.0.take() {
                drop(wanted);
                // A failure to remove it has been printed there.
                let _ = owner.join();
            }
        }
    }

    pub(super) fn start(kind: Kind) -> Server {
        match kind {
            // The tag that the module was made for: how such a container starts differs between them.
            Kind::Kafka => serve(Kafka::default(), KAFKA_PORT, |port| format!("127.0.0.1:{port}")),
            Kind::Redis => serve(Redis::default().with_tag("7"), REDIS_PORT, |port| {
                format!("redis://127.0.0.1:{port}/0")
            }),
            Kind::Postgres => serve(Postgres::default().with_tag("15-alpine"), 5432, |port| {
                format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres")
            }),
        }
    }

    fn serve<I: Image + 'static>(
        image: impl SyncRunner<I> + Send + 'static,
        port: impl Into<ContainerPort> + Send + 'static,
        address: impl FnOnce(u16) -> String + Send + 'static,
    ) -> Server {
        let (ready, is_ready) = channel();
        let (wanted, is_wanted) = channel::<()>();
        let owner = std::thread::spawn(move || {
            let container: Container<I> = image.start().expect("Docker starts the container");
            let mapped = container.get_host_port_ipv4(port).expect("the container's port is published");
            if ready.send(address(mapped)).is_ok() {
                // An error is the other end's going away, which is what is waited for.
                let _ = is_wanted.recv();
            }
            drop(container);
        });
        let address = is_ready.recv().expect("the container is up");
        Server { address, _keep: Some(Keep(Some((wanted, owner)))) }
    }
}
