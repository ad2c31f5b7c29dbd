//! One session: starts the servers that its rows need, lets the contenders take turns, and reports.

mod consuming;

use crate::{
    Outcome, bare,
    cli::Options,
    consumer, events, http,
    kafka::{self, Kafka},
    load,
    measure::{Run, Tally, Window},
    nats::Nats,
    process::{self, Server},
    report::{self, Measured},
    rows::{Contender, On, ROWS, Row, Way},
};
use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

/// How often memory is looked at under load.
const SAMPLE: Duration = Duration::from_millis(100);
/// How long a new topic may take to be known to the service.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs the rows that were asked for, prints the tables and writes the JSON.
pub(crate) async fn run(options: &Options) -> Outcome<()> {
    let rows = chosen(options)?;
    let beside = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    let beside = beside.parent().unwrap_or(Path::new(".")).to_owned();
    let mut session = Session::new(options, &beside)?;
    let mut measured = Vec::new();
    for row in rows {
        if row.peers {
            // Idle servers take little, but memory and wake-ups they do take.
            session.servers.retain(|(on, _)| *on == On::Embedded);
        }
        measured.push(session.measure(row).await?);
        report::print_row(measured.last().unwrap_or(&Measured { row, runs: Vec::new() }));
    }
    session.empty().await?;
    let json = options.json.clone().unwrap_or_else(|| beside.join("bench.json"));
    report::finish(&measured, &session.peaks, options, &json)
}

fn chosen(options: &Options) -> Outcome<Vec<&'static Row>> {
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    if let Some(unknown) = options.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("there is no row {unknown}; there are: {}", names.join(", ")));
    }
    let wanted = |row: &&Row| {
        let named = options.only.iter().any(|name| name == row.name);
        named || options.only.is_empty() && (!row.peers || options.peers)
    };
    Ok(ROWS.iter().filter(wanted).collect())
}

struct Session<'a> {
    options: &'a Options,
    /// Where servers write. Removed at the end.
    folder: TempDir,
    service: PathBuf,
    kafka: Option<Kafka>,
    servers: Vec<(On, Server)>,
    nats: Option<Nats>,
    /// Resident memory at its highest, of the service on each log.
    peaks: HashMap<&'static str, f64>,
    /// The last rate of those who are told a number of events rather than a time.
    paces: HashMap<&'static str, f64>,
    /// The topic that contenders on Kafka consume.
    filled: Option<consuming::Filled>,
    topics: u32,
}

impl<'a> Session<'a> {
    fn new(options: &'a Options, beside: &Path) -> Outcome<Self> {
        let dir = options.dir.as_deref().unwrap_or(beside);
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(dir);
        let service = options.service.clone().unwrap_or_else(|| beside.join("event-streaming"));
        if !service.is_file() {
            return Err(format!(
                "the service is not at {}: build it, or name it by --service",
                service.display()
            ));
        }
        // Topics of a session that was cut off may still be there.
        let topics = std::process::id();
        Ok(Self {
            options,
            folder: folder.map_err(|e| format!("{}: {e}", dir.display()))?,
            service: service.canonicalize().map_err(|e| format!("{}: {e}", service.display()))?,
            kafka: None,
            servers: Vec::new(),
            nats: None,
            peaks: HashMap::new(),
            paces: HashMap::new(),
            filled: None,
            topics: topics.wrapping_mul(1000),
        })
    }

    /// All rounds of a row, its contenders taking turns.
    async fn measure(&mut self, row: &'static Row) -> Outcome<Measured> {
        eprintln!("{}: {}", row.name, row.about);
        let mut runs = vec![Vec::new(); row.contenders.len()];
        for round in 1..=self.options.rounds {
            for (contender, runs) in row.contenders.iter().zip(&mut runs) {
                let named = |name: &String| name == contender.name;
                if !self.options.contender.is_empty() && !self.options.contender.iter().any(named) {
                    continue;
                }
                let run = self.run(contender).await;
                let run = run.map_err(|why| format!("{}, {}: {why}", row.name, contender.name))?;
                eprintln!("  round {round}, {}: {:.0} events/s", contender.name, run.events_per_second);
                runs.push(run);
            }
        }
        Ok(Measured { row, runs })
    }

