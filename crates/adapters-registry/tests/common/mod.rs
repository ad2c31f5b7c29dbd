//! A scripted registry, and clients of it.

#![allow(dead_code, reason = "each test file takes its share")]
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_registry::{ConfluentRegistry, RegistryConfig};
use ports::{Asked, ErrorKind, PortError, RegistryError, RegistryRefusal, RegistrySchema, SchemaRegistry};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The method and the target, as `GET /subjects`.
    pub(crate) line: String,
    /// Lines as they came, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

/// What is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    /// A status with one more line of the head, and a body.
    With(u16, &'static str, String),
    /// Nothing, while the connection stays open.
    Nothing,
    /// The connection is closed.
    Close,
    /// The head of an answer and then its body, for ever.
    Endless,
}

pub(crate) fn ok(body: Value) -> Reply {
    Reply::Json(200, body)
}

pub(crate) fn refused(code: u32, message: &str) -> Reply {
    let status = if code > 999 { code / 100 } else { code };
    Reply::Json(status as u16, serde_json::json!({"error_code": code, "message": message}))
}

type Script = Box<dyn FnMut(usize, &Request) -> Reply + Send>;

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
}

/// A registry that does what a script says. It ends with the value.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Scripted {
    /// The script is given the number of the request, from 0 on, and the request.
    pub(crate) async fn new(script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        Self::start(Box::new(script), None).await
    }

    pub(crate) async fn tls(
        acceptor: TlsAcceptor,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Self {
        Self::start(Box::new(script), Some(acceptor)).await
    }

    async fn start(script: Script, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { script: Mutex::new(script), requests: Mutex::default() });
        let each = shared.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (each.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &shared).await,
                        Some(acceptor) => {
                            // A client that does not trust us leaves.
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            serve(stream, &shared).await;
                        }
                    }
                });
            }
        });
        Self { address, shared, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    pub(crate) fn client(&self) -> Arc<dyn SchemaRegistry> {
        client(&config(&[self.url()]))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let mut read = Vec::new();
    while let Some(request) = request(&mut stream, &mut read).await {
        let number = {
            let mut requests = lock(&shared.requests);
            requests.push(request.clone());
            requests.len() - 1
        };
        let reply = (lock(&shared.script))(number, &request);
        let (head, body) = match reply {
            Reply::Json(status, body) => {
                (format!("{status} X\r\ncontent-type: application/json"), body.to_string())
            }
            Reply::With(status, line, body) => (format!("{status} X\r\n{line}"), body),
            Reply::Nothing => return std::future::pending().await,
            Reply::Close => return,
            Reply::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 X\r\n\r\n[").await;
                // Until whoever reads has had enough.
                while stream.write_all(&[b' '; 4096]).await.is_ok() {}
                return;
            }
        };
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads a request; `None` when the client has closed.
async fn request(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<Request> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.map_or(0, |(_, length)| length.parse().expect("a number"));
            let whole = end + 4 + length;
            if read.len() >= whole {
                let body = serde_json::from_slice(&read[end + 4..whole]).unwrap_or(Value::Null);
                read.drain(..whole);
                return Some(Request { line, headers, body });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => read.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

/// Settings with delays that are over at once.
pub(crate) fn config(urls: &[String]) -> RegistryConfig {
    RegistryConfig {
        urls: urls.to_vec(),
        retry_delay: Duration::from_millis(1),
        request_timeout: Duration::from_secs(20),
        ..RegistryConfig::default()
    }
}

pub(crate) fn client(config: &RegistryConfig) -> Arc<dyn SchemaRegistry> {
    ConfluentRegistry::open(config).expect("the settings are good").registry()
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

pub(crate) fn schema(text: &str) -> RegistrySchema {
    RegistrySchema {
        schema_type: "PROTOBUF".to_owned(),
        text: text.to_owned(),
        references: Vec::new(),
        metadata: None,
        rule_set: None,
        guid: None,
    }
}

pub(crate) fn failure<T: std::fmt::Debug>(asked: Asked<T>) -> PortError {
    match asked.expect_err("it fails") {
        RegistryError::Failed(error) => error,
        RegistryError::Refused(refusal) => panic!("it was refused: {refusal}"),
    }
}

pub(crate) fn refusal<T: std::fmt::Debug>(asked: Asked<T>) -> RegistryRefusal {
    match asked.expect_err("it is refused") {
        RegistryError::Refused(refusal) => refusal,
        RegistryError::Failed(error) => panic!("it failed: {error}"),
    }
}

pub(crate) fn kind<T: std::fmt::Debug>(asked: Asked<T>) -> ErrorKind {
    failure(asked).kind()
}
