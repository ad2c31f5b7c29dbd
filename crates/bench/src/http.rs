//! As little of HTTP/1.1 as a load needs: requests are ready-made bytes, and of an answer only the
//! status and the length are looked at. The client shares the machine with what it measures.

use std::ops::Range;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A base URL in authority and path.
pub(crate) fn split(base: &str) -> (&str, &str) {
    let rest = base.trim_start_matches("http://");
    rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash))
}

/// An answer in the bytes that have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where its body stands; it may end behind what has been read.
    pub(crate) body: Range<usize>,
}

/// The answer that `read` begins with; none while its head is not all there.
pub(crate) fn parse(read: &[u8]) -> Result<Option<Answer>, String> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head =
        std::str::from_utf8(&read[..end]).map_err(|_| "the head of an answer is no text".to_owned())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    // No content has no length.
    match (status, length.or((status == Some(204)).then_some(0))) {
        (Some(status), Some(length)) => {
            let begin = end + 4;
            Ok(Some(Answer { status, body: begin..begin + length }))
        }
        _ => Err(format!("an answer without a status or a length: {head}")),
    }
}

/// One connection, kept alive.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects to the host and port of a base URL.
    pub(crate) async fn open(base: &str) -> Result<Self, String> {
        let (authority, _) = split(base);
        let stream = TcpStream::connect(authority).await.map_err(|e| format!("{authority}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("{authority}: {e}"))?;
        Ok(Self { stream, read: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and reads its answer; gives status and body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8]), String> {
        self.read.clear();
        self.stream.write_all(request).await.map_err(broken)?;
        loop {
            if self.stream.read_buf(&mut self.read).await.map_err(broken)? == 0 {
                return Err("the connection was closed before an answer".to_owned());
            }
            if let Some(Answer { status, body }) = parse(&self.read)? {
                while self.read.len() < body.end {
                    if self.stream.read_buf(&mut self.read).await.map_err(broken)? == 0 {
                        return Err("the connection was closed within an answer".to_owned());
                    }
                }
                return Ok((status, &self.read[body]));
            }
        }
    }
}

/// A request that is not a part of a load; gives status and body.
pub(crate) async fn call(base: &str, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
    let (authority, prefix) = split(base);
    let request = format!(
        "{method} {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::open(base).await?;
    let (status, body) = connection.exchange(request.as_bytes()).await?;
    Ok((status, String::from_utf8_lossy(body).into_owned()))
}

#[allow(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn broken(error: std::io::Error) -> String {
    format!("the connection broke: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_as_soon_as_its_head_is_there() {
        let answer = b"HTTP/1.1 207 Multi-Status\r\nDate: x\r\nContent-Length: 5\r\n\r\nhel";
        for cut in 0..answer.len() - 3 {
            assert_eq!(parse(&answer[..cut]), Ok(None), "{cut}");
        }
        let found = parse(answer).unwrap().unwrap();
        assert_eq!(found, Answer { status: 207, body: answer.len() - 3..answer.len() + 2 });
    }

    #[test]
    fn an_answer_of_unknown_length_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn no_content_has_no_length() {
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(Some(Answer { status: 204, body: 27..27 })));
    }

    #[test]
    fn a_base_url_is_split_in_authority_and_path() {
        assert_eq!(split("http://h:1/event-streaming"), ("h:1", "/event-streaming"));
        assert_eq!(split("http://h:1"), ("h:1", ""));
    }
}
