//! `scripts/services.sh`: the servers that it starts answer, and it touches nothing but these.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{eventually, kafka, postgres, redis, services_script};
use std::{
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Output, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_a_ping() {
    let server = redis().await;
    assert_eq!(ping(authority(&server.address)).await, "+PONG\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_answers_a_startup_message() {
    let server = postgres().await;
    let user =
        server.address.split("://").nth(1).and_then(|rest| rest.split(['@', ':']).next()).expect("a user");
    let mut parameters = vec![0, 3, 0, 0];
    for word in ["user", user, ""] {
        parameters.extend(word.as_bytes());
        parameters.push(0);
    }
    let mut message = (parameters.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend(parameters);
    let mut answer = [0; 1];
    exchange(authority(&server.address), &message, &mut answer).await;
    assert_eq!(&answer, b"R", "it asks for, or waives, authentication");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_names_the_requests_that_it_serves() {
    let server = kafka().await;
    let broker = server.address.split(',').next().expect("a broker");
    // ApiVersions, version 0, correlation id 7, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let mut answer = [0; 14];
    exchange(broker, &request, &mut answer).await;
    let number = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(number(4), 7, "correlation id");
    assert_eq!(answer[8..10], [0, 0], "error code");
    assert!(number(10) > 30, "requests served: {}", number(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_the_way_out_and_nothing_is_left_behind() {
    for (service, variable) in [
        ("kafka", "SERVICES_KAFKA_PORT"),
        ("redis", "SERVICES_REDIS_PORT"),
        ("postgres", "SERVICES_POSTGRES_PORT"),
    ] {
        let script = Script::new();
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        let output =
            script.command(&["up", service]).env(variable, port.to_string()).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("port {port} ")) && said.contains(variable), "{said}");
        assert!(!script.run(&["status"]).await.status.success());
        assert_eq!(script.text(&["env"]).await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_named_with_the_way_out() {
    for (service, programs, hint) in [
        ("kafka", ["java", "mvn"], "Java 17"),
        ("redis", ["redis-server", "redis-cli"], "redis-server is not installed"),
    ] {
        let script = Script::new();
        let path = path_without(&programs);
        let output =
            script.command(&["up", service]).env("PATH", path.path()).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(hint) && said.contains("scripts/setup.sh test"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_up_is_left_alone_killed_and_started_again_on_its_data_and_gone_after_down() {
    let script = Script::new();
    script.text(&["up", "redis"]).await;
    let address = format!("127.0.0.1:{}", script.port);
    assert_eq!(script.text(&["env"]).await, format!("REDIS_URL=redis://{address}/0\n"));
    assert_eq!(command(&address, "SET kept yes").await, "+OK\r\n");
    let first = script.text(&["status"]).await;
    script.text(&["up", "redis"]).await;
    assert_eq!(script.text(&["status"]).await, first, "a second `up` changed something");

    // Its append-only file is written before it answers, which is enough for a kill of the process.
    script.text(&["kill", "redis"]).await;
    assert!(TcpStream::connect(&address).await.is_err());
    script.text(&["start", "redis"]).await;
    assert_eq!(command(&address, "GET kept").await, "$3\r\n");
    assert_ne!(script.text(&["status"]).await, first);

    script.text(&["down"]).await;
    assert!(TcpStream::connect(&address).await.is_err());
    assert!(!script.dir.path().join("run").exists(), "data stayed behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_started_for_a_process_ends_with_it() {
    let script = Script::new();
    let mut owner = sleeper();
    let pid = owner.id().expect("it runs").to_string();
    script.text(&["up", "--for", &pid, "redis"]).await;
    assert_eq!(ping(&format!("127.0.0.1:{}", script.port)).await, "+PONG\r\n");
    owner.kill().await.expect("a child can be killed");
    eventually("redis was stopped", async || (!script.run(&["status"]).await.status.success()).then_some(()))
        .await;
    eventually("its data is gone", async || (!script.dir.path().join("run").exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_file_that_names_somebody_else_kills_nobody() {
    let script = Script::new();
    let mut other = sleeper();
    let node = script.dir.path().join("run/redis");
    std::fs::create_dir_all(&node).expect("a folder");
    std::fs::write(node.join("pid"), other.id().expect("it runs").to_string()).expect("a file");
    std::fs::write(node.join("mark"), node.join("redis.conf").to_str().expect("text")).expect("a file");
    assert!(!script.run(&["status"]).await.status.success());
    script.text(&["kill", "redis"]).await;
    script.text(&["down"]).await;
    assert!(
        other.try_wait().expect("a child can be asked").is_none(),
        "a process that is not ours was killed"
    );
    other.kill().await.expect("a child can be killed");
}

/// The script with a folder and ports of its own.
struct Script {
    dir: TempDir,
    port: u16,
}

impl Script {
    fn new() -> Self {
        let free =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        Self { dir: tempfile::tempdir().expect("a folder"), port: free.port() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(services_script());
        command
            .args(arguments)
            .env("SERVICES_DIR", self.dir.path())
            .env("SERVICES_REDIS_PORT", self.port.to_string())
            .env("SERVICES_GRACE_S", "1");
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.expect("the script can be started")
    }

    async fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let down = std::process::Command::new(services_script())
            .arg("down")
            .env("SERVICES_DIR", self.dir.path())
            .status();
        if !std::thread::panicking() {
            assert!(down.is_ok_and(|status| status.success()), "the script could not stop what it started");
        }
    }
}

/// Everything that is on the usual path but `programs`.
fn path_without(programs: &[&str]) -> TempDir {
    let path = tempfile::tempdir().expect("a folder");
    for folder in ["/usr/bin", "/bin"].map(Path::new) {
        for entry in std::fs::read_dir(folder).expect("it can be listed") {
            let entry = entry.expect("it can be listed");
            let name = entry.file_name();
            if !programs.iter().any(|program| *program == name) {
                // The two are often one folder: the second link is refused.
                let _ = symlink(entry.path(), path.path().join(name));
            }
        }
    }
    path
}

fn sleeper() -> tokio::process::Child {
    Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("sleep can be started")
}

/// `host:port` of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split("://").nth(1).unwrap_or(url);
    let rest = rest.split('/').next().unwrap_or(rest);
    rest.rsplit('@').next().unwrap_or(rest)
}

async fn ping(address: &str) -> String {
    command(address, "PING").await
}

/// The first line of Redis's answer.
async fn command(address: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("redis accepts connections");
    stream.write_all(format!("{line}\r\n").as_bytes()).await.expect("redis reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        answer.push(stream.read_u8().await.expect("redis answers"));
    }
    String::from_utf8(answer).expect("text")
}

async fn exchange(address: &str, request: &[u8], answer: &mut [u8]) {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts connections");
    stream.write_all(request).await.expect("the server reads");
    stream.read_exact(answer).await.expect("the server answers");
}
