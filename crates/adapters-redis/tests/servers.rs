//! Servers of the tests' own: killed, restarted, made a replica, out of memory, with passwords, with TLS, a
//! node of a cluster.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_redis::{Redis, RedisConfig};
use common::{LONG, acquired, claim, eventually, open, request, rival};
use ports::{Claim, ClaimRequest, Effect, ErrorKind, Expected, JobKind, Settled, Settlement};
use redis::{Client, FromRedisValue, aio::MultiplexedConnection};
use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A `redis-server` with a folder of its own. Killed when it is dropped.
struct Server {
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    process: Option<Child>,
}

impl Server {
    /// With an append-only file that is synced at every write, and these settings.
    async fn start(arguments: &[&str]) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let dir = tempfile::tempdir().expect("a folder");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { port, arguments, dir, process: None };
        server.again().await;
        server
    }

    /// Starts it, on the data that it has.
    async fn again(&mut self) {
        let settings =
            ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--dir", &self.dir.path().display().to_string()])
            .args(settings)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server can be started; where it is missing: scripts/setup.sh test");
        self.process = Some(process);
        eventually(|| async { tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok() }).await;
    }

    /// As `kill -9` does.
    async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await.expect("it can be killed");
    }

    fn config(&self) -> RedisConfig {
        RedisConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            request_timeout: Duration::from_secs(10),
            ..RedisConfig::default()
        }
    }

    /// Says something to it, as an operator does.
    async fn say<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a client");
        let mut connection: MultiplexedConnection =
            eventually(|| async { client.get_multiplexed_async_connection().await.ok() }).await;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.expect("the server does that")
    }
}

async fn kind_of(redis: &Redis, request: &ClaimRequest) -> ErrorKind {
    claim(redis, request).await.expect_err("it cannot be claimed").kind()
}

#[tokio::test]
async fn what_was_answered_outlives_the_server_being_killed() {
    let mut server = Server::start(&[]).await;
    let redis = open(&server.config());
    let (held, finished) = (request(), request());
    let claims = redis.idempotency().claim(vec![held.clone(), finished.clone()]).await;
    assert_eq!(claims.expect("they can be claimed"), [acquired(1), acquired(1)]);
    let completion = Settlement::Complete { outcome: "outcome".into(), keep: LONG };
    let batch = vec![(finished.key, finished.token, completion)];
    assert_eq!(redis.idempotency().settle(batch).await.expect("it can be settled"), [Settled::Applied]);
    server.kill().await;
    assert_eq!(kind_of(&redis, &request()).await, ErrorKind::Unavailable);
    server.again().await;
    // It does not know the scripts any more either.
    let other = rival(&held);
    let claim_of_other = eventually(|| async { claim(&redis, &other).await.ok() }).await;
    assert!(matches!(claim_of_other, Claim::InFlight { .. }), "{claim_of_other:?}");
    let done = Claim::Done { outcome: "outcome".into() };
    assert_eq!(claim(&redis, &rival(&finished)).await.expect("it is back"), done);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_no_error_of_opening() {
    let mut server = Server::start(&[]).await;
    server.kill().await;
    let redis = open(&server.config());
    let first = request();
    let error = claim(&redis, &first).await.expect_err("it is not there");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None), "{error}");
    server.again().await;
    let found = eventually(|| async { claim(&redis, &first).await.ok() }).await;
    assert_eq!(found, acquired(1));
}

