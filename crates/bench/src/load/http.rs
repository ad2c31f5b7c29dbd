//! Connections that each send the next request when the last was answered.

use super::confirm;
use crate::{
    Outcome,
    http::Connection,
    measure::{Tally, Window},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::{task::JoinSet, time::Instant};

/// Sends `requests` of `batch` events each over so many connections until the window ends.
pub(crate) async fn closed(
    base: &str,
    requests: Vec<Bytes>,
    batch: usize,
    connections: usize,
    window: Window,
) -> Outcome<Tally> {
    let requests = Arc::new(requests);
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let connection = Connection::open(base).await?;
        // Each begins elsewhere, so that keys do not go in step.
        let first = number * requests.len() / connections;
        tasks.spawn(one(connection, requests.clone(), first, batch, window));
    }
    let mut all = Tally::new();
    while let Some(tally) = tasks.join_next().await {
        all.add(&tally.map_err(|e| e.to_string())??);
    }
    Ok(all)
}

async fn one(
    mut connection: Connection,
    requests: Arc<Vec<Bytes>>,
    first: usize,
    batch: usize,
    window: Window,
) -> Outcome<Tally> {
    let mut tally = Tally::new();
    for request in requests.iter().cycle().skip(first) {
        let begin = Instant::now();
        if begin >= window.end {
            break;
        }
        let (status, body) = connection.exchange(request).await?;
        let now = Instant::now();
        confirm(status, body, batch, tally.all == 0)?;
        tally.acknowledged(&window, batch as u64, begin, now);
    }
    Ok(tally)
}
