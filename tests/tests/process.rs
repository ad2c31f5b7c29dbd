//! The service as a process: its ready line, its data directory, its health, its ends.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Log, Setup, on_every_log};

on_every_log!(
    the_ready_line_names_addresses_that_answer,
    a_correlation_id_is_taken_or_made_and_given_back,
    a_signal_ends_an_idle_service_with_0,
);

async fn the_ready_line_names_addresses_that_answer(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let line = service.ready_line();
    assert!(line.contains(&format!(" log={} ", log.name())) && line.contains(" state=embedded "), "{line}");
    assert!(line.ends_with(" ms"), "{line}");
    let client = service.client();
    assert_eq!(client.get("/actuator/health").await.expect(200)["status"], "UP");
    assert_eq!(client.get("/actuator/health/liveness").await.expect(200)["status"], "UP");
    assert_eq!(client.get("/actuator/health/readiness").await.expect(200)["status"], "UP");
    let authority = service.grpc().trim_start_matches("http://");
    assert!(tokio::net::TcpStream::connect(authority).await.is_ok(), "nothing listens at {authority}");
}

async fn a_correlation_id_is_taken_or_made_and_given_back(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let client = service.client();
    let given = client.request(reqwest::Method::GET, "/v1/topics").header("x-correlation-id", "trace-me-7");
    assert_eq!(client.send(given).await.headers["x-correlation-id"], "trace-me-7");
    let made = client.get("/v1/nowhere").await;
    assert_eq!(made.headers["x-correlation-id"].to_str().ok(), made.body["correlationId"].as_str());
}

async fn a_signal_ends_an_idle_service_with_0(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let status = Setup::on(&log).start(data.path()).await.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_directory_is_refused_by_name() {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&Log::embedded());
    let first = setup.start(data.path()).await;
    let second = setup.try_start(data.path()).await.expect_err("it must not start");
    assert_eq!(second.status.code(), Some(1), "{}", second.output);
    let named = second.output.contains(data.path().to_str().expect("text"));
    assert!(named && second.output.contains("another process"), "{}", second.output);
    // The first is none the worse for it, and its end frees the directory, a kill too.
    first.client().get("/actuator/health").await.expect(200);
    first.kill().await;
    setup.start(data.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_setting_ends_it_with_2_and_names_the_nearest() {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&Log::embedded()).set("limits.request-byte-max", "1MiB");
    let ended = setup.try_start(data.path()).await.expect_err("it must not start");
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    assert!(ended.output.contains("request-bytes-max"), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_not_there_is_named() {
    let data = tempfile::tempdir().expect("a folder");
    // Bound and never listened on: connections are refused.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let nobody = socket.local_addr().expect("it is bound").to_string();
    let setup =
        Setup::on(&Log::embedded()).set("log.backend", "kafka").set("kafka.bootstrap-servers", &nobody);
    // It may wait for its Kafka, but then it must say that it is not ready.
    match setup.try_start(data.path()).await {
        Ok(service) => {
            let answer = service.client().get("/actuator/health").await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body["status"]),
                (503, &"DOWN".into()),
                "{}",
                answer.body
            );
            service.client().get("/actuator/health/liveness").await.expect(200);
        }
        Err(ended) => {
            assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
            assert!(ended.output.contains(&nobody), "{}", ended.output);
        }
    }
}
