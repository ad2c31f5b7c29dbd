//! A receiver of webhooks that notes what it is sent and answers as a test says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// In the order in which they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Pushed {
    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status with a body.
    Status(u16, String),
    /// A status with one more header, as a line.
    With(u16, &'static str),
    /// These bytes, whatever they are; then the connection is closed.
    Bytes(Vec<u8>),
    /// The head of an answer and then its body, a little at a time and for ever.
    Endless,
    /// Nothing, while the connection stays open.
    Nothing,
}

impl Reply {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self::Status(status, String::new())
    }
}

type Answer = Box<dyn FnMut(&Pushed) -> Reply + Send>;

struct Shared {
    answer: Mutex<Answer>,
    pushed: Mutex<Vec<Pushed>>,
}

/// A receiver. It ends with the value.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Receiver {
    /// A receiver at a free port of the loopback. `answer` is asked for each request, one at a time.
    pub async fn new(answer: impl FnMut(&Pushed) -> Reply + Send + 'static) -> Self {
        let shared = Arc::new(Shared { answer: Mutex::new(Box::new(answer)), pushed: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let serving = Some(tokio::spawn(serve(listener, shared.clone())));
        Self { address, shared, serving }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All that came so far.
    pub fn pushed(&self) -> Vec<Pushed> {
        locked(&self.shared.pushed).clone()
    }

    /// From now on answers so.
    pub fn answer(&self, answer: impl FnMut(&Pushed) -> Reply + Send + 'static) {
        *locked(&self.shared.answer) = Box::new(answer);
    }

    /// Nobody listens any more, and connections that there were are closed.
    pub async fn down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // It ends with having been aborted, which is what was asked for.
            let _ = serving.await;
        }
    }

    /// Listens again, where it did.
    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its port is free still");
        self.serving = Some(tokio::spawn(serve(listener, self.shared.clone())));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, shared.clone()));
    }
}

/// What a test that failed left is looked at all the same.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers requests until one side has enough.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut unread = Vec::new();
    while let Some(pushed) = read_request(&mut stream, &mut unread).await {
        let reply = {
            let mut answer = locked(&shared.answer);
            locked(&shared.pushed).push(pushed.clone());
            answer(&pushed)
        };
        let (bytes, goes_on) = match reply {
            Reply::Status(status, body) => {
                let length = body.len();
                (format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes(), true)
            }
            Reply::With(status, header) => {
                (format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{header}\r\n\r\n").into_bytes(), true)
            }
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Endless => {
                let mut chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                while stream.write_all(&chunk).await.is_ok() {
                    chunk = b"1\r\nx\r\n".to_vec();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return;
            }
            Reply::Nothing => {
                // Until the other side closes.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
        };
        if stream.write_all(&bytes).await.is_err() || !goes_on {
            return;
        }
    }
}

/// Reads a request with a `content-length`, whole; `None` when the client has closed.
async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Pushed> {
    let end = loop {
        if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        (stream.read_buf(unread).await.ok()? > 0).then_some(())?;
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    let headers: Vec<_> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut pushed = Pushed { headers, body: Vec::new() };
    let length: usize = pushed.header("content-length").parse().unwrap_or_default();
    unread.drain(..end + 4);
    while unread.len() < length {
        (stream.read_buf(unread).await.ok()? > 0).then_some(())?;
    }
    pushed.body = unread.drain(..length).collect();
    Some(pushed)
}
