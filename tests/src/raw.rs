//! HTTP by hand, for what no proper client would send.

use crate::PATIENCE;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What came back on the connection.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// Everything, as text.
    pub text: String,
}

/// Sends `bytes` to the server of `base_url`, says that there will be no more, and reads to the end.
///
/// # Panics
/// When the server keeps the connection open without an end.
pub async fn raw_exchange(base_url: &str, bytes: &[u8]) -> RawAnswer {
    let mut stream = connect(base_url).await;
    // The server may have answered and closed before it was told everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset after the answer leaves what was read.
    let _ = read.expect("the server ends the connection in time");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    RawAnswer { status, text }
}

pub(crate) async fn connect(base_url: &str) -> TcpStream {
    let authority =
        base_url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or(base_url);
    TcpStream::connect(authority).await.expect("the server accepts connections")
}
