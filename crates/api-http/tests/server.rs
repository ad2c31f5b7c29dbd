//! Connections: what clients may do to them, and how they end.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use api_http::{HttpConfig, serve};
use domain::Limits;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    _health: tokio::sync::watch::Sender<api_http::Health>,
}

/// A server whose limits of time are short.
fn hasty() -> HttpConfig {
    HttpConfig {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_secs(1),
        body_idle_timeout: Duration::from_millis(300),
        ..HttpConfig::default()
    }
}

async fn start(config: HttpConfig) -> Server {
    let (services, health) = support::services(Limits::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, services, config, stop.clone()));
    let server = Server { address, stop, serving, _health: health };
    let made = server.ask(&post("/v1/topics", &json!({"name": "orders", "partitions": 1}))).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    server
}

fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST /event-streaming{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends all and says that no more comes; gives everything that came back.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        to_end(stream).await
    }

    /// Stops, and waits for the end.
    async fn stop(self) {
        self.stop.cancel();
        within(self.serving).await.unwrap().unwrap();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// Everything up to the end of the connection, however it comes.
async fn to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer, while the connection stays open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return text;
            }
        }
        let mut bytes = [0; 4096];
        let read = within(stream.read(&mut bytes)).await.unwrap();
        assert!(read > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_one_request_after_another() {
    let server = start(HttpConfig::default()).await;
    let mut stream = server.connect().await;
    for offset in 0..5 {
        stream.write_all(post("/v1/topics/orders/events", &json!({"data": 1})).as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("\"offset\":{offset}")), "{answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_in_order() {
    let server = start(HttpConfig::default()).await;
    let request = post("/v1/topics/orders/events", &json!({"data": 1}));
    let text = server.ask(&request.repeat(3)).await;
    let offsets: Vec<_> = text.match_indices("\"offset\":").map(|(at, _)| &text[at + 9..at + 10]).collect();
    assert_eq!(offsets, ["0", "1", "2"], "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_and_an_idle_connection_are_given_up() {
    let server = start(hasty()).await;
    for sent in ["", "GET ", "GET /event-streaming/v1/topics HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut stream = server.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(to_end(stream).await, "", "after {sent:?}");
    }
    let mut stream = server.connect().await;
    stream.write_all(b"GET /event-streaming/actuator/info HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // It ends by itself, without being asked to.
    assert!(to_end(stream).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_body_is_refused() {
    let server = start(hasty()).await;
    let head = "POST /event-streaming/v1/topics/orders/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for rest in ["content-length: 100\r\n\r\n{\"data\"", "transfer-encoding: chunked\r\n\r\nff\r\n{\"data\""]
    {
        let mut stream = server.connect().await;
        stream.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        let text = to_end(stream).await;
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("did not come in time"), "{text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_beyond_the_limit_is_refused() {
    let server = start(HttpConfig { header_bytes_max: 1024, ..HttpConfig::default() }).await;
    let text = server.ask(&format!("GET / HTTP/1.1\r\nx-long: {}\r\n\r\n", "x".repeat(10_000))).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_limit_of_connections_waits_for_a_place() {
    let server = start(HttpConfig { connections_max: 1, ..HttpConfig::default() }).await;
    let first = server.connect().await;
    let mut second = server.connect().await;
    second.write_all(b"GET /event-streaming/actuator/info HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(waiting.is_err(), "it was answered while the place was taken");
    drop(first);
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
    drop(second);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_answers_and_for_nothing_else() {
    let server = start(HttpConfig::default()).await;
    let made = server.ask(&post("/v1/subscriptions", &json!({"name": "mail", "topics": ["orders"]}))).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let idle = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(b"POST /event-streaming/v1/topics HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        .await
        .unwrap();
    let mut tail = server.connect().await;
    tail.write_all(b"GET /event-streaming/v1/topics/orders/events/tail HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut begun = [0; 12];
    within(tail.read_exact(&mut begun)).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    let mut pull = server.connect().await;
    // Sent ahead, behind a request whose answer shows that the pull has come too.
    let ahead = "GET /event-streaming/actuator/info HTTP/1.1\r\nhost: x\r\n\r\n".to_owned();
    let waiting = post("/v1/subscriptions/mail/pull", &json!({"wait": "60s"}));
    pull.write_all((ahead + &waiting).as_bytes()).await.unwrap();
    assert!(answer(&mut pull).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
    assert!(to_end(pull).await.contains("{\"deliveries\":[]}"));
    assert!(to_end(tail).await.ends_with("0\r\n\r\n"), "a tail is ended, not cut off");
    assert_eq!(to_end(idle).await, "");
    let half = to_end(half).await;
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 503"), "{half}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_that_went_would_have_been_given_goes_to_the_next() {
    let server = start(HttpConfig::default()).await;
    let definition = json!({"name": "mail", "topics": ["orders"], "ackTimeout": "1h"});
    server.ask(&post("/v1/subscriptions", &definition)).await;
    let pull = post("/v1/subscriptions/mail/pull", &json!({"wait": "60s"}));
    let mut gone = server.connect().await;
    gone.write_all(pull.as_bytes()).await.unwrap();
    gone.shutdown().await.unwrap();
    // It is answered for its client is gone, not for something came.
    assert!(to_end(gone).await.contains("{\"deliveries\":[]}"));
    server.ask(&post("/v1/topics/orders/events", &json!({"data": 1}))).await;
    let mut next = server.connect().await;
    next.write_all(pull.as_bytes()).await.unwrap();
    let text = answer(&mut next).await;
    assert!(text.contains("\"attempt\":1"), "{text}");
    drop(next);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_answer_is_given_up() {
    let server = start(HttpConfig {
        connections_max: 1,
        idle_timeout: Duration::from_secs(1),
        ..HttpConfig::default()
    })
    .await;
    for _ in 0..12 {
        // More than the buffers of both ends hold, together.
        let large = post("/v1/topics/orders/events", &json!({"data": "x".repeat(1_000_000)}));
        assert!(server.ask(&large).await.starts_with("HTTP/1.1 200"));
    }
    let mut deaf = server.connect().await;
    let request = "GET /event-streaming/v1/topics/orders/events?limit=100 HTTP/1.1\r\nhost: x\r\n\r\n";
    deaf.write_all(request.as_bytes()).await.unwrap();
    // The only place comes free again, though the client neither reads nor goes.
    let mut next = server.connect().await;
    next.write_all(b"GET /event-streaming/actuator/info HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut next).await.starts_with("HTTP/1.1 200"));
    let cut_off = to_end(deaf).await.len();
    assert!(cut_off < 12_000_000, "all of it had been sent");
    drop(next);
    server.stop().await;
}
