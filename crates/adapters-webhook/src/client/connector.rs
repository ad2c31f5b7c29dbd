//! Connections, to checked addresses alone.

use super::{guard::why_not_public, resolve::Resolve};
use crate::allow::AllowList;
use http::Uri;
use hyper_util::rt::TokioIo;
use ports::BoxError;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time};
use tower::Service;

/// How long an address may take before the next is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection. Addresses that a name has within a network are not told.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// What the name resolves to must not be reached; the reason is that of the first address.
    Denied(&'static str),
    /// The name has no address, or could not be looked up.
    Name(io::Error),
    /// No address took the connection.
    Connect(io::Error),
    /// It took too long.
    Late(Duration),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(why) => write!(f, "its address is {why}"),
            Self::Name(error) => write!(f, "its name could not be resolved: {error}"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Late(after) => write!(f, "not within {after:?}"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Opens TCP connections to addresses that may be reached.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    allow: Arc<AllowList>,
    resolver: Arc<dyn Resolve>,
}

impl Guarded {
    pub(super) fn new(allow: Arc<AllowList>, resolver: Arc<dyn Resolve>) -> Self {
        Self { allow, resolver }
    }

    async fn connect(self, to: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let host = to.host().ok_or("the address has no host")?;
        let port =
            to.port_u16().unwrap_or(if to.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 });
        let addresses = self.addresses(host, port).await?;
        let stream = first_of(addresses).await.map_err(ConnectError::Connect)?;
        // Without it small requests wait for acknowledgements; a failure costs no more than that.
        let _ = stream.set_nodelay(true);
        Ok(TokioIo::new(stream))
    }

    /// The addresses that may be connected to.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let found = match bare.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.resolve(host).await.map_err(ConnectError::Name)?,
        };
        let mut denied = None;
        let mut addresses = Vec::with_capacity(found.len().min(ADDRESSES_MAX));
        for address in found {
            match why_denied(&self.allow, host, address, port) {
                None if addresses.len() < ADDRESSES_MAX => addresses.push(SocketAddr::new(address, port)),
                None => {}
                Some(why) => _ = denied.get_or_insert(why),
            }
        }
        match denied {
            Some(why) if addresses.is_empty() => Err(ConnectError::Denied(why)),
            _ => Ok(addresses),
        }
    }
}

/// Why an address that a host led to must not be reached.
pub(super) fn why_denied(allow: &AllowList, host: &str, address: IpAddr, port: u16) -> Option<&'static str> {
    let why = why_not_public(address)?;
    let is_allowed = allow.has_address(address, port) || allow.has_host(host, port);
    (!is_allowed).then_some(why)
}

/// The first connection that comes about. Each address has a head start before the next.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    // Dropping it ends the attempts that are left.
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

impl Service<Uri> for Guarded {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

/// Gives a connector so much time, TLS included.
#[derive(Clone, Debug)]
pub(super) struct Timed<S> {
    pub(super) inner: S,
    pub(super) timeout: Duration,
}

impl<S> Service<Uri> for Timed<S>
where
    S: Service<Uri, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, timeout) = (self.inner.call(to), self.timeout);
        Box::pin(async move {
            time::timeout(timeout, connecting).await.map_err(|_late| ConnectError::Late(timeout))?
        })
    }
}
