//! How the real program stops while a delivery is out at a client.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStderr, Command, Stdio},
};

struct Service {
    child: Child,
    http: String,
    log: Lines<BufReader<ChildStderr>>,
    client: reqwest::Client,
    _data: tempfile::TempDir,
}

impl Service {
    /// One that would wait long for what is out.
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_event-streaming"))
            .env_clear()
            .args(["--set", "server.http=127.0.0.1:0", "--set", "server.grpc=127.0.0.1:0"])
            .args(["--set", "server.shutdown-timeout=10m", "--set", "delivery.drain-timeout=10m"])
            .arg("--set")
            .arg(format!("embedded.data-dir={}", data.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let line = stdout.lines().next().expect("it becomes ready").expect("its output can be read");
        let http = line.split_whitespace().find_map(|word| word.strip_prefix("http=")).expect("an address");
        let log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { http: http.to_owned(), child, log, client: reqwest::Client::new(), _data: data }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.http)).json(body);
        let answer = request.send().await.expect("it answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("JSON")
    }

    /// Puts one delivery out, and gives its `ackId`.
    async fn put_one_out(&self) -> Value {
        self.post("/v1/topics", &json!({"name": "t", "partitions": 1})).await;
        let subscription =
            json!({"name": "s", "topics": ["t"], "ordering": "partition", "ackTimeout": "10m"});
        self.post("/v1/subscriptions", &subscription).await;
        self.post("/v1/topics/t/events", &json!({"data": 1})).await;
        let pulled = self.post("/v1/subscriptions/s/pull", &json!({"max": 1, "wait": "30s"})).await;
        pulled["deliveries"][0]["ackId"].clone()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("it has one");
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Returns once this was logged.
    fn logged(&mut self, words: &str) {
        let found = self.log.by_ref().any(|line| line.is_ok_and(|line| line.contains(words)));
        assert!(found, "it ended without saying: {words}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_stop_takes_the_acknowledgement_of_what_is_out_while_it_is_not_ready_and_ends_with_0() {
    let mut service = Service::start();
    let id = service.put_one_out().await;
    service.signal(Signal::TERM);
    service.logged("stopping");
    let readiness = service.client.get(format!("{}/actuator/health/readiness", service.http));
    assert_eq!(readiness.send().await.expect("it answers").status().as_u16(), 503);
    let results = service.post("/v1/subscriptions/s/ack", &json!({"ack": [id]})).await;
    assert_eq!(results["results"][0]["status"], "ok");
    assert_eq!(service.child.wait().expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_not_with_0() {
    let mut service = Service::start();
    service.put_one_out().await;
    service.signal(Signal::TERM);
    service.logged("stopping");
    service.signal(Signal::INT);
    service.logged("a second signal");
    assert_eq!(service.child.wait().expect("it ends").code(), Some(1));
}