    async fn run(&mut self, contender: &Contender) -> Outcome<Run> {
        self.topics = self.topics.wrapping_add(1);
        let topic = format!("bench-{}", self.topics);
        match contender.way {
            Way::Http { server, .. } | Way::Grpc { server, .. } | Way::PacedHttp { server, .. } => {
                self.serve(server).await?;
                self.served(contender, server, &topic).await
            }
            Way::Raw { .. } | Way::Flood | Way::PacedRaw { .. } => {
                let kafka = self.kafka()?;
                kafka.create(&topic).await?;
                self.raw(contender, &topic).await
            }
            Way::Subscribe { .. } | Way::Pull { .. } | Way::Handler { .. } | Way::RawConsume => {
                self.consume(contender, &topic).await
            }
            Way::PacedHandler { rate, dedup } => {
                self.paced_handler(rate, consumer::To::Handler { dedup }).await
            }
            Way::PacedReceipt { rate } => self.paced_handler(rate, consumer::To::Receipt).await,
            Way::KafkaTool => self.kafka_tool(contender, &topic).await,
            Way::NatsSync { clients } => self.nats(contender, &topic, clients, None).await,
            Way::NatsAsync { clients, in_flight } => {
                self.nats(contender, &topic, clients, Some(in_flight)).await
            }
            Way::NatsConsume => {
                let events = self.events_for(contender, 100_000.0);
                let run = self.nats_server().await?.consume(&topic, events).await?;
                self.paces.insert(contender.name, run.events_per_second);
                Ok(run)
            }
        }
    }

    async fn served(&mut self, contender: &Contender, on: On, topic: &str) -> Outcome<Run> {
        let server = self.server(on)?;
        let (pid, base) = (server.pid, server.word("http=")?);
        // The bare route has none.
        let grpc = server.word("grpc=").unwrap_or_default();
        self.create(on, &base, topic).await?;
        let window = self.window();
        let load = async {
            match contender.way {
                Way::PacedHttp { rate, .. } => {
                    let requests = events::requests(&base, topic, 1);
                    load::paced::over_http(&base, requests, rate, window).await
                }
                Way::Http { connections, batch, .. } => {
                    let requests = events::requests(&base, topic, batch);
                    load::http::closed(&base, requests, batch, connections, window).await
                }
                Way::Grpc { streams, batch, in_flight, .. } => {
                    let messages = events::messages(topic, batch);
                    load::grpc::streams(&grpc, messages, batch, (streams, in_flight), window).await
                }
                _ => Err("this is no load on a server of ours".to_owned()),
            }
        };
        let (tally, seen) = tokio::join!(load, sampled(pid, window));
        let tally = tally.map_err(|why| match self.server(on) {
            Ok(server) => format!("{why}\nthe end of the server's log:\n{}", server.log()),
            Err(_) => why,
        })?;
        let run = finished(&tally, &window, seen?)?;
        self.account(on, &base, topic, tally.all).await?;
        let log = match on {
            On::Kafka | On::KafkaRedis => "on Kafka",
            On::Embedded => "on the embedded log",
            On::Bare => return Ok(run),
        };
        self.peaks.insert(log, process::memory_mb(pid, "VmHWM")?);
        Ok(run)
    }

    async fn raw(&mut self, contender: &Contender, topic: &str) -> Outcome<Run> {
        let producer = self.kafka()?.producer.clone();
        let window = self.window();
        let load = async {
            match contender.way {
                Way::Raw { in_flight } => load::raw::closed(&producer, topic, in_flight, window).await,
                Way::PacedRaw { rate } => load::paced::raw(producer.clone(), topic, rate, window).await,
                _ => load::raw::flood(producer.clone(), topic, window).await,
            }
        };
        let (tally, seen) = tokio::join!(load, sampled(std::process::id(), window));
        let tally = tally?;
        // This program's memory says nothing about anybody's server.
        let mut run = finished(&tally, &window, seen?)?;
        run.rss_mb = None;
        if matches!(contender.way, Way::Flood) {
            // At full rate it is how long the queue is, and that is our choice.
            (run.p50_ms, run.p99_ms) = (None, None);
        }
        self.account(On::Kafka, "", topic, tally.all).await?;
        Ok(run)
    }

