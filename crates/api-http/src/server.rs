//! Accepts connections and serves each until it ends, is given up, or the server stops.

use crate::{
    HttpConfig, Services,
    connection::{self, Peer},
    router::Router,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a connection that answers nothing may take to end once the server is told to stop: the last
/// bytes of an answer may still be on their way.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait after accepting failed, as it does when there are no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

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
    let router = Arc::new(Router::new(services, config, shutdown.clone()));
    let config = router.config();
    let places = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            // Nobody closes it, so that this waits for a place and nothing else.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // A token of its own: it is looked at often, and its lock is shared with nobody.
        let (router, stop) = (router.clone(), shutdown.child_token());
        connections.spawn(async move {
            serve_connection(stream, &router, &stop).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn serve_connection(stream: TcpStream, router: &Arc<Router>, stop: &CancellationToken) {
    // An answer is written at once and as a whole: there is nothing to wait for. Where it cannot be said
    // the answers are slower, not wrong.
    let _ = stream.set_nodelay(true);
    let config = router.config();
    let (socket, peer) = connection::split(stream);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move { Ok::<_, Infallible>(router.handle(request, peer).await) }
    });
    let serving = http1::Builder::new()
        // A client may say that it is done before it reads its answer.
        .half_close(true)
        .max_headers(config.headers_max)
        .max_header_size(config.header_bytes_max)
        // Heads are timed by the connection's own clock, which needs no timer a request.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    let mut look = interval(connection::look_interval(config));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = stop.cancelled() => break,
            _ = look.tick() => {
                if peer.is_overdue(config) {
                    tracing::debug!("a connection was given up");
                    return;
                }
            }
        }
    }
    serving.as_mut().graceful_shutdown();
    // One that answers a request may do so; one that has sent half a head has nothing to lose.
    tokio::select! {
        biased;
        _ = &mut serving => {}
        () = unused(&peer) => {}
        () = sleep(config.drain_timeout) => tracing::warn!("a request was not answered in time and is cut off"),
    }
}

/// Resolves when no request is answered, and nothing of an answer has left for a moment.
async fn unused(peer: &Peer) {
    while !peer.is_still(CLOSE_WITHIN) {
        sleep(CLOSE_WITHIN / 4).await;
    }
}
