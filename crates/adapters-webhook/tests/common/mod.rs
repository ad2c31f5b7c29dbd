//! Scripted servers, and requests to them.

// Each test binary uses a part.
#![allow(dead_code)]

use adapters_webhook::{AllowList, HttpWebhooks, WebhookConfig};
use bytes::Bytes;
use ports::{Effect, ErrorKind, PortError, WebhookRequest};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A server that does the same with each connection. It ends with the value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn new<F>(each: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(each(stream));
            }
        });
        Self { address, connections, serving }
    }

    /// Answers each request with these bytes, and closes the connection where `close` says so.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>, close: bool) -> Self {
        let answer = Arc::new(answer.into());
        Self::new(move |mut stream| {
            let answer = answer.clone();
            async move {
                while read_request(&mut stream).await.is_some() {
                    // Who has heard enough closes.
                    if stream.write_all(&answer).await.is_err() || close {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Reads a request with a `content-length`, whole; `None` when the client has closed.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lengths = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
            let length: usize = lengths.next_back().map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                return Some(text);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => read.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

/// The configuration of most tests: this machine may be reached.
pub(crate) fn config() -> WebhookConfig {
    WebhookConfig { allow: allow(&["127.0.0.1", "localhost"]), ..WebhookConfig::default() }
}

pub(crate) fn allow(entries: &[&str]) -> AllowList {
    AllowList::parse(entries).expect("good entries")
}

pub(crate) fn client(config: WebhookConfig) -> HttpWebhooks {
    HttpWebhooks::open(config).expect("a client")
}

pub(crate) fn request(url: impl Into<String>) -> WebhookRequest {
    WebhookRequest {
        url: url.into(),
        headers: vec![("x-test".to_owned(), "1".to_owned())],
        body: Bytes::from_static(b"hello"),
        timeout: Duration::from_secs(20),
    }
}

/// The same with a time that is meant to pass.
pub(crate) fn short(url: impl Into<String>) -> WebhookRequest {
    WebhookRequest { timeout: Duration::from_millis(300), ..request(url) }
}

pub(crate) fn told(error: &PortError) -> (ErrorKind, Effect) {
    (error.kind(), error.effect())
}