    async fn kafka_tool(&mut self, contender: &Contender, topic: &str) -> Outcome<Run> {
        let classpath = self.options.kafka_classpath.clone();
        let classpath =
            classpath.ok_or("Kafka's own tool needs KAFKA_CLASSPATH: start it by scripts/bench.sh")?;
        let events = self.events_for(contender, 100_000.0);
        let kafka = self.kafka()?;
        kafka.create(topic).await?;
        let run = kafka::producer_performance(&classpath, &kafka.brokers, topic, events).await?;
        kafka.delete(topic).await?;
        self.paces.insert(contender.name, run.events_per_second);
        Ok(run)
    }

    async fn nats(
        &mut self,
        contender: &Contender,
        stream: &str,
        clients: u32,
        in_flight: Option<u32>,
    ) -> Outcome<Run> {
        let events = self.events_for(contender, if in_flight.is_some() { 100_000.0 } else { 25_000.0 });
        let run = self.nats_server().await?.publish(stream, clients, in_flight, events).await?;
        self.paces.insert(contender.name, run.events_per_second);
        Ok(run)
    }

    async fn nats_server(&mut self) -> Outcome<&Nats> {
        if self.nats.is_none() {
            self.nats = Some(Nats::start(self.folder.path()).await?);
        }
        self.nats.as_ref().ok_or_else(|| "nats-server is not up".to_owned())
    }

    /// As many events as take as long as the other runs, by the last rate or else by this one.
    fn events_for(&self, contender: &Contender, rate: f64) -> u64 {
        let rate = self.paces.get(contender.name).copied().unwrap_or(rate);
        (rate * self.options.window().as_secs_f64()) as u64
    }

    fn window(&self) -> Window {
        Window::after(self.options.warm_up(), self.options.window())
    }

    fn kafka(&mut self) -> Outcome<&Kafka> {
        if self.kafka.is_none() {
            let brokers = self.options.kafka.as_deref();
            let brokers = brokers.ok_or("this row needs a Kafka: name it by KAFKA_BROKERS or --kafka")?;
            self.kafka = Some(Kafka::new(brokers)?);
        }
        self.kafka.as_ref().ok_or_else(|| "there is no Kafka".to_owned())
    }

    fn redis(&self) -> Outcome<&str> {
        let redis = self.options.redis.as_deref();
        redis.ok_or_else(|| "this row needs a Redis: name it by REDIS_URL or --redis".to_owned())
    }

    fn server(&self, on: On) -> Outcome<&Server> {
        let found = self.servers.iter().find(|(of, _)| *of == on);
        found.map(|(_, server)| server).ok_or_else(|| "the server is not up".to_owned())
    }

    /// Starts a server unless it is up.
    async fn serve(&mut self, on: On) -> Outcome<()> {
        if self.server(on).is_ok() {
            return Ok(());
        }
        let brokers = match on {
            On::Embedded => String::new(),
            On::Kafka | On::KafkaRedis | On::Bare => self.kafka()?.brokers.clone(),
        };
        let log = self.folder.path().join(format!("{on:?}.log"));
        let server = if on == On::Bare {
            let this = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
            Server::start(&this, &["bare-route".into(), brokers.into()], bare::READY, &log).await?
        } else {
            let data = self.folder.path().join(format!("{on:?}"));
            let mut arguments = service_arguments(on, &data, &brokers);
            if on == On::KafkaRedis {
                let (host, port) = address(self.redis()?)?;
                for setting in [format!("redis.host={host}"), format!("redis.port={port}")] {
                    arguments.extend(["--set".into(), setting.into()]);
                }
            }
            Server::start(&self.service, &arguments, "event-streaming ready:", &log).await?
        };
        self.servers.push((on, server));
        Ok(())
    }

