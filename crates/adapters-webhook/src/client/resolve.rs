//! Names to addresses.

use async_trait::async_trait;
use std::{
    fmt::Debug,
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Looks names up.
#[async_trait]
pub(super) trait Resolve: Debug + Send + Sync + 'static {
    /// The addresses of a name, those to be tried first at the front.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The most lookups at once. A lookup takes a thread, for as long as the name server makes it wait, also
/// when nobody waits for it any more.
const LOOKUPS_MAX: usize = 32;

/// The system's way to look names up.
#[derive(Debug)]
pub(super) struct System {
    lookups: Arc<Semaphore>,
}

impl System {
    pub(super) fn new() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let lookup = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        let looking = tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), 0).to_socket_addrs();
            drop(lookup);
            found.map(|addresses| addresses.map(|address| address.ip()).collect())
        });
        looking.await.map_err(io::Error::other)?
    }
}
