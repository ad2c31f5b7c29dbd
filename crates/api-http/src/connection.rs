//! One connection: the socket, what is known of its client, and when it is given up.
//!
//! hyper reads no ahead while a request is being answered, and knows no limit to how slowly an answer is
//! read. Both are watched here, at the cost of a lock that nobody contends: everything happens in the
//! connection's own task.
//!
//! Invariants:
//! 1. The phase is `Handling` from a request's head to its answer's, whatever the handler does.
//! 2. Outside of `Handling`, `since` moves only when bytes of an answer leave or a head begins; so a
//!    client that does neither for long is told from one that works.

use crate::HttpConfig;
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing, or sending the rest of an answer.
    Idle,
    /// Receiving a head.
    Head,
    /// Making an answer.
    Handling,
}

#[derive(Debug)]
struct State {
    stream: TcpStream,
    phase: Phase,
    since: Instant,
}

/// The socket of a connection, for hyper.
#[derive(Debug)]
pub(crate) struct Socket(Arc<Mutex<State>>);

/// The client at the other end of a connection, as far as a handler cares.
#[derive(Clone, Debug, Default)]
pub struct Peer(Option<Arc<Mutex<State>>>);

/// The two sides of a connection.
pub(crate) fn split(stream: TcpStream) -> (Socket, Peer) {
    let state = Arc::new(Mutex::new(State { stream, phase: Phase::Idle, since: Instant::now() }));
    (Socket(state.clone()), Peer(Some(state)))
}

impl Peer {
    /// No connection: a client that never goes.
    pub fn none() -> Self {
        Self(None)
    }

    /// Resolves when the client has closed its side while its request is being answered.
    ///
    /// A client that has sent more already (pipelining) cannot be seen to go.
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub(crate) async fn gone(&self) {
        let Some(state) = &self.0 else { return std::future::pending().await };
        poll_fn(|cx| {
            let mut byte = [0];
            match state.lock().stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }

    /// A request's head has come.
    pub(crate) fn begin(&self) {
        if let Some(state) = &self.0 {
            state.lock().phase = Phase::Handling;
        }
    }

    /// An answer begins to leave.
    pub(crate) fn end(&self) {
        if let Some(state) = &self.0 {
            let mut state = state.lock();
            state.phase = Phase::Idle;
            state.since = Instant::now();
        }
    }

    /// Whether no answer has been made, nor a part of one sent, for this long.
    pub(crate) fn is_still(&self, long: Duration) -> bool {
        let (phase, since) = self.phase();
        phase != Phase::Handling && since.elapsed() >= long
    }

    /// Whether the connection has been of no use for longer than it may.
    pub(crate) fn is_overdue(&self, config: &HttpConfig) -> bool {
        let (phase, since) = self.phase();
        let most = match phase {
            Phase::Handling => return false,
            Phase::Idle => config.idle_timeout,
            Phase::Head => config.header_timeout,
        };
        since.elapsed() >= most
    }

    fn phase(&self) -> (Phase, Instant) {
        self.0.as_ref().map_or_else(
            || (Phase::Handling, Instant::now()),
            |state| {
                let state = state.lock();
                (state.phase, state.since)
            },
        )
    }
}

/// How often a connection is looked at.
pub(crate) fn look_interval(config: &HttpConfig) -> Duration {
    config.header_timeout.min(config.idle_timeout).max(Duration::from_millis(10))
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let before = buf.filled().len();
        ready!(Pin::new(&mut state.stream).poll_read(cx, buf))?;
        if state.phase == Phase::Idle && buf.filled().len() > before {
            state.phase = Phase::Head;
            state.since = Instant::now();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        let written = ready!(Pin::new(&mut state.stream).poll_write(cx, buf))?;
        state.since = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        let written = ready!(Pin::new(&mut state.stream).poll_write_vectored(cx, bufs))?;
        state.since = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_shutdown(cx)
    }
}