    /// Makes a topic, and waits until the server takes events for it.
    async fn create(&mut self, on: On, base: &str, topic: &str) -> Outcome<()> {
        if on == On::Embedded {
            let body = format!("{{\"name\":\"{topic}\",\"partitions\":{}}}", kafka::PARTITIONS);
            let (status, answer) = http::call(base, "POST", "/v1/topics", &body).await?;
            return if status == 201 {
                Ok(())
            } else {
                Err(format!("a topic cannot be made: {status} {answer}"))
            };
        }
        self.kafka()?.create(topic).await?;
        if on == On::Bare {
            return Ok(());
        }
        let path = format!("/v1/topics/{topic}");
        let deadline = Instant::now() + PATIENCE;
        while http::call(base, "GET", &path, "").await?.0 != 200 {
            if Instant::now() > deadline {
                return Err(format!("the topic {topic} does not become known to the service"));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Looks whether the log comes to hold exactly what was acknowledged, and deletes the topic.
    async fn account(&mut self, on: On, base: &str, topic: &str, acknowledged: u64) -> Outcome<()> {
        // A broker may tell its end a moment after the acknowledgement.
        let deadline = Instant::now() + PATIENCE;
        let mut held = self.held(on, base, topic).await?;
        while held < acknowledged && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
            held = self.held(on, base, topic).await?;
        }
        if held != acknowledged {
            return Err(format!("{acknowledged} events were acknowledged, and the log holds {held}"));
        }
        if on == On::Embedded {
            http::call(base, "DELETE", &format!("/v1/topics/{topic}"), "").await?;
            return Ok(());
        }
        self.kafka()?.delete(topic).await
    }

    /// How many records a topic holds by its end offsets.
    async fn held(&mut self, on: On, base: &str, topic: &str) -> Outcome<u64> {
        if on != On::Embedded {
            return self.kafka()?.written(topic).await;
        }
        let (_, answer) = http::call(base, "GET", &format!("/v1/topics/{topic}"), "").await?;
        let topic: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        let partitions = topic["partitions"].as_array().ok_or_else(|| format!("no topic: {answer}"))?;
        Ok(partitions.iter().filter_map(|partition| partition["latestOffset"].as_u64()).sum())
    }
}

/// The host and port of `redis://host:port/…`.
pub(crate) fn address(redis: &str) -> Outcome<(&str, u16)> {
    let address = redis.strip_prefix("redis://").unwrap_or(redis).split('/').next().unwrap_or_default();
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.ok_or_else(|| format!("{redis} is no redis://host:port"))
}

fn service_arguments(on: On, data: &Path, brokers: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["serve".into()];
    let mut data_dir = OsString::from("embedded.data-dir=");
    data_dir.push(data);
    let log = if on == On::Embedded { "log.backend=embedded" } else { "log.backend=kafka" };
    let mut settings: Vec<OsString> =
        vec!["server.http=127.0.0.1:0".into(), "server.grpc=127.0.0.1:0".into(), log.into(), data_dir];
    if on != On::Embedded {
        settings.push(format!("kafka.bootstrap-servers={brokers}").into());
    }
    for setting in settings {
        arguments.extend(["--set".into(), setting]);
    }
    arguments
}

/// What a process takes within a window: seconds of CPU, and its memory at the highest that was seen.
async fn sampled(pid: u32, window: Window) -> Outcome<(f64, f64)> {
    sleep_until(window.begin).await;
    let before = process::cpu_seconds(pid)?;
    let mut highest: f64 = 0.0;
    while Instant::now() + SAMPLE < window.end {
        highest = highest.max(process::memory_mb(pid, "VmRSS")?);
        sleep(SAMPLE).await;
    }
    sleep_until(window.end).await;
    Ok((process::cpu_seconds(pid)? - before, highest))
}

fn finished(tally: &Tally, window: &Window, (cpu, rss): (f64, f64)) -> Outcome<Run> {
    if tally.counted == 0 {
        return Err("nothing was acknowledged".to_owned());
    }
    let mut run = Run::new(tally, window);
    run.cpu_seconds_per_million = Some(cpu * 1e6 / tally.counted as f64);
    run.rss_mb = Some(rss);
    Ok(run)
}
