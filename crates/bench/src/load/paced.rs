//! An open loop: events are due at fixed times, and what is late is late from when it was due. Threads
//! with blocking sockets, as a runtime's timers are too coarse for what is measured.

use super::confirm;
use crate::{
    Outcome, events, http,
    measure::{Tally, Window},
    producer::{Load, Producer},
};
use bytes::Bytes;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};
use tokio::time::Instant;

/// Connections that the events are spread over; so many can be under way.
const CONNECTIONS: u32 = 64;

/// Single events over HTTP at `rate` a second from now to the window's end.
pub(crate) async fn over_http(base: &str, requests: Vec<Bytes>, rate: u32, window: Window) -> Outcome<Tally> {
    let base = base.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let (base, requests) = (&base, &requests);
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|number| scope.spawn(move || connection(base, requests, number, rate, begin, window)))
                .collect();
            let mut all = Tally::new();
            for thread in threads {
                all.add(&thread.join().map_err(|_| "a connection's thread panicked")??);
            }
            Ok(all)
        })
    });
    run.await.map_err(|e| e.to_string())?
}

/// The same by the producer itself.
pub(crate) async fn raw(producer: Producer, topic: &str, rate: u32, window: Window) -> Outcome<Tally> {
    let topic = topic.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let events = events::events();
        let begin = Instant::now();
        let load = Load::of_this_thread(window, true, 0);
        for (number, event) in (0..).zip(events.iter().cycle()) {
            let due = begin + Duration::from_secs(1) * number / rate;
            if due >= window.end {
                break;
            }
            sleep_until(due);
            load.send(&producer, &topic, event, due)?;
        }
        load.finish(&producer)
    });
    run.await.map_err(|e| e.to_string())?
}

/// Every 64th event, beginning with `number`.
fn connection(
    base: &str,
    requests: &[Bytes],
    number: u32,
    rate: u32,
    begin: Instant,
    window: Window,
) -> Outcome<Tally> {
    let (authority, _) = http::split(base);
    let mut stream = TcpStream::connect(authority).map_err(|e| format!("{authority}: {e}"))?;
    stream.set_nodelay(true).map_err(|e| format!("{authority}: {e}"))?;
    let mut tally = Tally::new();
    let mut read = vec![0; 16 << 10];
    for number in (number..).step_by(CONNECTIONS as usize) {
        let due = begin + Duration::from_secs(1) * number / rate;
        if due >= window.end {
            break;
        }
        sleep_until(due);
        let request = &requests[number as usize % requests.len()];
        let (status, body) = exchange(&mut stream, &mut read, request)?;
        let now = Instant::now();
        confirm(status, body, 1, tally.all == 0)?;
        tally.due(&window, 1, due, now);
    }
    Ok(tally)
}

fn exchange<'a>(stream: &mut TcpStream, read: &'a mut [u8], request: &[u8]) -> Outcome<(u16, &'a [u8])> {
    stream.write_all(request).map_err(|e| format!("the connection broke: {e}"))?;
    let mut filled = 0;
    loop {
        match stream.read(&mut read[filled..]) {
            Ok(0) => return Err("the connection was closed, or an answer is too long".to_owned()),
            Ok(more) => filled += more,
            Err(e) => return Err(format!("the connection broke: {e}")),
        }
        if let Some(answer) = http::parse(&read[..filled])?
            && answer.body.end <= filled
        {
            return Ok((answer.status, &read[answer.body]));
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the pace of a load is real time, to the microsecond")]
fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}