#[tokio::test]
async fn a_refused_password_is_denied_until_the_server_takes_it() {
    let server = Server::start(&[]).await;
    let config = RedisConfig { password: Some("hunter2".to_owned()), ..server.config() };
    let redis = open(&config);
    let error = claim(&redis, &request()).await.expect_err("no such password");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Denied, Effect::None), "{error}");
    assert!(!format!("{error} {error:?} {redis:?}").contains("hunter2"));
    let _: () = server.say(&["CONFIG", "SET", "requirepass", "hunter2"]).await;
    assert_eq!(claim(&redis, &request()).await.expect("it is taken now"), acquired(1));
    let nowhere = open(&RedisConfig { database: 16, ..config });
    let error = claim(&nowhere, &request()).await.expect_err("there are 16");
    assert!(error.kind() == ErrorKind::Invalid && error.detail().contains("database"), "{error}");
    let without = open(&server.config());
    assert_eq!(kind_of(&without, &request()).await, ErrorKind::Denied);
    assert_eq!(without.check().await.expect_err("it is not taken").kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_unavailable_until_it_takes_writes() {
    let server = Server::start(&[]).await;
    let redis = open(&server.config());
    let first = request();
    claim(&redis, &first).await.expect("it can be claimed");
    let _: () = server.say(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = claim(&redis, &request()).await.expect_err("it takes no writes");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None), "{error}");
    let _: () = server.say(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(claim(&redis, &first).await.expect("it takes writes"), acquired(1));
}

#[tokio::test]
async fn a_full_memory_pushes_back_and_changes_nothing() {
    let server = Server::start(&[]).await;
    let redis = open(&server.config());
    let first = request();
    claim(&redis, &first).await.expect("it can be claimed");
    let _: () = server.say(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = claim(&redis, &request()).await.expect_err("there is no room");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Throttled, Effect::None), "{error}");
    let _: () = server.say(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(claim(&redis, &first).await.expect("there is room"), acquired(1));
}

#[tokio::test]
async fn a_server_that_may_forget_is_warned_of() {
    let server = Server::start(&[]).await;
    let redis = open(&server.config());
    let status = redis.check().await.expect("it serves");
    assert!(status.version.starts_with(|c: char| c.is_ascii_digit()), "{status:?}");
    assert_eq!(status.warning, None);
    let _: () = server.say(&["CONFIG", "SET", "appendonly", "no"]).await;
    let _: () = server.say(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    let _: () = server.say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let warning = redis.check().await.expect("it serves").warning.expect("it may forget");
    assert!(warning.contains("append-only") && warning.contains("allkeys-lru"), "{warning}");
}

#[tokio::test]
async fn a_batch_of_many_slots_is_served_by_a_node_of_a_cluster() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let _: () = server.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    eventually(|| async {
        let info: String = server.say(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    let config = RedisConfig { database: 0, hash_tags: 32, ..server.config() };
    let redis = open(&config);
    let requests: Vec<_> = (0..2000).map(|_| request()).collect();
    let claims = redis.idempotency().claim(requests.clone()).await.expect("they can be claimed");
    assert!(claims.iter().all(|claim| *claim == acquired(1)));
    let batch = requests
        .iter()
        .map(|it| (it.key, it.token, Settlement::Complete { outcome: it.key.0.to_vec().into(), keep: LONG }))
        .collect();
    let settled = redis.idempotency().settle(batch).await.expect("they can be settled");
    assert!(settled.iter().all(|settled| *settled == Settled::Applied));
    let claims = redis.idempotency().claim(requests.iter().map(rival).collect()).await;
    for (request, claim) in requests.iter().zip(claims.expect("they can be asked")) {
        assert_eq!(claim, Claim::Done { outcome: request.key.0.to_vec().into() });
    }
    // A node that the slot is not at says so, and so do we.
    let _: () = server.say(&["CLUSTER", "DELSLOTSRANGE", "0", "16383"]).await;
    let error = redis.idempotency().claim(requests).await.expect_err("it has no slot");
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unsupported), "{error}");
}

#[tokio::test]
async fn documents_and_their_versions_survive_a_crash_of_the_server() {
    let mut server = Server::start(&[]).await;
    let redis = open(&server.config());
    let (jobs, kind) = (redis.jobs(), JobKind::Subscription);
    let kept = jobs.put(kind, "kept", Expected::Absent, "value".into()).await.expect("it is new");
    let gone = jobs.put(kind, "gone", Expected::Absent, "value".into()).await.expect("it is new");
    jobs.delete(kind, "gone", gone).await.expect("it is there");
    server.kill().await;
    let error = jobs.list(kind).await.expect_err("there is no server");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.again().await;
    let list = eventually(|| async { jobs.list(kind).await.ok() }).await;
    assert_eq!(list.iter().map(|it| (&*it.name, it.version)).collect::<Vec<_>>(), [("kept", kept)]);
    // The script is not known there any more.
    let anew = jobs.put(kind, "gone", Expected::Absent, "value".into()).await.expect("it is new");
    assert!(anew > gone, "{anew} after {gone}");
}

#[tokio::test]
async fn documents_lie_in_one_slot_of_a_cluster() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let config = RedisConfig { database: 0, ..server.config() };
    let slot: i64 = server.say(&["CLUSTER", "KEYSLOT", "{state}"]).await;
    let _: () = server.say(&["CLUSTER", "ADDSLOTS", &slot.to_string()]).await;
    let _: () = server.say(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    eventually(|| async {
        let info: String = server.say(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    let jobs = open(&config).jobs();
    for kind in [JobKind::Subscription, JobKind::Position, JobKind::Shared] {
        let first = jobs.put(kind, "a", Expected::Absent, "one".into()).await.expect("the slot is served");
        let second = jobs.put(kind, "a", Expected::Version(first), "two".into()).await.expect("it is there");
        assert_eq!(jobs.list(kind).await.expect("it can be listed").len(), 1);
        jobs.delete(kind, "a", second).await.expect("it is there");
    }
}

#[tokio::test]
async fn keys_go_by_their_time_to_live_and_have_the_prefix() {
    let server = Server::start(&[]).await;
    let config = RedisConfig { database: 5, key_prefix: "mine:".to_owned(), ..server.config() };
    let redis = open(&config);
    let first = request();
    claim(&redis, &first).await.expect("it can be claimed");
    let space: String = server.say(&["INFO", "keyspace"]).await;
    assert!(space.contains("db5:keys=1,expires=1"), "{space}");
    let client = Client::open(format!("redis://127.0.0.1:{}/5", server.port)).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let key = [b"mine:{0}", &first.key.0[..]].concat();
    let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut connection).await.expect("an answer");
    let both = 2 * LONG.as_millis() as i64;
    assert!(left <= both && left > both - 600_000, "the lease and as long again as it is remembered: {left}");
}

#[tokio::test]
async fn an_encrypted_connection_wants_a_certificate_that_is_trusted() {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("a name");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (authority_key, key) = [(); 2].map(|()| rcgen::KeyPair::generate().expect("a key")).into();
    let root = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let names = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = names.signed_by(&key, &issuer).expect("a certificate");
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let (certificate, key) = (file("server.crt", certificate.pem()), file("server.key", key.serialize_pem()));
    let tls_port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let server = Server::start(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    assert!(Path::new(&certificate).exists());
    let config = RedisConfig {
        host: "localhost".to_owned(),
        port: tls_port,
        tls: true,
        tls_ca: Some(root.pem().into_bytes()),
        ..server.config()
    };
    assert_eq!(claim(&open(&config), &request()).await.expect("it is trusted"), acquired(1));
    let distrusting = open(&RedisConfig { tls_ca: None, ..config });
    let error = claim(&distrusting, &request()).await.expect_err("nobody knows its authority");
    assert!(error.kind() == ErrorKind::Unavailable && error.detail().contains("certificate"), "{error}");
}
