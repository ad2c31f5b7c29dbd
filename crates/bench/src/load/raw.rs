//! The producer by itself.

use crate::{
    Outcome,
    events::events,
    measure::{Tally, Window},
    producer::{Batch, Load, Producer, Waiting, refused, send},
};
use std::sync::Arc;
use tokio::{task::JoinSet, time::Instant};

/// Records on their way at full rate.
const IN_FLIGHT: usize = 10_000;

/// As fast as it goes, from one thread.
pub(crate) async fn flood(producer: Producer, topic: &str, window: Window) -> Outcome<Tally> {
    let topic = topic.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let events = events();
        let load = Load::of_this_thread(window, false, IN_FLIGHT / 2);
        for event in events.iter().cycle() {
            let now = Instant::now();
            if now >= window.end {
                break;
            }
            // The report that leaves half of them wakes this thread; it has not come yet, or its wake-up
            // is kept until we park.
            while load.in_flight() >= IN_FLIGHT {
                std::thread::park();
            }
            load.send(&producer, &topic, event, now)?;
        }
        load.finish(&producer)
    });
    run.await.map_err(|e| e.to_string())?
}

/// So many that each send the next record when the last was reported.
pub(crate) async fn closed(
    producer: &Producer,
    topic: &str,
    in_flight: usize,
    window: Window,
) -> Outcome<Tally> {
    let events = Arc::new(events());
    let mut tasks = JoinSet::new();
    for number in 0..in_flight {
        let (producer, topic, events) = (producer.clone(), topic.to_owned(), events.clone());
        tasks.spawn(async move {
            let mut tally = Tally::new();
            for event in events.iter().cycle().skip(number * events.len() / in_flight) {
                let begin = Instant::now();
                if begin >= window.end {
                    break;
                }
                let (batch, reported) = Batch::of(1);
                let waiting = Box::new(Waiting::Batch(batch, 0));
                send(&producer, &topic, &event.key, event.value.as_bytes(), waiting)
                    .map_err(|(error, _)| refused(&error))?;
                let places = reported.await.map_err(|e| e.to_string())?;
                places[0].as_ref().map_err(refused)?;
                tally.acknowledged(&window, 1, begin, Instant::now());
            }
            Ok::<_, String>(tally)
        });
    }
    let mut all = Tally::new();
    while let Some(tally) = tasks.join_next().await {
        all.add(&tally.map_err(|e| e.to_string())??);
    }
    Ok(all)
}
