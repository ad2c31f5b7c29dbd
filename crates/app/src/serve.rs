//! `event-streaming serve`: starts, serves until it is told to stop, and stops in order.
//!
//! The order of the stop is what keeps promises: readiness goes first, so that no new work comes; then
//! deliveries, while the fronts still take their acknowledgements, and with them the last commits and the
//! leaving of groups; then the fronts, which finish what they are answering; then what was accepted to be
//! published later; the backends last. All of it has one deadline.

use crate::{
    backends::Backends,
    config::{Config, Loaded, STATE_BACKEND, StateBackend},
    health::{self, Watch},
    stop::{Panics, Reason, Signals},
    telemetry,
};
use adapters_embedded::SystemClock;
use domain::{
    browse::Browser,
    dead_letters::{DeadLetterPorts, DeadLetters},
    error::ErrorCode,
    event_schemas::EventSchemas,
    groups::Groups,
    jobs::{JobPorts, JobServices, Jobs},
    lag::LagMonitor,
    publish::Publisher,
    schemas::registry::Registry,
    subscriptions::{SubscriptionPorts, Subscriptions},
    topics::Topics,
};
use ports::Clock as _;
use std::{io::Write as _, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How often a state that cannot be read is asked for while starting.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// What ends the program before it serves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A setting that showed itself to be wrong only when it was put to use.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Serves; `begin` is when the process began.
pub(crate) fn run(loaded: &Loaded, begin: Instant) -> Result<ExitCode, Failure> {
    telemetry::begin(&loaded.config).map_err(|at| loaded.wrong(at))?;
    let panics = Panics::watch();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Other(format!("the runtime cannot be started: {e}")))?;
    let clean = runtime.block_on(async {
        let mut signals = Signals::take().map_err(|e| Failure::Other(format!("no signals: {e}")))?;
        let service = tokio::select! {
            service = Box::pin(Service::start(loaded, begin)) => service?,
            signal = signals.next() => {
                tracing::info!(signal, "stopped while starting");
                return Ok(true);
            }
        };
        let reason = service.ended(&mut signals, &panics).await;
        // Whoever asks twice does not want to wait.
        tokio::spawn(async move {
            let signal = signals.next().await;
            tracing::warn!(signal, "a second signal: ending at once");
            std::process::exit(1);
        });
        let clean = Box::pin(service.stop(reason)).await;
        Ok::<_, Failure>(clean && matches!(reason, Reason::Signal(_)))
    })?;
    // What still blocks a thread, as a client library may, does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(if clean && !panics.happened() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All that runs.
struct Service {
    backends: Backends,
    publisher: Arc<Publisher>,
    subscriptions: Arc<Subscriptions>,
    jobs: Arc<Jobs>,
    dead_letters: Arc<DeadLetters>,
    clock: Arc<SystemClock>,
    health: watch::Sender<api_http::Health>,
    watching: JoinHandle<()>,
    sampling: Option<JoinHandle<()>>,
    fronts: [JoinHandle<std::io::Result<()>>; 2],
    draining: CancellationToken,
    stop_fronts: CancellationToken,
    shutdown_timeout: Duration,
    drain_timeout: Duration,
}

impl Service {
    /// Opens, wires and serves everything, and says that it is ready.
    async fn start(loaded: &Loaded, begin: Instant) -> Result<Self, Failure> {
        let config = &loaded.config;
        let backend = config.log.backend;
        tracing::info!(
            log = backend.name(),
            because = loaded.log_because,
            state = config.state.backend.name(),
            idempotency = config.event_streaming.idempotency.backend.name(),
            idempotency_because = loaded.idempotency_because,
            schemas = config.schema_registry.backend.name(),
            schemas_because = loaded.schemas_because,
            "starting"
        );
        for key in &loaded.without_effect {
            tracing::warn!(key, "this setting has no effect");
        }
        let kafka = config.kafka().map_err(|at| loaded.wrong(at))?;
        let servers = config.servers().map_err(|at| loaded.wrong(at))?;
        let publish = config.publish().map_err(|at| loaded.wrong(at))?;
        let webhooks = config.webhooks().map_err(|at| loaded.wrong(at))?;
        let http = listen("server.http", config.server.http).await?;
        let grpc = listen("server.grpc", config.server.grpc).await?;
        let addresses = (address(&http)?, address(&grpc)?);

        let clock = Arc::new(SystemClock::new());
        let opening = {
            let (config, clock) = (config.clone(), clock.clone());
            tokio::task::spawn_blocking(move || Backends::open(&config, kafka, &servers, webhooks, clock))
        };
        let opened = opening.await.map_err(|e| Failure::Other(e.to_string()))?;
        let backends = opened.map_err(|error| Failure::Other(error.to_string()))?;

        let limits = Arc::new(config.limits());
        let log = backends.log.clone();
        let topics = Topics::new(
            backends.admin.clone(),
            log.clone(),
            clock.clone(),
            limits.clone(),
            config.topic_defaults(),
        );
        let registry = match &backends.outside {
            Some(outside) => Registry::outside(outside.registry(), clock.clone(), config.schema_registry()),
            None => Registry::new(backends.schemas.clone(), clock.clone(), config.schema_registry()),
        };
        let registry = Arc::new(registry);
        let schemas = EventSchemas::with_metadata(
            registry.clone(),
            topics.clone(),
            backends.jobs.clone(),
            clock.clone(),
            config.metadata(),
        );
        let publisher = Arc::new(Publisher::with_schemas(
            log.clone(),
            topics.clone(),
            clock.clone(),
            limits.clone(),
            publish,
            Some(backends.idempotency.clone()),
            Some(schemas.clone()),
        ));
        let browser = Arc::new(Browser::new(log.clone(), topics.clone(), limits.clone(), clock.clone()));
        let ports = SubscriptionPorts {
            log,
            membership: backends.membership.clone(),
            offsets: backends.offsets.clone(),
            jobs: backends.jobs.clone(),
            idempotency: backends.idempotency.clone(),
            clock: clock.clone(),
        };
        let webhooks = Some(backends.webhooks.clone());
        let delivery = config.delivery();
        let shared = delivery.shared;
        let subscriptions = Subscriptions::with_schemas(
            ports,
            topics.clone(),
            limits.clone(),
            delivery,
            webhooks,
            Some(schemas.clone()),
        );
        let dead_letters = DeadLetters::new(
            DeadLetterPorts { log: backends.log.clone(), clock: clock.clone() },
            subscriptions.clone(),
            topics.clone(),
            limits.clone(),
            Some(schemas.clone()),
            config.dead_letters(),
        );
        let job_ports =
            JobPorts { log: backends.log.clone(), jobs: backends.jobs.clone(), clock: clock.clone() };
        let job_services = JobServices {
            publisher: publisher.clone(),
            topics: topics.clone(),
            subscriptions: subscriptions.clone(),
            dead_letters: dead_letters.clone(),
            schemas: Some(schemas.clone()),
        };
        let jobs = Jobs::new(job_ports, job_services, limits.clone(), config.jobs());
        let state = config.state.backend;
        // What values follow is known before anything is delivered.
        load(state, || schemas.start(shared)).await?;
        load(state, || subscriptions.start()).await?;
        load(state, || jobs.start()).await?;

        let monitor = config.lag().map(|config| {
            let (groups, log) = (backends.groups.clone(), backends.log.clone());
            Arc::new(LagMonitor::new(groups, log, topics.clone(), clock.clone(), config))
        });
        let groups = Arc::new(Groups::new(
            backends.groups.clone(),
            backends.log.clone(),
            clock.clone(),
            topics.clone(),
            subscriptions.clone(),
            monitor.clone(),
        ));
        let sampling = monitor.map(|monitor| tokio::spawn(async move { monitor.run().await }));

        // From here on liveness is answered; readiness once the log was asked.
        let health =
            watch::Sender::new(Watch::unknown(backend, &backends.servers, backends.outside.is_some()));
        let draining = CancellationToken::new();
        let stop_fronts = CancellationToken::new();
        let fronts = [
            tokio::spawn(api_http::serve(
                http,
                api_http::Services {
                    publisher: publisher.clone(),
                    browser: browser.clone(),
                    topics: topics.clone(),
                    subscriptions: subscriptions.clone(),
                    groups: groups.clone(),
                    registry: registry.clone(),
                    schemas: schemas.clone(),
                    dead_letters: dead_letters.clone(),
                    jobs: jobs.clone(),
                    limits: limits.clone(),
                    health: health.subscribe(),
                },
                config.http(),
                stop_fronts.clone(),
            )),
            tokio::spawn(api_grpc::serve(
                grpc,
                api_grpc::Services {
                    publisher: publisher.clone(),
                    topics: topics.clone(),
                    subscriptions: subscriptions.clone(),
                    groups,
                    registry: registry.clone(),
                    schemas: schemas.clone(),
                    dead_letters: dead_letters.clone(),
                    jobs: jobs.clone(),
                    limits,
                    clock: clock.clone(),
                    draining: draining.clone(),
                    serving: health::serving(health.subscribe()),
                },
                config.grpc(),
                stop_fronts.clone(),
            )),
        ];
        let (servers, appends) = (backends.servers.clone(), backends.appends.clone());
        let outside = backends.outside.clone();
        let watch = Watch { topics, registry, backend, servers, outside, appends, health: health.clone() };
        watch.look().await;
        health.send_modify(|health| health.ready = true);
        let watching = tokio::spawn(watch.run());
        ready(config, addresses, begin);
        Ok(Self {
            backends,
            publisher,
            subscriptions,
            jobs,
            dead_letters,
            clock,
            health,
            watching,
            sampling,
            fronts,
            draining,
            stop_fronts,
            shutdown_timeout: config.server.shutdown_timeout.0,
            drain_timeout: config.delivery.drain_timeout.0,
        })
    }

    /// Waits for what ends it.
    async fn ended(&self, signals: &mut Signals, panics: &Panics) -> Reason {
        signals.or_panic(panics).await
    }

    /// Stops in order. False when something did not come to its end in time.
    async fn stop(self, reason: Reason) -> bool {
        let deadline = Instant::now() + self.shutdown_timeout;
        self.health.send_modify(|health| health.ready = false);
        match reason {
            Reason::Signal(signal) => tracing::info!(signal, "stopping"),
            Reason::Panic => tracing::error!("stopping after a panic"),
        }
        self.watching.abort();
        if let Some(sampling) = &self.sampling {
            sampling.abort();
        }
        // Streams are told while what is out at them can still be decided.
        self.draining.cancel();

        let drained = self.clock.monotonic() + self.drain_timeout.min(self.shutdown_timeout);
        let stopping =
            futures::future::join(self.subscriptions.shutdown(drained), self.jobs.shutdown(drained));
        let left = timeout_at(deadline, stopping).await.is_ok();
        if !left {
            tracing::warn!(
                "subscriptions did not come to their end in time; what was not committed comes again"
            );
        }
        self.stop_fronts.cancel();
        for front in self.fronts {
            match timeout_at(deadline, front).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::warn!(%error, "a front ended badly"),
                Ok(Err(error)) => tracing::error!(%error, "a front did not survive"),
                Err(_late) => tracing::warn!("requests were cut off at the deadline"),
            }
        }
        // The log takes what it can within a moment, also when the deadline has passed.
        let left_for_log = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let emptied = self.publisher.shutdown(self.clock.monotonic() + left_for_log).await;
        if !emptied {
            tracing::warn!(
                "what was accepted to be published later, or its outcome, was cut off at the deadline"
            );
        }
        self.dead_letters.shutdown();
        drop((self.dead_letters, self.subscriptions, self.jobs, self.publisher));
        // Closing is quick, and is given its moment also when the deadline has passed.
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
        self.backends.close(patience).await;
        tracing::info!("stopped");
        left && emptied
    }
}

