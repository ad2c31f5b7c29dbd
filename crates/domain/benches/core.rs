//! What one event costs the delivery core: read, taken, delivered, acknowledged, by how many keys there are
//! and over how many partitions. All cases take turns in one run; figures are medians of rounds.
//!
//! `cargo bench -p event-streaming-domain --bench core [-- --rounds N]`
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time, prints, and ends where something cannot be done"
)]

use domain::delivery::{
    CoreConfig, Decision, Incoming, Now, Ordering, PartitionCore, Status, Taken, backoff::Backoff,
};
use ports::{Monotonic, Record, StoredRecord, Timestamp};
use std::{
    collections::VecDeque,
    hint::black_box,
    time::{Duration, Instant},
};

const KEYS: [u64; 3] = [1, 100, 10_000];
const PARTITIONS: [usize; 3] = [1, 16, 100];
/// Events of one case in one round.
const EVENTS: u64 = 200_000;
/// Events of one fetch, and of one pull.
const FETCH: u64 = 500;
const TAKE: usize = 100;
/// The most that an event may cost at many keys, in costs at one.
const TARGET: f64 = 1.3;

fn main() {
    let rounds = rounds();
    let mut figures = vec![Vec::new(); KEYS.len() * PARTITIONS.len()];
    for _ in 0..rounds {
        for (case, figures) in figures.iter_mut().enumerate() {
            let (keys, partitions) = (KEYS[case % KEYS.len()], PARTITIONS[case / KEYS.len()]);
            figures.push(round(keys, partitions));
        }
    }
    let median = |case: usize| {
        let mut of: Vec<f64> = figures[case].clone();
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    println!("ns an event | {} keys", KEYS.map(|keys| keys.to_string()).join(" | "));
    let mut worst: f64 = 0.0;
    for (row, partitions) in PARTITIONS.iter().enumerate() {
        let of: Vec<f64> = (0..KEYS.len()).map(|column| median(row * KEYS.len() + column)).collect();
        worst = of.iter().map(|figure| figure / of[0]).fold(worst, f64::max);
        let shown: Vec<String> = of.iter().map(|figure| format!("{figure:.0}")).collect();
        println!("{partitions} partitions | {}", shown.join(" | "));
    }
    let word = if worst <= TARGET { "met" } else { "MISSED" };
    println!("target: many keys cost ≤ {TARGET} × one key: {worst:.2}, {word}");
}

fn rounds() -> usize {
    let mut given = std::env::args().skip_while(|argument| argument != "--rounds").skip(1);
    given.next().and_then(|number| number.parse().ok()).unwrap_or(7)
}

/// Nanoseconds an event.
fn round(keys: u64, partitions: usize) -> f64 {
    let each = EVENTS / partitions as u64;
    let now = Now { steady: Monotonic(Duration::from_secs(1)), wall: Timestamp(1) };
    let mut cores: Vec<_> =
        (0..partitions).map(|number| PartitionCore::new(config(), number as u32 + 1, 0, 7)).collect();
    // Made before the clock starts: reading is the log's.
    let mut fetches: Vec<_> = (0..partitions)
        .map(|_| {
            let from = (0..each).step_by(FETCH as usize);
            let fetch =
                |from: u64| (from..(from + FETCH).min(each)).map(|offset| event(offset, keys)).collect();
            from.map(fetch).collect::<VecDeque<Vec<Incoming>>>()
        })
        .collect();
    let mut taken: Vec<Taken> = Vec::with_capacity(TAKE);
    let mut leases = Vec::with_capacity(TAKE);
    let mut effects = Vec::new();
    let begin = Instant::now();
    let mut done = 0;
    while done < each * partitions as u64 {
        for (core, fetches) in cores.iter_mut().zip(&mut fetches) {
            if core.room().0 >= FETCH as usize
                && let Some(events) = fetches.pop_front()
            {
                let next = events.last().map_or(0, |event| event.record.offset + 1);
                core.fetched(now, events, next);
            }
            core.take(TAKE, usize::MAX, usize::MAX, false, &mut taken);
            for taken in taken.drain(..) {
                let delivery = core.deliver(now, taken.ticket, None, false).expect("it is reserved");
                leases.push(delivery.lease);
                black_box(&delivery);
            }
            for lease in leases.drain(..) {
                assert_eq!(core.decide(now, lease, Decision::Ack), Some(Status::Ok));
                done += 1;
            }
            core.take_effects(&mut effects);
            black_box(core.committable());
        }
    }
    let took = begin.elapsed();
    assert!(cores.iter().all(|core| core.committable() == each), "everything is done");
    took.as_nanos() as f64 / (each * partitions as u64) as f64
}

fn event(offset: u64, keys: u64) -> Incoming {
    let record = StoredRecord { offset, record: Record::default() };
    // Keys come in no order; equal ones are as far from each other as they can be.
    let key = Some(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys);
    Incoming { record, key, attempts: 0, retried: None, not_before: None, passed_over: false }
}

fn config() -> CoreConfig {
    CoreConfig {
        ordering: Ordering::Key,
        ack_timeout: Duration::from_secs(30),
        run_max: usize::MAX,
        claims: false,
        deliveries_max: Some(4),
        backoff: Backoff {
            initial: Duration::from_secs(5),
            max: Duration::from_secs(300),
            multiplier: 2.0,
            full_jitter: true,
        },
        retry_elsewhere: false,
        buffer_events_max: 2000,
        buffer_bytes_max: 16 << 20,
        held_events_max: 10_000,
        held_bytes_max: 16 << 20,
    }
}
