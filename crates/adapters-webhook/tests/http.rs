//! Requests to servers of every kind, over real sockets.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_webhook::WebhookConfig;
use common::{Server, allow, client, config, read_request, request, short, told};
use ports::{Effect, ErrorKind, WebhookRequest, Webhooks};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Notify, mpsc},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_arrives_as_it_is_and_its_answer_comes_back() {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let server = Server::new(move |mut stream| {
        let heard = heard.clone();
        async move {
            let request = read_request(&mut stream).await.expect("a request");
            let _ = heard.send(request);
            let answer = "HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nlate";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let url = format!("http://{}/hook?a=1", server.address);
    let answer = client(config()).post(request(url)).await.expect("an answer");
    assert_eq!((answer.status, answer.retry_after.as_deref(), &*answer.body), (503, Some("7"), &b"late"[..]));
    let said = hears.recv().await.expect("a request");
    assert!(said.starts_with("POST /hook?a=1 HTTP/1.1\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
    let host = format!("host: {}\r\n", server.address);
    for header in ["x-test: 1\r\n", "content-length: 5\r\n", "user-agent: event-streaming/", &host] {
        assert!(said.contains(header), "{header} is missing in {said}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let server = Server::answering(OK, false).await;
    let client = client(config());
    for _ in 0..5 {
        assert_eq!(client.post(request(server.url())).await.expect("an answer").status, 200);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_has_closed_costs_no_request() {
    let server = Server::answering(OK, true).await;
    let client = client(config());
    for _ in 0..3 {
        assert_eq!(client.post(request(server.url())).await.expect("an answer").status, 200);
        // The close is seen before the next request, or by it.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout_of_unknown_effect() {
    let server = Server::new(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = client(config()).post(short(server.url())).await.expect_err("no answer");
    assert_eq!(told(&error), (ErrorKind::Timeout, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn a_body_that_stops_on_the_way_is_a_timeout() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false).await;
    let error = client(config()).post(short(server.url())).await.expect_err("half an answer");
    assert_eq!(told(&error), (ErrorKind::Timeout, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off() {
    let server = Server::new(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while stream.write_all(b"5\r\nhello\r\n").await.is_ok() {}
    })
    .await;
    let error = client(config()).post(request(server.url())).await.expect_err("too much");
    assert_eq!(told(&error), (ErrorKind::TooLarge, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn ten_megabytes_are_not_read() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let server = Server::new(move |mut stream| {
        let ended = ended.clone();
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n").await;
            let _ = stream.write_all(&vec![b'a'; 1 << 10]).await;
            // The client closes rather than to wait for the rest.
            let _ = ended.send(stream.read(&mut [0; 16]).await.unwrap_or(0));
        }
    })
    .await;
    let error = client(config()).post(request(server.url())).await.expect_err("too much");
    assert_eq!(told(&error), (ErrorKind::TooLarge, Effect::Unknown), "{error}");
    assert_eq!(ends.recv().await, Some(0));
}

#[tokio::test]
async fn a_body_up_to_the_bound_is_read_whole() {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "a".repeat(100));
    let server = Server::answering(answer, false).await;
    for (bytes_max, fits) in [(100, true), (99, false)] {
        let client = client(WebhookConfig { response_bytes_max: bytes_max, ..config() });
        assert_eq!(client.post(request(server.url())).await.is_ok(), fits, "{bytes_max}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_or_never_ends_is_cut_off() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    for answer in [many, long] {
        let server = Server::answering(answer, false).await;
        let error = client(config()).post(request(server.url())).await.expect_err("too much");
        assert_eq!(told(&error), (ErrorKind::TooLarge, Effect::Unknown), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_invalid() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "\u{0}\u{1}\u{2}\u{3}\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "{\"ok\":true}\r\n\r\n",
    ] {
        let server = Server::answering(garbage, false).await;
        let error = client(config()).post(request(server.url())).await.expect_err("garbage");
        assert_eq!(told(&error), (ErrorKind::Invalid, Effect::Unknown), "{garbage:?}: {error}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_has_an_unknown_effect() {
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let server = Server::answering(answer, true).await;
        let error = client(config()).post(request(server.url())).await.expect_err("no answer");
        assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::Unknown), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_closes_its_side_alone_has_not_answered() {
    let server = Server::new(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.shutdown().await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = client(config()).post(request(server.url())).await.expect_err("no answer");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://{address}/hunter2?token=hunter2");
    let error = client(config()).post(request(url)).await.expect_err("nobody");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
    assert!(error.is_safe_to_retry());
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_redirect_into_the_network_is_an_answer_and_is_not_followed() {
    let inside = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = inside.local_addr().expect("an address");
    for status in [301, 302, 307, 308] {
        let answer =
            format!("HTTP/1.1 {status} Go\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n");
        let server = Server::answering(answer, false).await;
        let answer = client(config()).post(request(server.url())).await.expect("an answer");
        assert_eq!(answer.status, status);
    }
    assert!(futures::poll!(std::pin::pin!(inside.accept())).is_pending(), "it was followed");
}

#[tokio::test]
async fn this_machine_is_not_reached_unless_it_is_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let refusing = client(WebhookConfig::default());
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(refusing.check(&url).expect_err("denied").kind(), ErrorKind::Denied, "{host}");
        let error = refusing.post(request(url)).await.expect_err("denied");
        assert_eq!(told(&error), (ErrorKind::Denied, Effect::None), "{host}");
    }
    assert!(futures::poll!(std::pin::pin!(listener.accept())).is_pending(), "it was reached");

    let server = Server::answering(OK, false).await;
    let port = server.address.port();
    for entry in [format!("localhost:{port}"), "127.0.0.0/8".to_owned()] {
        let list = allow(&[&entry]);
        let allowing = client(WebhookConfig { allow: list, ..WebhookConfig::default() });
        let url = format!("http://127.0.0.1:{port}/");
        let url = if entry.starts_with("localhost") { url.replace("127.0.0.1", "localhost") } else { url };
        allowing.check(&url).expect("it is allowed");
        assert_eq!(allowing.post(request(url)).await.expect("an answer").status, 200, "{entry}");
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_and_are_told_when_their_time_is_up() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = {
        let (arrived, release) = (arrived.clone(), release.clone());
        Server::new(move |mut stream| {
            let (arrived, release) = (arrived.clone(), release.clone());
            async move {
                while read_request(&mut stream).await.is_some() {
                    arrived.notify_one();
                    release.notified().await;
                    let _ = stream.write_all(OK.as_bytes()).await;
                }
            }
        })
        .await
    };
    let client = Arc::new(client(WebhookConfig { requests_max: 1, ..config() }));
    let first = tokio::spawn({
        let (client, request) = (client.clone(), request(server.url()));
        async move { client.post(request).await }
    });
    arrived.notified().await;
    let error = client.post(short(server.url())).await.expect_err("no place");
    assert_eq!(told(&error), (ErrorKind::Throttled, Effect::None), "{error}");
    release.notify_one();
    assert_eq!(first.await.expect("no panic").expect("an answer").status, 200);
    release.notify_one();
    assert_eq!(client.post(request(server.url())).await.expect("a place").status, 200);
}

#[tokio::test]
async fn dropping_a_request_closes_its_connection() {
    let arrived = Arc::new(Notify::new());
    let (ended, mut ends) = mpsc::unbounded_channel();
    let server = {
        let arrived = arrived.clone();
        Server::new(move |mut stream| {
            let (arrived, ended) = (arrived.clone(), ended.clone());
            async move {
                read_request(&mut stream).await;
                arrived.notify_one();
                let _ = ended.send(stream.read(&mut [0; 16]).await.unwrap_or(0));
            }
        })
        .await
    };
    let client = client(config());
    tokio::select! {
        answer = client.post(request(server.url())) => panic!("{answer:?}"),
        () = arrived.notified() => {}
    }
    assert_eq!(ends.recv().await, Some(0));
}

#[tokio::test]
async fn an_informational_answer_is_passed_over() {
    let server = Server::answering(format!("HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n{OK}"), false).await;
    assert_eq!(client(config()).post(request(server.url())).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn time_that_is_up_before_there_is_a_connection_has_no_effect() {
    // A listener whose queue is full takes no more connections, and does not refuse them either.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    let url = format!("http://{address}/");
    let error = client(config()).post(short(url.clone())).await.expect_err("no connection");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
    let impatient = WebhookConfig { connect_timeout: Duration::from_millis(100), ..config() };
    let patient = WebhookRequest { timeout: Duration::from_secs(60), ..request(url) };
    let error = client(impatient).post(patient).await.expect_err("no connection");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
}