/// Starts the subscriptions, or what topics follow. Where what is known of them is on a server that does not answer, waits for it: a
/// replica that starts while that is away serves as soon as it is back.
async fn load(state: StateBackend, start: impl AsyncFn() -> domain::Result<()>) -> Result<(), Failure> {
    let mut waiting = false;
    loop {
        let Err(error) = start().await else { return Ok(()) };
        let passes = matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Timeout);
        if !state.is_server() || !passes {
            return Err(Failure::Other(format!("{STATE_BACKEND} is {}: {error}", state.name())));
        }
        // Said once, not at every attempt.
        if !std::mem::replace(&mut waiting, true) {
            tracing::warn!(%error, state = state.name(), "the state cannot be read: waiting for it");
        }
        tokio::time::sleep(STATE_INTERVAL).await;
    }
}

async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Failure::Other(format!("{key}: {address} cannot be listened at: {error}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Other(error.to_string()))
}

/// The line that others wait for.
fn ready(config: &Config, (http, grpc): (SocketAddr, SocketAddr), begin: Instant) {
    let line = format!(
        "event-streaming ready: http=http://{http}{base} grpc=http://{grpc} log={log} state={state} \
         idempotency={idempotency} in {took} ms\n",
        base = config.server.base_path,
        log = config.log.backend.name(),
        state = config.state.backend.name(),
        idempotency = config.event_streaming.idempotency.backend.name(),
        took = begin.elapsed().as_millis(),
    );
    // Nobody has to read it.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
